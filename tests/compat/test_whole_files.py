"""What mmengine writes is whole, whatever ends the run that writes it."""

import errno
import os

import mmcv
import mmengine
import numpy as np
import pytest
from mmengine.config import Config

from tresnet_det.files import UNFINISHED


@pytest.mark.parametrize('suffix', ['.py', '.json'])
def test_a_config_is_written_as_mmengine_writes_it(tmp_path, suffix):
    cfg = Config(dict(model=dict(depths=(3, 4)), name='é\n'))
    path = tmp_path / f'config{suffix}'
    cfg.dump(path)
    assert Config.fromfile(path)._cfg_dict == cfg._cfg_dict or suffix == '.json'
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_config_whose_successor_is_not_formatted_stays(tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    path = tmp_path / 'config.py'
    path.write_text('old = True')
    monkeypatch.setattr('mmengine.config.config.FormatCode', interrupt)
    with pytest.raises(SyntaxError):  # mmengine makes it of any exception
        Config(dict(new=True)).dump(path)
    assert path.read_text() == 'old = True'
    assert not list(path.parent.glob('*' + UNFINISHED))


@pytest.mark.parametrize(
    ('name', 'write'),
    [
        ('image.png', lambda path: mmcv.imwrite(np.zeros((4, 4, 3), np.uint8), path)),
        ('results.pkl', lambda path: mmengine.dump([1], path)),
        ('results.json', lambda path: mmengine.dump([1], path)),
    ],
)
def test_images_and_results_are_there_whole_or_not_at_all(tmp_path, monkeypatch, name, write):
    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = str(tmp_path / 'new' / name)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', fail)
        with pytest.raises(OSError, match='No space left') as caught:
            write(path)
    assert (caught.value.filename, os.listdir(tmp_path / 'new')) == (path, [])
    write(path)
    assert os.listdir(tmp_path / 'new') == [name]
