"""A work directory whose record of the last checkpoint is anything: one line, at once."""

import pytest

from tresnet_det.engine.work_dir import find_checkpoint
from tresnet_det.errors import InputError, MissingFileError


@pytest.mark.parametrize('text', ['epoch\n1.pth', 'a\0b', '../../x', 'x' * 5000, 'a\x1b[1m'])
def test_a_record_of_something_else_is_one_line(text, tmp_path):
    (tmp_path / 'last_checkpoint').write_text(text)
    with pytest.raises(InputError, match='which last_checkpoint names, is') as caught:
        find_checkpoint(tmp_path)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_of_a_record_of_a_gigabyte_the_start_is_read(tmp_path):
    with (tmp_path / 'last_checkpoint').open('wb') as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match='which last_checkpoint names, is not found'):
        find_checkpoint(tmp_path)


def test_a_link_to_itself_is_no_checkpoint(tmp_path):
    (tmp_path / 'a.pth').symlink_to('a.pth')
    with pytest.raises(MissingFileError, match=r'no checkpoint at .*a\.pth: name a file'):
        find_checkpoint(tmp_path / 'a.pth')
