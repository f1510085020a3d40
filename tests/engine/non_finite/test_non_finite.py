"""StopOnNonFiniteHook in a real runner, with numbers planted that are not finite."""

import copy
import math

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from torch import nn

import tresnet_det  # noqa: F401  (prepares the stack)
from tresnet_det.engine import config as edit
from tresnet_det.errors import InputError

STOP = [{'type': 'StopOnNonFiniteHook'}]
SKIP = [{'type': 'StopOnNonFiniteHook', 'max_skips': 3}]
NAN, INF = float('nan'), float('inf')
SGD = {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9}
CLIP = {'clip_grad': {'max_norm': 1.0}}
# How a wrapper may end up with its gradients: each way is guarded at another place.
WRAPPERS = {
    'plain': {'optimizer': SGD},
    'clipped by the norm': {'optimizer': SGD, **CLIP},
    'clipped by the norm, torch raising': {
        'optimizer': SGD,
        'clip_grad': {'max_norm': 1.0, 'error_if_nonfinite': True},
    },
    'clipped by value': {'optimizer': SGD, 'clip_grad': {'type': 'value', 'clip_value': 0.1}},
    'AdamW': {'optimizer': {'type': 'AdamW', 'lr': 0.01}},
}
ALL_WRAPPERS = pytest.mark.parametrize('wrapper', WRAPPERS.values(), ids=list(WRAPPERS))
ACCUMULATED = {'optim_wrapper': {'optimizer': SGD, 'accumulative_counts': 2}}
BY_ITERATION = {
    'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 4, 'val_interval': 2},
    'log_processor': {'by_epoch': False},
}


class BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, value):
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.value, None


@pytest.fixture
def bad_gradient(toy):
    """A model whose gradient is ``value`` times what it should be on the batch of img_4.jpg."""

    class Model(toy):
        value = NAN

        def forward(self, inputs, data_samples=None, mode='loss'):
            losses = super().forward(inputs, data_samples, mode)
            if mode == 'loss' and 'img_4.jpg' in [s.img_path for s in data_samples]:
                losses['loss_cls'] = BadGradient.apply(losses['loss_cls'], self.value)
            return losses

    return Model


class Watch(Hook):
    """Keep the state before each iteration, as after the one before."""

    priority = 'LOWEST'

    def __init__(self):
        self.states = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.states.append(copy.deepcopy(state(runner)))


def state(runner):
    average = [hook.ema_model.state_dict() for hook in runner.hooks if isinstance(hook, EMAHook)]
    optimizer = runner.optim_wrapper.optimizer.state_dict()['state']
    return runner.model.state_dict(), optimizer, average


def assert_equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def stop(runner):
    with pytest.raises(InputError) as caught:
        runner.train()
    message = str(caught.value)
    assert '\n' not in message
    return message


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


# ---------------------------------------------------------------------------------------------
# Skipping


class LeaveOut(Hook):
    """Train by hand as if one iteration of each epoch had no batch."""

    priority = 'HIGHEST'

    def __init__(self, index):
        self.index = index

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = runner.model
        if batch_idx == self.index:
            model.train_step = lambda *args, **kwargs: {}
        else:
            vars(model).pop('train_step', None)


