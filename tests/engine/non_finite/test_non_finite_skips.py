"""StopOnNonFiniteHook with max_skips: steps that are left out."""

import copy
import math

import pytest
import torch
from mmengine.hooks import Hook
from planted_steps import (
    ALL_WRAPPERS,
    CLIP,
    SGD,
    SKIP,
    assert_equal,
    state,
    stop,
)
from torch import nn

import tresnet_det  # noqa: F401  (prepares the stack)
from tresnet_det.engine import config as edit
from tresnet_det.errors import InputError


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
