"""StopOnNonFiniteHook in two gloo processes."""

import copy
import json
import os
import shlex
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from planted_steps import NAN, SGD, BadGradient
from torch import distributed as dist
from torch import multiprocessing as mp
from torch import nn

import tresnet_det.engine  # noqa: F401  (registers the hook)
from tresnet_det.errors import InputError
from tresnet_det.layers import InPlaceABN

PROCESSES = 2
# Images 0 to 15, two in each process an iteration: process 1 has 10 and 11 in the third.
CASES = {
    'loss': {},
    'gradient': {},
    'loss, clipped': {'clip_grad': {'max_norm': 1.0}},
    'gradient, accumulated': {'accumulative_counts': 2},
    'loss, accumulated': {'accumulative_counts': 2},
    'loss, shared statistics': {},
    'box': {},
    'box, accumulated': {'accumulative_counts': 2},
    'loss, skipped': {},
    'gradient, skipped': {},
    'none': {},
}
ITERATION = 3
BAD = 10


def sample(case, number):
    is_bad = case.startswith('box') and number == BAD
    boxes = torch.tensor([[0.0, 1.0, 2.0, NAN if is_bad else 3.0]])
    made = DetDataSample(metainfo={'img_path': f'{number}.jpg'})
    made.gt_instances = InstanceData(bboxes=boxes)
    return made


class Model(BaseModel):
    def __init__(self, case):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.norm = InPlaceABN(4, sync='shared' in case)
        self.head = nn.Linear(4, 2)
        self.case = case

    def forward(self, inputs, data_samples=None, mode='loss'):
        x = self.head(self.norm(self.stem(torch.stack(inputs))).mean((2, 3)))
        loss = x.square().mean()
        if f'{BAD}.jpg' in [s.img_path for s in data_samples]:
            if 'loss, shared' in self.case:
                assert not torch.stack(inputs).isfinite().all()
            elif 'loss' in self.case:
                loss = loss * NAN
            elif 'gradient' in self.case:
                loss = BadGradient.apply(loss, NAN)
        return {'loss_cls': loss}


def items(case):
    torch.manual_seed(1)
    made = [
        {'inputs': torch.rand(3, 4, 4), 'data_samples': sample(case, number)}
        for number in range(16)
    ]
    if 'shared' in case:
        made[BAD]['inputs'][0, 0, 0] = NAN
    return made


def train(case, folder):
    torch.manual_seed(0)
    runner = Runner(
        model=Model(case),
        work_dir=f'{folder}/{case}',
        train_dataloader={
            'batch_size': 2,
            'num_workers': 0,
            'sampler': {'type': 'Rows'},
            'collate_fn': {'type': 'pseudo_collate'},
            'dataset': items(case),
        },
        train_cfg={'by_epoch': True, 'max_epochs': 1},
        optim_wrapper={'optimizer': SGD, **copy.deepcopy(CASES[case])},
        custom_hooks=[{'type': 'StopOnNonFiniteHook', 'max_skips': 1 if 'skip' in case else 0}],
        launcher='pytorch',
        # Otherwise mmengine names a GPU to DDP.
        cfg={'model_wrapper_cfg': {'device_ids': None, 'broadcast_buffers': False}},
        default_scope='mmdet',
        experiment_name=case,
    )
    found = {}
    try:
        runner.train()
    except InputError as error:
        found['message'] = str(error)
    found['iterations'] = runner.iter
    found['weights'] = [p.tolist() for p in runner.model.parameters()]
    found['finite'] = all(v.isfinite().all().item() for v in runner.model.state_dict().values())
    return found


def run_process(rank, folder):
    from mmengine.registry import DATA_SAMPLERS

    @DATA_SAMPLERS.register_module()
    class Rows(torch.utils.data.Sampler):
        """Batches in turns: 0 and 1 here, 2 and 3 there."""

        def __init__(self, dataset, seed=None, **kwargs):
            self.order = [i for i in range(len(dataset)) if i // 2 % PROCESSES == rank]

        def __iter__(self):
            return iter(self.order)

        def __len__(self):
            return len(self.order)

    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(PROCESSES), LOCAL_RANK=str(rank))
    store = dist.FileStore(f'{folder}/store', PROCESSES)
    wait = timedelta(seconds=60)  # for another process: a test that hangs is one that fails
    dist.init_process_group('gloo', timeout=wait, store=store, rank=rank, world_size=PROCESSES)
    found = {case: train(case, folder) for case in CASES}
    Path(folder, f'{rank}.json').write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('processes')


@pytest.fixture(scope='module')
def found(folder):
    """What each process found, by case."""
    mp.spawn(run_process, (str(folder),), nprocs=PROCESSES)
    return [json.loads((folder / f'{rank}.json').read_text()) for rank in range(PROCESSES)]


STOPS = [case for case in CASES if case != 'none' and 'skipped' not in case]


@pytest.mark.parametrize('case', STOPS)
def test_all_stop_at_one_iteration_and_name_the_files_of_the_one_with_the_bad_batch(case, found):
    first, second = (process[case] for process in found)
    what = {'loss': 'The loss is nan', 'box': 'The batch is not finite'}
    what = what.get(case.split(',')[0], 'The gradient is not finite')
    assert first['message'] == second['message']
    assert f'{what} at iteration {ITERATION} ' in first['message']
    files = f'on the files {BAD}.jpg, {BAD + 1}.jpg (of process 1);'
    assert files in first['message']
    expected = ITERATION - 1 + ('accumulated' in case)  # an update is of two iterations then
    assert first['iterations'] == second['iterations'] == expected
    assert first['weights'] == second['weights']
    assert first['finite']
    assert second['finite']


@pytest.mark.parametrize('case', STOPS)
def test_the_process_with_the_bad_batch_keeps_it(case, found, folder):
    kept = list((folder / case / 'non_finite').iterdir())
    assert [path.name for path in kept] == [f'iter_{ITERATION}_process_1.pth']
    step = torch.load(kept[0], weights_only=True)
    assert step['files'] == [f'{BAD}.jpg', f'{BAD + 1}.jpg']
    assert (
        f'python tools/replay.py {shlex.quote(str(kept[0]))} runs it again'
        in found[0][case]['message']
    )


def test_shared_statistics_do_not_hide_whose_image_it_was(found):
    message = found[0]['loss, shared statistics']['message']
    assert f'not finite before the model saw it: inputs of {BAD}.jpg;' in message


@pytest.mark.parametrize('case', ['loss, skipped', 'gradient, skipped', 'none'])
def test_all_go_on_alike_after_a_skip(case, found):
    first, second = (process[case] for process in found)
    assert 'message' not in first
    assert first['iterations'] == second['iterations'] == 4
    assert first['weights'] == second['weights']
    assert first['finite']
    assert second['finite']


def test_a_skip_leaves_the_weights_as_without_that_step(found):
    assert found[0]['loss, skipped']['weights'] == found[0]['gradient, skipped']['weights']
    assert found[0]['loss, skipped']['weights'] != found[0]['none']['weights']
