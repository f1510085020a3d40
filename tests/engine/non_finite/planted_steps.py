"""Trainings with numbers that are not finite, and the state that they must leave."""

import copy

import pytest
import torch
from mmengine.hooks import EMAHook, Hook

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
