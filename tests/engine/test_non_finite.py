"""StopOnNonFiniteHook in a real runner, on a toy model whose third iteration goes wrong."""

import copy
import json
import os
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner
from torch import distributed as dist
from torch import multiprocessing as mp
from torch import nn

import tresnet_det.engine  # noqa: F401  (registers the hook)
from tresnet_det.errors import InputError
from tresnet_det.layers import InPlaceABN

NAN, INF = float('nan'), float('inf')
STOP = {'type': 'StopOnNonFiniteHook'}
SGD = {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9}
CLIP = {'max_norm': 1.0}
WRAPPERS = {
    'plain': {'optimizer': SGD},
    'clipped by norm': {'optimizer': SGD, 'clip_grad': CLIP},
    'clipped by value': {'optimizer': SGD, 'clip_grad': {'type': 'value', 'clip_value': 0.1}},
    'fused': {'optimizer': {'type': 'Adam', 'lr': 0.01, 'fused': True}},
}
ALL_WRAPPERS = pytest.mark.parametrize('wrapper', WRAPPERS.values(), ids=list(WRAPPERS))
EVERY = {'type': 'CheckpointHook', 'interval': 1, 'by_epoch': False}


class BadGradient(torch.autograd.Function):
    """The identity, whose gradient is infinite where it is larger than ``limit``."""

    @staticmethod
    def forward(ctx, x, limit, value):
        ctx.limit, ctx.value = limit, value
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.where(grad.abs() > ctx.limit, ctx.value, grad), None, None


@pytest.fixture
def planted(toy):
    """Make a toy model with ``change(model, losses, inputs)`` at the images that ``at`` names."""

    def make(change, at='img_4.jpg'):
        class Model(toy):
            def forward(self, inputs, data_samples=None, mode='loss'):
                losses = super().forward(inputs, data_samples, mode)
                if mode == 'loss' and (not at or at in [s.img_path for s in data_samples]):
                    change(self, losses, torch.stack(inputs))
                return losses

        return Model()

    return make


def bad_gradient(model, losses, inputs, limit=0.0, value=INF):
    losses['loss_cls'] = BadGradient.apply(losses['loss_cls'], limit, value)


def stop(runner):
    with pytest.raises(InputError) as caught:
        runner.train()
    message = str(caught.value)
    assert '\n' not in message
    return message


def finite(runner):
    return all(value.isfinite().all() for value in runner.model.parameters())


@ALL_WRAPPERS
def test_a_nan_loss_stops_before_the_step_and_names_images_losses_and_layer(
    build, wrapper, tmp_path
):
    runner = build([STOP, EVERY], bad=5, optim_wrapper=copy.deepcopy(wrapper))
    message = stop(runner)
    assert message.startswith(
        'The loss is nan at iteration 3 (loss = nan, loss_cls = nan, loss_box = 0'
    )
    assert 'Images: img_4.jpg, img_5.jpg. Not finite before the model: img_5.jpg. ' in message
    assert 'output: data_preprocessor (BaseDataPreprocessor), whose input' in message
    assert 'gradient: head.' in message
    assert message.endswith('repeat the step from the last checkpoint: the training command with '
                            '--resume')  # fmt: skip
    saved = {path.name for path in (tmp_path / 'work').glob('iter_*.pth')}
    assert saved == {'iter_1.pth', 'iter_2.pth'}
    before = torch.load(tmp_path / 'work' / 'iter_2.pth', weights_only=True)['state_dict']
    for name, value in runner.model.named_parameters():
        assert torch.equal(value, before[name])


@ALL_WRAPPERS
@pytest.mark.parametrize('value', [NAN, INF])
def test_a_bad_gradient_of_a_finite_loss_stops_before_the_step(build, planted, wrapper, value):
    if value == INF and wrapper is WRAPPERS['clipped by value']:
        return  # which makes it a finite one
    model = planted(partial(bad_gradient, value=value))
    runner = build([STOP], model, optim_wrapper=copy.deepcopy(wrapper))
    message = stop(runner)
    assert 'The gradient is not finite at iteration 3 (loss = ' in message
    assert 'Images: img_4.jpg, img_5.jpg. First parameter with a non-finite gradient: head.' in (
        message
    )
    assert finite(runner)


