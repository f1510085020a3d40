"""Write bad_input.md from what the code reports: python tests/tools/bad_input_table.py."""

import itertools
import logging
import re
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).resolve().with_name('bad_input.md')
COMMAND = 'python tests/tools/bad_input_table.py'
HEAD = """# What is said of bad input

A mistake in a file or an option is told in one line, with exit status 2: what is wrong, where, and
what to do. Nothing is half-written then. The lines below are what the code reports:
`tests/tools/bad_input_table.py` writes this page from it, and a test holds both together. Paths are
shortened.

`python tools/check_data.py FOLDER` finds all faults of data at once, not just the first. An image
that cannot be predicted is named and skipped, and counted; `--strict` makes it an error.

Nothing that is loaded runs code: no checkpoint (`weights_only=True` everywhere, within MMEngine
too), no `data.yaml`, no archive. A config does, for it is a program; so is the one that a training
leaves in its work directory.
"""
GROUPS = (
    'Configs and options', "Annotations in COCO's format", 'Folders of your own', 'Pascal VOC',
    'YOLO', 'Labels of images', 'Images', 'Checkpoints', 'Other tools',
)  # fmt: skip
TABLE = """
## {}

| what is wrong | where it is met | the line that you see |
|---|---|---|
"""


def lines() -> list[tuple[str, str, str, str]]:
    """Make every mistake; returns its group, what it is, the command, and the line shown."""
    import bad_input_cases  # noqa: F401  (these register their mistakes)
    import bad_input_data  # noqa: F401
    from bad_input_place import CASES, BadPlace

    rows = []
    for group, what, command, meet in sorted(CASES, key=lambda case: GROUPS.index(case[0])):
        with tempfile.TemporaryDirectory() as root:
            line = meet(BadPlace(root))
            for place in (str(Path(root).resolve()), root):
                line = line.replace(f'{place}/', '').replace(place, '.')
        rows.append((group, what, command, line.strip()))
    return rows


def page(rows: list[tuple[str, str, str, str]]) -> str:
    """Return the page as Markdown."""
    parts = [HEAD]
    for group, members in itertools.groupby(rows, key=lambda row: row[0]):
        parts.append(TABLE.format(group))
        parts += [f'| {what} | `{where}` | `{_cell(line)}` |\n' for _, what, where, line in members]
    return ''.join(parts)


def _cell(line: str) -> str:
    """Return a line as code within a table."""
    return re.sub(r'\s+', ' ', line).replace('|', r'\|').replace('`', "'")


if __name__ == '__main__':
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    logging.disable(logging.CRITICAL)
    rows = lines()
    PAGE.write_text(page(rows), encoding='utf-8')
    print(f'{PAGE}: {len(rows)} mistakes')
