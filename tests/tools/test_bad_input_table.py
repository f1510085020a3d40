"""The page of bad input is what the code says, a line for each mistake."""

import re

import pytest
from bad_input_place import CASES
from bad_input_table import COMMAND, PAGE, lines, page


@pytest.fixture(scope='module')
def rows():
    return lines()


def test_the_page_of_bad_input_is_what_the_code_says(rows):
    wanted, found = page(rows).splitlines(), PAGE.read_text(encoding='utf-8').splitlines()
    changed = [line for line in wanted if line not in found][:3]
    assert found == wanted, f'{PAGE.name} is not what the code reports; {COMMAND}: {changed}'


def test_each_mistake_is_one_line_that_names_what_was_given(rows):
    assert len(rows) == len(CASES) >= 80
    assert len({line for *_, line in rows}) >= 75
    for _, what, command, line in rows:
        assert re.match(r'(error|skipped|\w+\.py: error)[: ]', line), (what, command, line)
        assert '\n' not in line
        assert not re.search(r'/tmp|Traceback|0x[0-9a-f]{6}', line), line
        assert 20 < len(line) < 420, line
