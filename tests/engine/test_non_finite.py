"""StopOnNonFiniteHook in a real runner, on a toy model whose third iteration goes wrong."""

import copy
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.optim.optimizer import amp_optimizer_wrapper
from stoppable import BadGradient
from torch import nn

import tresnet_det.engine  # noqa: F401  (registers the hook)
from tresnet_det.errors import InputError

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
def test_a_bad_gradient_of_a_finite_loss_stops_before_the_step(build, planted, wrapper):
    model = planted(partial(bad_gradient, value=NAN))
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


class Reciprocal(nn.Module):
    def forward(self, x):
        return 1 / x


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (divide_by_zero, ['loss_box = inf)', 'output: body.7 (Reciprocal).']),
        (root_of_zero, ['The gradient is not finite', 'gradient: stem.bias.']),
        (constant, ['The loss is inf at iteration 3 (loss = inf, ', 'loss_box = inf)']),
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
    work = tmp_path / 'work'
    (work / 'own.py').write_text('')  # as the runner keeps the config of a file
    runner.cfg._filename = runner.cfg.__dict__['_filename'] = 'configs/own.py'
    message = stop(runner)
    assert 'nan at iteration 3 (loss = nan, ' in message
    assert f'python tools/train.py {work / "own.py"} --work-dir {work} --resume' in message


@ALL_WRAPPERS
def test_a_finite_training_is_the_same_to_the_last_bit(build, toy, wrapper):
    ends = []
    for hooks in ([], [STOP]):
        torch.manual_seed(5)
        wrapper = {**copy.deepcopy(wrapper), 'accumulative_counts': 3}
        runner = build(hooks, toy(), val=False, optim_wrapper=wrapper)
        runner.train()
        losses, _ = runner.message_hub.get_scalar('train/loss').data
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


SCALED = [{}, {'accumulative_counts': 2}, WRAPPERS['clipped by norm'], WRAPPERS['fused']]


@pytest.mark.parametrize('more', SCALED)
def test_steps_that_the_scaler_skips_are_no_error(train_scaled, more):
    runner = train_scaled(2.0**12, **more)  # four of eight steps overflow, from a scale of 65536
    assert runner.iter == 8
    skipped = 3 if 'accumulative_counts' in more else 4  # by 2, the scaled loss is half as large
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0 ** (16 - skipped)
    assert finite(runner)


def test_a_nan_loss_stops_with_a_scaler_too(train_scaled):
    message = train_scaled(INF, bad=5)
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
