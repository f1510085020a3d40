"""Checkpoints of two gloo processes: both resume exactly, and both know what was not written."""

import errno
import json
import os
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dist import get_rank
from stoppable import PullThePlug, run

from tresnet_det import files
from tresnet_det.engine import processes
from tresnet_det.errors import InputError

MORE = {
    'launcher': 'pytorch',
    # Otherwise mmengine names a GPU to DDP.
    'cfg': {'model_wrapper_cfg': {'device_ids': None, 'broadcast_buffers': False}},
}


def be_full_for(name):
    def write(path, content, original=files.write_whole):
        if Path(path).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        original(path, content)

    files.write_whole = write


def train_all(folder):
    """Return what this process has seen in each training, as lists."""
    _, whole = run(folder / 'whole', more=MORE)
    run(folder / 'cut', stop=PullThePlug(3), more=MORE)
    _, resumed = run(folder / 'cut', file='iter_3.pth', more=MORE)
    found = dict(
        whole=[x.tolist() for x in whole.seen],
        resumed=[x.tolist() for x in resumed.seen],
        weights=[[p.tolist() for p in model.parameters()] for model in (whole, resumed)],
    )
    be_full_for('epoch_2.pth')
    settings = dict(more=MORE, interval='epoch', validate=True)
    runner, _ = run(folder / 'warn', on_error='warn', **settings)
    found['went on until'] = runner.epoch
    try:
        run(folder / 'raise', **settings)
    except InputError as error:
        found['message'] = str(error)
    be_full_for('best_coco_bbox_mAP_epoch_1.pth')
    runner, _ = run(folder / 'best', on_error='warn', **settings)
    found['best'] = Path(runner.message_hub.get_info('best_ckpt')).name
    return found


def find(folder):
    processes.take_place('pytorch')
    processes.join(Config())
    found = train_all(Path(folder))
    Path(folder, f'{get_rank()}.json').write_text(json.dumps(found))
    processes.leave()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('processes')


@pytest.fixture(scope='module')
def found(folder, start):
    """What each process found."""
    results = start(2, find, str(folder))
    assert [result.code for result in results] == [0, 0], results[0].err + results[1].err
    return [json.loads((folder / f'{rank}.json').read_text()) for rank in (0, 1)]


def test_each_process_goes_on_with_its_own_images_and_random_numbers(found):
    for process in found:
        assert process['resumed'] == process['whole'][3:]
        assert process['weights'][0] == process['weights'][1]
    assert found[0]['whole'] != found[1]['whole']


def test_all_go_on_where_one_could_not_write(found, folder):
    assert [process['went on until'] for process in found] == [3, 3]
    assert Path((folder / 'warn/last_checkpoint').read_text()).name == 'epoch_3.pth'
    assert not (folder / 'warn/epoch_2.pth').exists()


def test_all_stop_with_one_message_where_one_could_not_write(found, folder):
    first, second = (process['message'] for process in found)
    assert first == second
    assert first.startswith(
        f'{folder}/raise/epoch_2.pth cannot be written: No space left on device'
    )


def test_all_forget_a_best_checkpoint_that_could_not_be_written(found, folder):
    assert [process['best'] for process in found] == ['best_coco_bbox_mAP_epoch_2.pth'] * 2
    assert (folder / 'best/best_coco_bbox_mAP_epoch_2.pth').is_file()