def divide_by_zero(model, losses, inputs):
    x = model.stem(inputs)
    losses['loss_box'] = model.body[7](x - x.max()).mean()


def root_of_zero(model, losses, inputs):
    losses['loss_box'] = (0 * model.stem.bias).sum().sqrt()


def constant(model, losses, inputs):
    losses['loss_box'] = torch.tensor(INF)


def large_parts(model, losses, inputs):
    for name in losses:
        losses[name] = model.head.bias.sum() * 0 + 3e38


class Reciprocal(nn.Module):
    def forward(self, x):
        return 1 / x


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (divide_by_zero, ['loss_box = inf)', 'output: body.7 (Reciprocal).']),
        (root_of_zero, ['The gradient is not finite', 'gradient: stem.bias.']),
        (constant, ['The loss is inf at iteration 3 (loss = inf, ', 'loss_box = inf)']),
        (
            large_parts,
            ['The loss is inf at iteration 3 (loss = inf, loss_cls = 3e+38, loss_box = 3e+38)'],
        ),
    ],
)
def test_the_place_where_it_began_is_named(build, planted, change, expected):
    model = planted(change)
    model.body[7] = Reciprocal()
    message = stop(build([STOP], model))
    assert all(part in message for part in expected), message


@pytest.mark.parametrize('bad', [4, 6])  # in the first and in the second batch of an update
@pytest.mark.parametrize('what', ['loss', 'gradient'])
def test_accumulated_gradients_are_checked_at_each_iteration(build, planted, bad, what):
    def spoil(model, losses, inputs):
        bad_gradient(model, losses, inputs)
        if what == 'loss':
            losses['loss_cls'] = losses['loss_cls'] * NAN

    wrapper = {'optimizer': SGD, 'accumulative_counts': 2}
    runner = build([STOP], planted(spoil, f'img_{bad}.jpg'), optim_wrapper=wrapper)
    message = stop(runner)
    assert f'{what} is n' in message
    assert f'at iteration {bad // 2 + 1} ' in message
    assert f'Images: img_{bad}.jpg, img_{bad + 1}.jpg. ' in message
    assert finite(runner)


def test_it_stops_in_a_loop_over_iterations_and_names_the_command(build, tmp_path):
    loop = {'type': 'IterBasedTrainLoop', 'max_iters': 4, 'val_interval': 2}
    runner = build([STOP], bad=5, train_cfg=loop, log_processor={'by_epoch': False})
    (tmp_path / 'work' / 'own.py').write_text('')  # as the runner keeps the config of a file
    runner.cfg._filename = 'configs/own.py'
    runner.cfg.__dict__['_filename'] = 'configs/own.py'
    message = stop(runner)
    assert 'nan at iteration 3 (loss = nan, ' in message
    work = tmp_path / 'work'
    assert f'python tools/train.py {work / "own.py"} --work-dir {work} --resume' in message


@pytest.mark.slow
def test_a_compiled_step_is_checked_too(build):
    runner = build([STOP], bad=5, val=False, cfg={'compile': {'backend': 'eager'}})
    assert 'The loss is nan at iteration 3 (loss = nan, ' in stop(runner)
    assert finite(runner)


def test_a_layer_that_draws_random_numbers_draws_the_same_in_the_second_run(build, toy):
    class Model(toy):
        drawn = []

        def forward(self, inputs, data_samples=None, mode='loss'):
            losses = super().forward(inputs, data_samples, mode)
            self.drawn.append(torch.rand(1).item())
            bad = 'img_4.jpg' in [s.img_path for s in data_samples]
            return {k: v * (NAN if bad else 1) for k, v in losses.items()}

    stop(build([STOP], Model(), val=False))
    assert Model.drawn[-1] == Model.drawn[-2] != Model.drawn[-3]


