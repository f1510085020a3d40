"""Two gloo processes resume exactly, know what was not written, and stop at a NaN together."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from stoppable import EPOCHS, PLAIN, BadGradient, PullThePlug, run
from torch import nn

from tresnet_det.compat import whole_files
from tresnet_det.engine import processes
from tresnet_det.errors import InputError
from tresnet_det.layers import InPlaceABN

MORE = {
    'launcher': 'pytorch',
    # Otherwise mmengine names a GPU to DDP.
    'cfg': {'model_wrapper_cfg': {'device_ids': None, 'broadcast_buffers': False}},
}
# What is not finite in the second process, whose third batch has the images 9 and 11.
CASES = {
    'loss': {},
    'loss without a gradient': {},
    'gradient': {},
    'gradient, accumulated': {'accumulative_counts': 2},
    'loss, shared statistics': {},
    'none': {},
}


def be_full_for(name):
    def write(path, content, original=whole_files.write_whole):
        if Path(path).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        original(path, content)

    whole_files.write_whole = write


class Sample:
    def __init__(self, number):
        self.img_path = f'{number}.jpg'


class Net(BaseModel):
    def __init__(self, case):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.norm = InPlaceABN(4, sync='shared' in case)
        self.head = nn.Linear(4, 2)
        self.case = case

    def forward(self, inputs, data_samples=None, mode='loss'):
        loss = self.head(self.norm(self.stem(torch.stack(inputs))).mean((2, 3))).square().mean()
        more = torch.zeros(())
        if '9.jpg' in [s.img_path for s in data_samples]:
            if self.case.startswith('gradient'):
                loss = BadGradient.apply(loss, 0, float('nan'))
            bad = {'loss': loss * float('nan'), 'loss without a gradient': more + float('inf')}
            more = bad.get(self.case, more)
        return {'loss_cls': loss, 'loss_more': more}


class Watch(Hook):
    """Keep the weights before each iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.weights = [p.tolist() for p in runner.model.parameters()]
        self.iteration = runner.iter


def train_case(case, folder):
    items = [{'inputs': torch.rand(3, 4, 4), 'data_samples': Sample(i)} for i in range(16)]
    if 'shared' in case:
        items[9]['inputs'][0, 0, 0] = float('nan')
    watch, net = Watch(), Net(case)
    found = dict(message=None)
    try:
        run(
            folder / case, train={**EPOCHS, 'max_epochs': 1}, dataset=items, model=net, more=MORE,
            hooks=[{'type': 'StopOnNonFiniteHook'}, watch], batch_size=2,
            optim_wrapper={**PLAIN, **CASES[case]},
            sampler={'type': 'DefaultSampler', 'shuffle': False},
        )  # fmt: skip
    except InputError as error:
        found['message'] = str(error)
    weights = [p.tolist() for p in net.parameters()]
    return found | dict(iteration=watch.iteration, weights=weights, before=watch.weights)


def train_all(folder):
    """Return what this process has seen in each training, as lists."""
    torch.manual_seed(0)
    found = {case: train_case(case, folder) for case in CASES}
    _, whole = run(folder / 'whole', more=MORE)
    run(folder / 'cut', stop=PullThePlug(3), more=MORE)
    _, resumed = run(folder / 'cut', file='iter_3.pth', more=MORE)
    found |= dict(
        whole=[x.tolist() for x in whole.seen],
        resumed=[x.tolist() for x in resumed.seen],
        parameters=[[p.tolist() for p in model.parameters()] for model in (whole, resumed)],
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


def test_each_process_resumes_with_its_own_images_and_random_numbers(found):
    for process in found:
        assert process['resumed'] == process['whole'][3:]
        assert process['parameters'][0] == process['parameters'][1]
    assert found[0]['whole'] != found[1]['whole']


def test_where_one_cannot_write_all_continue_or_stop_with_one_message(found, folder):
    assert [process['went on until'] for process in found] == [3, 3]
    assert Path((folder / 'warn/last_checkpoint').read_text()).name == 'epoch_3.pth'
    assert not (folder / 'warn/epoch_2.pth').exists()
    first, second = (process['message'] for process in found)
    assert first == second
    start = f'{folder}/raise/epoch_2.pth cannot be written: No space left on device'
    assert first.startswith(start)


def test_all_forget_a_best_checkpoint_that_could_not_be_written(found, folder):
    assert [process['best'] for process in found] == ['best_coco_bbox_mAP_epoch_2.pth'] * 2
    assert (folder / 'best/best_coco_bbox_mAP_epoch_2.pth').is_file()


@pytest.mark.parametrize('case', [case for case in CASES if case != 'none'])
def test_all_processes_stop_at_once_and_name_the_images_of_the_bad_batch(case, found):
    first, second = (process[case] for process in found)
    assert first['message'] == second['message']
    assert f'The {case.split()[0].strip(",")} is ' in first['message']
    assert ' at iteration 3 ' in first['message']
    assert 'Images (rank 1): 9.jpg, 11.jpg. ' in first['message']
    assert '(rank 0)' not in first['message']
    assert first['iteration'] == second['iteration'] == 2
    assert first['weights'] == second['weights']
    if 'without' not in case:  # there the gradients are finite
        assert first['weights'] == first['before']
    if 'shared' in case:
        assert 'Not finite before the model: 9.jpg. ' in first['message']


def test_several_processes_end_a_finite_training(found):
    first, second = (process['none'] for process in found)
    assert first['message'] is None
    assert first['iteration'] == second['iteration'] == 3
    assert first['weights'] == second['weights'] != first['before']