class Dropping(nn.Module):
    """Draws random numbers, which a step that did not happen would not have drawn."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return nn.functional.dropout(self.inner(x), 0.3, self.training)


@ALL_WRAPPERS
@pytest.mark.parametrize('what', ['loss', 'gradient'])
def test_skipping_ends_with_the_weights_of_a_run_without_that_step(
    build, bad_gradient, toy, wrapper, what
):
    def model(kind):
        torch.manual_seed(3)
        made = kind()
        made.head = Dropping(made.head)
        made.head.bias = made.head.inner.bias
        return made

    planted = {'bad': 5} if what == 'loss' else {}
    kind = toy if what == 'loss' else bad_gradient
    optim = {'optim_wrapper': copy.deepcopy(wrapper), 'val': False}
    skipping = build(SKIP, model(kind), **planted, **copy.deepcopy(optim))
    torch.manual_seed(4)
    skipping.train()
    reference = build([LeaveOut(2)], model(toy), **copy.deepcopy(optim))
    torch.manual_seed(4)
    reference.train()
    assert skipping.iter == reference.iter == 8
    assert_equal(state(skipping), state(reference))


def test_skips_are_named_counted_and_end(build, log):
    runner = build([{'type': 'StopOnNonFiniteHook', 'max_skips': 1}], bad=5)
    lines = log(runner)
    message = stop(runner)
    assert 'at iteration 7 ' in message
    assert message.endswith('go on from the last checkpoint with --resume.')
    (line,) = [line for line in lines if 'Going on without this step' in line]
    assert 'The loss is nan at iteration 3 ' in line
    assert line.endswith('1 of at most 1.')
    assert '--resume' not in line


def test_a_skipped_step_does_not_spoil_the_logged_averages(build):
    runner = build(SKIP, bad=5, optim_wrapper={'optimizer': SGD, **copy.deepcopy(CLIP)})
    runner.train()
    for name in ('loss', 'loss_cls', 'loss_box', 'grad_norm'):
        values, _ = runner.message_hub.get_scalar(f'train/{name}').data
        assert len(values) == (8 if name == 'loss_box' else 6)
        assert all(map(math.isfinite, values))


@pytest.mark.parametrize(
    'config', ['fcos_tresnet_m', 'imagenet_tresnet_m', 'multilabel_tresnet_m_448']
)
def test_it_is_the_first_of_the_configs_hooks_as_the_docs_say(project_root, config):
    hooks = edit.load_config(project_root / 'configs' / f'{config}.py').custom_hooks
    assert hooks[0].type == 'StopOnNonFiniteHook'
    assert 'custom_hooks.0.max_skips=10' in (project_root / 'docs' / 'nan.md').read_text()


def test_negative_skips_are_refused():
    with pytest.raises(InputError, match='max_skips must be at least 0, got -1'):
        tresnet_det.engine.StopOnNonFiniteHook(max_skips=-1)


# ---------------------------------------------------------------------------------------------
# What it must leave alone


@ALL_WRAPPERS
@pytest.mark.parametrize('accumulative_counts', [1, 2, 3])
def test_a_finite_training_is_the_same_to_the_last_bit(build, toy, wrapper, accumulative_counts):
    ends = []
    for hooks in ([], STOP):
        torch.manual_seed(5)
        model = toy()
        optim = {**copy.deepcopy(wrapper), 'accumulative_counts': accumulative_counts}
        runner = build(hooks, model, val=False, optim_wrapper=optim)
        torch.manual_seed(6)
        runner.train()
        losses, _ = runner.message_hub.get_scalar('train/loss').data
        assert runner.iter == 8
        ends.append((state(runner), list(losses)))
    assert_equal(ends[1][0], ends[0][0])
    assert ends[1][1] == ends[0][1]


@pytest.mark.filterwarnings('error:Seems like `optimizer.step')
def test_mmengines_schedulers_go_on_counting_steps(build):
    scheduler = {'type': 'ConstantLR', 'factor': 0.5, 'by_epoch': False, 'end': 2}
    runner = build(STOP, param_scheduler=[scheduler])
    runner.train()
    assert runner.optim_wrapper._global_step == 7  # eight steps from -1
    assert runner.optim_wrapper.get_lr()['lr'] == [0.01]


def test_after_training_wrapper_and_model_are_their_own_again(build):
    runner = build(STOP)
    runner.train()
    assert {'update_params', 'step', 'clip_func'} & set(vars(runner.optim_wrapper)) == set()
    assert 'parse_losses' not in vars(runner.model)
    assert not runner.model.data_preprocessor._forward_hooks
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_a_batch_is_let_go_after_its_iteration(build):
    runner = build(STOP)
    (hook,) = [h for h in runner.hooks if type(h).__name__ == 'StopOnNonFiniteHook']

    class Look(Hook):
        priority = 'VERY_LOW'
        seen = []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.seen.append(hook._guard.batch)

    runner.register_hook(Look())
    runner.train()
    assert Look.seen == [None] * 8


def test_several_optimisers_are_refused_in_one_line(build, toy):
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    model = toy()
    wrappers = OptimWrapperDict(
        a=OptimWrapper(torch.optim.SGD(model.stem.parameters(), 0.1)),
        b=OptimWrapper(torch.optim.SGD(model.head.parameters(), 0.1)),
    )
    message = stop(build(STOP, model, optim_wrapper=wrappers))
    assert 'not with OptimWrapperDict: take it out of custom_hooks' in message


def test_a_batch_of_an_unknown_form_is_named_as_such(build, toy):
    class Model(toy):
        def forward(self, first, second, mode='loss'):
            return {'loss': self.stem(first).mean() * second['weight'].mean()}

    items = [(torch.ones(2), {'weight': torch.tensor(NAN if i == 3 else 1.0)}) for i in range(8)]
    loader = {
        'batch_size': 2,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'collate_fn': {'type': 'default_collate'},
        'dataset': items,
    }
    message = stop(build(STOP, Model(), val=False, train_dataloader=loader))
    assert 'at iteration 2 ' in message
    assert '(the batch does not name its files)' in message


def test_a_model_with_a_step_of_its_own_is_guarded_too(build, toy):
    class Model(toy):
        def train_step(self, data, optim_wrapper):
            inputs = torch.stack(data['inputs'])
            loss = self.stem(inputs).mean()
            optim_wrapper.update_params(loss)
            return {'loss': loss}

    runner = build(STOP, Model(), bad=5)
    message = stop(runner)
    assert 'The loss is nan at iteration 3' in message
    assert 'on the files img_4.jpg, img_5.jpg;' in message
    assert runner.model.stem.weight.isfinite().all()


def test_a_file_that_cannot_be_written_is_a_warning(build, log, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'non_finite').write_text('in the way')
    runner = build(STOP, bad=5)
    lines = log(runner)
    message = stop(runner)
    assert 'The loss is nan at iteration 3' in message
    assert 'replay' not in message
    assert any('iter_3.pth could not be written' in line for line in lines)