def test_a_model_and_a_batch_of_other_forms_are_checked_too(build, toy):
    class Model(toy):
        def train_step(self, data, optim_wrapper):
            loss = self.stem(data[0]).mean() * data[1]['weight'].mean()
            optim_wrapper.update_params(loss)
            return {'loss': loss}

    items = [(torch.ones(2), {'weight': torch.tensor(NAN if i == 3 else 1.0)}) for i in range(8)]
    loader = {
        'batch_size': 2,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'collate_fn': {'type': 'default_collate'},
        'dataset': items,
    }
    runner = build([STOP], Model(), val=False, train_dataloader=loader)
    message = stop(runner)
    assert 'The loss is nan at iteration 2 ' in message
    assert 'the batch does not name its files' in message
    assert finite(runner)


@ALL_WRAPPERS
@pytest.mark.parametrize('counts', [1, 3])
def test_a_finite_training_is_the_same_to_the_last_bit(build, toy, wrapper, counts):
    ends = []
    for hooks in ([], [STOP]):
        torch.manual_seed(5)
        wrapper = {**copy.deepcopy(wrapper), 'accumulative_counts': counts}
        runner = build(hooks, toy(), val=False, optim_wrapper=wrapper)
        torch.manual_seed(6)
        runner.train()
        losses, _ = runner.message_hub.get_scalar('train/loss').data
        assert runner.iter == 8
        ends.append((runner.model.state_dict(), list(losses)))
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=0)
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_several_optimizers_are_refused_in_one_line(build, toy):
    model = toy()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    message = stop(build([STOP], model, optim_wrapper=OptimWrapperDict(a=wrapper)))
    assert 'does not support OptimWrapperDict: remove it from custom_hooks' in message


# With a gradient scaler, which runs on a CPU too.


@pytest.fixture
def train_scaled(monkeypatch, build, planted):
    """Train with gradients that overflow above ``limit``; the runner, or the message."""
    # mmengine's wrapper refuses a CPU; autocast is not at stake.
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', partial(torch.amp.GradScaler, 'cpu'))
    monkeypatch.setattr(AmpOptimWrapper, 'optim_context', lambda self, model: nullcontext())

    def train(limit, epochs=2, bad=None, **wrapper):
        wrapper = {'type': 'AmpOptimWrapper', 'optimizer': SGD, **copy.deepcopy(wrapper)}
        model = planted(partial(bad_gradient, limit=limit), at=None)
        runner = build([STOP], model, bad, epochs, val=False, optim_wrapper=wrapper)
        return stop(runner) if bad or limit == 0 else (runner.train(), runner)[1]

    return train


SCALED = [
    {},
    {'accumulative_counts': 2},
    {'clip_grad': CLIP},
    {'optimizer': {'type': 'Adam', 'lr': 0.01, 'fused': True}},
]


@pytest.mark.parametrize('more', SCALED)
def test_steps_that_the_scaler_skips_are_no_error(train_scaled, more):
    runner = train_scaled(2.0**12, **more)  # four of eight steps overflow, from a scale of 65536
    assert runner.iter == 8
    skipped = 3 if 'accumulative_counts' in more else 4  # by 2, the scaled loss is half as large
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0 ** (16 - skipped)
    assert finite(runner)


@pytest.mark.parametrize('more', SCALED)
def test_a_nan_loss_stops_with_a_scaler_too(train_scaled, more):
    message = train_scaled(INF, bad=5, **more)
    assert 'The loss is nan at iteration 3 (loss = nan, ' in message
    assert 'Not finite before the model: img_5.jpg. ' in message


@pytest.mark.parametrize(
    ('more', 'iteration', 'scale'),
    [
        ({}, 16, '1'),  # 65536 is 2 to the 16
        ({'loss_scale': 1.0}, 1, '1'),  # bfloat16
        ({'loss_scale': 512.0}, 21, '512'),
        ({'loss_scale': {'enabled': False}}, 1, None),
    ],
)
def test_a_scale_that_cannot_help_stops(train_scaled, more, iteration, scale):
    message = train_scaled(0, epochs=6, **more)
    assert f'The gradient is not finite at iteration {iteration} (loss = ' in message
    assert f'The loss scale is {scale}. ' in message if scale else 'loss scale' not in message


