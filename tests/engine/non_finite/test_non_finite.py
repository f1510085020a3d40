"""StopOnNonFiniteHook in a real runner, with numbers planted that are not finite."""

import copy

import pytest
import torch
from planted_steps import (
    ACCUMULATED,
    ALL_WRAPPERS,
    BY_ITERATION,
    INF,
    NAN,
    STOP,
    BadGradient,
    Watch,
    assert_equal,
    state,
    stop,
)
from torch import nn

import tresnet_det  # noqa: F401  (prepares the stack)


@ALL_WRAPPERS
def test_a_loss_that_is_not_finite_stops_and_names_files_and_parts(build, wrapper):
    message = stop(build(STOP, bad=5, optim_wrapper=copy.deepcopy(wrapper)))
    assert 'The loss is nan at iteration 3 (loss_cls = nan)' in message
    assert 'on the files img_4.jpg, img_5.jpg;' in message
    assert 'not finite before the model saw it: inputs of img_5.jpg;' in message
    assert 'loss_box' not in message


@ALL_WRAPPERS
@pytest.mark.parametrize('what', ['loss', 'gradient'])
def test_everything_is_from_before_the_bad_step(build, bad_gradient, wrapper, what):
    watch = Watch()
    average = {'type': 'EMAHook', 'priority': 49, 'update_buffers': True}  # as in the configs
    planted = {'bad': 5} if what == 'loss' else {'model': bad_gradient()}
    hooks = [average, *STOP, watch]
    runner = build(hooks, optim_wrapper=copy.deepcopy(wrapper), **planted)
    message = stop(runner)
    assert f'The {what} is' in message
    assert 'at iteration 3' in message
    assert len(watch.states) == 3
    assert_equal(state(runner), watch.states[-1])
    assert watch.states[-1][1]  # the optimiser has a state by then
    tensors = [*runner.model.state_dict().values()]
    assert all(t.isfinite().all() for t in tensors)


@ALL_WRAPPERS
def test_a_gradient_with_a_finite_loss_stops_and_names_the_first_parameter(
    build, bad_gradient, wrapper
):
    message = stop(build(STOP, bad_gradient(), optim_wrapper=copy.deepcopy(wrapper)))
    assert 'The gradient is not finite at iteration 3 (loss = ' in message
    assert 'on the files img_4.jpg, img_5.jpg;' in message
    assert 'the first gradient that is not finite is that of head.' in message
    assert 'the first output' not in message


@ALL_WRAPPERS
def test_an_infinite_gradient_stops_too(build, bad_gradient, wrapper):
    model = bad_gradient()
    model.value = INF
    message = stop(build(STOP, model, optim_wrapper=copy.deepcopy(wrapper)))
    assert 'The gradient is not finite at iteration 3' in message


def test_a_layer_that_divides_by_zero_is_named(build, toy):
    class Divide(nn.Module):
        def forward(self, x):
            return 1 / (x - x.max())

    class Model(toy):
        def __init__(self):
            super().__init__()
            self.body[7] = Divide()

        def forward(self, inputs, data_samples=None, mode='loss'):
            losses = super().forward(inputs, data_samples, mode)
            if mode == 'loss' and 'img_6.jpg' in [s.img_path for s in data_samples]:
                losses['loss_stem'] = self.body[7](self.stem(torch.stack(inputs))).mean()
            return losses

    message = stop(build(STOP, Model()))
    assert 'The loss is inf at iteration 4 (loss_stem = inf)' in message
    assert 'the first output that is not finite is that of body.7 (Divide);' in message


@pytest.mark.slow
def test_mmengines_compiled_step_is_guarded_too(build):
    runner = build(STOP, bad=5, val=False, cfg={'compile': {'backend': 'eager'}})
    assert 'The loss is nan at iteration 3 (loss_cls = nan)' in stop(runner)
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())


