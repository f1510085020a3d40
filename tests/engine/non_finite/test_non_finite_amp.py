"""StopOnNonFiniteHook beside torch's gradient scaler, which runs on a CPU too."""

import copy
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from mmengine.optim import AmpOptimWrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper

import tresnet_det  # noqa: F401  (prepares the stack)
from tresnet_det.errors import InputError

NAN, INF = float('nan'), float('inf')
SGD = {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9}
FUSED = {'type': 'Adam', 'lr': 0.01, 'fused': True}
CLIP = {'max_norm': 1.0}
HOOK = {'type': 'StopOnNonFiniteHook'}


@pytest.fixture(autouse=True)
def scaler_on_cpu(monkeypatch):
    """mmengine's wrapper refuses a CPU; autocast, whose float16 is not at stake, is left out."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    scaler = partial(torch.amp.GradScaler, 'cpu')
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', scaler)
    monkeypatch.setattr(AmpOptimWrapper, 'optim_context', lambda self, model: nullcontext())


class Overflow(torch.autograd.Function):
    """A gradient that is infinite while it is scaled by more than ``limit``, as float16's is."""

    @staticmethod
    def forward(ctx, x, limit):
        ctx.limit = limit
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.where(grad.abs() > ctx.limit, INF, grad), None


@pytest.fixture
def overflowing(toy):
    def make(limit):
        class Model(toy):
            def forward(self, inputs, data_samples=None, mode='loss'):
                losses = super().forward(inputs, data_samples, mode)
                if mode == 'loss':
                    losses['loss_cls'] = Overflow.apply(losses['loss_cls'], limit)
                return losses

        return Model()

    return make


def train(build, model=None, max_skips=0, bad=None, counts=1, epochs=2, **wrapper):
    wrapper = {'type': 'AmpOptimWrapper', 'optimizer': SGD, **wrapper}
    runner = build(
        [{**HOOK, 'max_skips': max_skips}],
        model,
        bad=bad,
        epochs=epochs,
        val=False,
        optim_wrapper=copy.deepcopy({**wrapper, 'accumulative_counts': counts}),
    )
    runner.train()
    return runner


def stop(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        train(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize('counts', [1, 2])
@pytest.mark.parametrize('clip_grad', [None, CLIP])
@pytest.mark.parametrize('optimizer', [SGD, FUSED])
def test_steps_that_the_scaler_leaves_out_are_its_own(
    build, overflowing, clip_grad, optimizer, counts
):
    model = overflowing(2.0**12)  # four of eight steps overflow, from 65536
    before = copy.deepcopy(model.state_dict())
    runner = train(build, model, clip_grad=clip_grad, optimizer=optimizer, counts=counts)
    assert runner.iter == 8
    left_out = 4 if counts == 1 else 3  # by 2, the scaled loss is half as large
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0 ** (16 - left_out)
    moved = [k for k, p in model.named_parameters() if not torch.equal(p.detach(), before[k])]
    assert moved
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('counts', [1, 2])
@pytest.mark.parametrize('clip_grad', [None, CLIP])
@pytest.mark.parametrize('optimizer', [SGD, FUSED])
def test_a_loss_that_is_not_finite_stops_all_the_same(build, clip_grad, optimizer, counts):
    message = stop(build, bad=5, clip_grad=clip_grad, optimizer=optimizer, counts=counts)
    assert 'The loss is nan at iteration 3 (loss_cls = nan)' in message
    assert 'on the files img_4.jpg, img_5.jpg;' in message
    assert 'inputs of img_5.jpg' in message


def test_a_scale_that_has_come_down_to_one_stops(build, overflowing):
    message = stop(build, overflowing(0.0), epochs=5)
    assert 'The gradient is not finite at iteration 16 (loss = ' in message  # 65536 is 2 to the 16
    assert 'a loss scale of 1 does not help' in message


def test_bfloat16_without_scaling_stops_at_the_first_gradient(build, overflowing):
    message = stop(build, overflowing(0.0), loss_scale=1.0)
    assert 'The gradient is not finite at iteration 1 (loss = ' in message


def test_a_fixed_scale_that_never_helps_stops_after_twenty_steps(build, overflowing):
    message = stop(build, overflowing(0.0), loss_scale=512.0, epochs=6)
    assert 'The gradient is not finite at iteration 21 ' in message
    assert 'a loss scale of 512 does not help' in message


def test_a_scaler_that_is_turned_off_is_no_scaler(build, overflowing):
    message = stop(build, overflowing(0.0), loss_scale={'enabled': False})
    assert 'The gradient is not finite at iteration 1 (loss = ' in message
    assert 'loss scale' not in message


def test_a_skipped_loss_leaves_weights_and_statistics_finite(build):
    runner = train(build, bad=5, max_skips=2)
    assert runner.iter == 8
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())
    losses, _ = runner.message_hub.get_scalar('train/loss').data
    assert len(losses) == 6