# In two processes. Images 0 to 15, two in each an iteration: process 1 has 10 and 11 in the third.

CASES = {
    'loss': {},
    'loss without a gradient': {},
    'gradient': {},
    'gradient, accumulated': {'accumulative_counts': 2},
    'loss, shared statistics': {},
    'none': {},
}


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
        if '10.jpg' in [s.img_path for s in data_samples]:
            if self.case.startswith('gradient'):
                loss = BadGradient.apply(loss, 0, NAN)
            more = {'loss': loss * NAN, 'loss without a gradient': more + INF}.get(self.case, more)
        return {'loss_cls': loss, 'loss_more': more}


class Turns(torch.utils.data.Sampler):
    """Batches in turns: 0 and 1 here, 2 and 3 there."""

    def __init__(self, dataset, seed=None, **kwargs):
        self.order = [i for i in range(len(dataset)) if i // 2 % 2 == dist.get_rank()]

    def __iter__(self):
        return iter(self.order)

    def __len__(self):
        return len(self.order)


class Watch(Hook):
    """Keep the weights before each iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.weights = [p.tolist() for p in runner.model.parameters()]


def train_case(case, folder):
    torch.manual_seed(0)
    items = [{'inputs': torch.rand(3, 4, 4), 'data_samples': Sample(i)} for i in range(16)]
    if 'shared' in case:
        items[10]['inputs'][0, 0, 0] = NAN
    watch = Watch()
    runner = Runner(
        model=Net(case),
        work_dir=f'{folder}/{case}',
        train_dataloader={
            'batch_size': 2,
            'num_workers': 0,
            'sampler': {'type': Turns},
            'collate_fn': {'type': 'pseudo_collate'},
            'dataset': items,
        },
        train_cfg={'by_epoch': True, 'max_epochs': 1},
        optim_wrapper={'optimizer': SGD, **CASES[case]},
        custom_hooks=[STOP, watch],
        launcher='pytorch',
        # Otherwise mmengine names a GPU to DDP.
        cfg={'model_wrapper_cfg': {'device_ids': None, 'broadcast_buffers': False}},
        default_scope='mmdet',
        experiment_name=case,
    )
    found = {'message': None}
    try:
        runner.train()
    except InputError as error:
        found['message'] = str(error)
    weights = [p.tolist() for p in runner.model.parameters()]
    return found | {'iterations': runner.iter, 'weights': weights, 'before': watch.weights}


def run_process(rank, folder):
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', LOCAL_RANK=str(rank))
    store = dist.FileStore(f'{folder}/store', 2)
    wait = timedelta(seconds=60)  # for another process: a test that hangs is one that fails
    dist.init_process_group('gloo', timeout=wait, store=store, rank=rank, world_size=2)
    found = {case: train_case(case, folder) for case in CASES}
    Path(folder, f'{rank}.json').write_text(json.dumps(found))
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """What each process found, by case."""
    folder = tmp_path_factory.mktemp('processes')
    mp.spawn(run_process, (str(folder),), nprocs=2)
    return [json.loads((folder / f'{rank}.json').read_text()) for rank in range(2)]


@pytest.mark.parametrize('case', [case for case in CASES if case != 'none'])
def test_all_processes_stop_at_once_and_name_the_images_of_the_one_with_the_bad_batch(case, found):
    first, second = (process[case] for process in found)
    assert first['message'] == second['message']
    assert f'The {case.split()[0].strip(",")} is ' in first['message']
    assert ' at iteration 3 ' in first['message']
    assert 'Images (rank 1): 10.jpg, 11.jpg. ' in first['message']
    assert '(rank 0)' not in first['message']
    assert first['iterations'] == second['iterations'] == 2
    assert first['weights'] == second['weights']
    if 'without' not in case:  # there the gradients are finite
        assert first['weights'] == first['before']
    if 'shared' in case:
        assert 'Not finite before the model: 10.jpg. ' in first['message']


def test_several_processes_end_a_finite_training(found):
    first, second = (process['none'] for process in found)
    assert first['message'] is None
    assert first['iterations'] == second['iterations'] == 4
    assert first['weights'] == second['weights'] != first['before']