def test_the_square_root_of_zero_is_caught_at_its_parameter(build, toy):
    class Model(toy):
        def forward(self, inputs, data_samples=None, mode='loss'):
            losses = super().forward(inputs, data_samples, mode)
            if mode == 'loss' and 'img_2.jpg' in [s.img_path for s in data_samples]:
                losses['loss_box'] = (0 * self.stem.bias).sum().sqrt()
            return losses

    message = stop(build(STOP, Model()))
    assert 'The gradient is not finite at iteration 2' in message
    assert 'the first gradient that is not finite is that of stem.bias;' in message


def test_a_loss_without_a_gradient_of_its_own_is_caught_before_the_step(build, toy):
    class Model(toy):
        def forward(self, inputs, data_samples=None, mode='loss'):
            losses = super().forward(inputs, data_samples, mode)
            if mode == 'loss':
                losses['loss_constant'] = torch.tensor(INF)
            return losses

    runner = build(STOP, Model())
    before = copy.deepcopy(runner.model.state_dict())
    message = stop(runner)
    assert 'The loss is inf at iteration 1 (loss_constant = inf)' in message
    assert_equal(runner.model.state_dict(), before)


def test_a_sum_may_overflow_though_its_parts_are_finite(build, toy):
    class Model(toy):
        def forward(self, inputs, data_samples=None, mode='loss'):
            losses = super().forward(inputs, data_samples, mode)
            large = self.head.bias.sum() * 0 + 3e38
            return {'loss_a': large, 'loss_b': large} if mode == 'loss' else losses

    message = stop(build(STOP, Model()))
    assert 'The loss is inf at iteration 1 (all its parts are finite, their sum is not)' in message


@pytest.mark.parametrize('more', [BY_ITERATION, ACCUMULATED])
def test_it_stops_in_other_loops(build, more):
    message = stop(build(STOP, bad=5, **copy.deepcopy(more)))
    assert 'nan at iteration 3 (loss_cls = nan) on the files img_4.jpg, img_5.jpg;' in message


@pytest.mark.parametrize('what', ['loss', 'gradient'])
@pytest.mark.parametrize('bad', [4, 6])  # in the first and in the second batch of an update
def test_an_accumulated_update_is_left_out_and_its_bad_batch_named(build, bad, what, toy):
    class Model(toy):
        def forward(self, inputs, data_samples=None, mode='loss'):
            losses = super().forward(inputs, data_samples, mode)
            if mode == 'loss' and f'img_{bad}.jpg' in [s.img_path for s in data_samples]:
                factor = NAN if what == 'gradient' else 1.0
                losses['loss_cls'] = BadGradient.apply(losses['loss_cls'], factor)
                if what == 'loss':
                    losses['loss_cls'] = losses['loss_cls'] * NAN
            return losses

    watch = Watch()
    runner = build([*STOP, watch], Model(), **copy.deepcopy(ACCUMULATED))
    message = stop(runner)
    assert f'at iteration {bad // 2 + 1} ' in message
    assert f'on the files img_{bad}.jpg, img_{bad + 1}.jpg;' in message
    assert_equal(dict(runner.model.named_parameters()), params(watch.states[2][0], runner.model))


def params(state_dict, model):
    return {name: state_dict[name] for name, _ in model.named_parameters()}


def test_running_statistics_that_are_saved_before_the_update_are_finite(build, tmp_path):
    every = {'type': 'CheckpointHook', 'interval': 1, 'by_epoch': False}
    stop(build([*STOP, every], bad=5, **copy.deepcopy(ACCUMULATED)))
    saved = torch.load(tmp_path / 'work' / 'iter_3.pth', weights_only=True)['state_dict']
    assert all(value.isfinite().all() for value in saved.values())


def test_no_checkpoint_of_the_bad_step_is_written(build, tmp_path):
    every = {'type': 'CheckpointHook', 'interval': 1, 'by_epoch': False}
    stop(build([*STOP, every], bad=5))
    assert {f.name for f in (tmp_path / 'work').glob('iter_*.pth')} == {'iter_1.pth', 'iter_2.pth'}
