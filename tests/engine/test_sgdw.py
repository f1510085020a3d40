"""Decoupled weight decay for SGD."""

import pytest
import torch
from mmengine.registry import OPTIMIZERS
from timm.optim import SGDW as TimmSGDW  # noqa: N811
from torch import nn

from tresnet_det.engine import SGDW
from tresnet_det.errors import InputError


def train(optimizer, model, steps=5):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, generator=generator, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def make_model():
    torch.manual_seed(1)
    return nn.Linear(3, 2).double()


@pytest.mark.parametrize(
    ('other', 'more'),
    [
        (TimmSGDW, dict(weight_decay=0.3)),
        (TimmSGDW, dict(weight_decay=0.3, nesterov=True)),
        (torch.optim.SGD, {}),
    ],
)
def test_it_steps_as_timms_does_and_without_decay_as_torchs(other, more):
    first, second = make_model(), make_model()
    ours = train(SGDW(first.parameters(), lr=0.05, momentum=0.9, **more), first)
    theirs = train(other(second.parameters(), lr=0.05, momentum=0.9, **more), second)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_weight_without_a_gradient_stays():
    unused = nn.Parameter(torch.ones(2))
    SGDW([unused], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(unused, torch.ones(2))


def test_each_group_keeps_its_own_decay_and_a_config_finds_it_by_name():
    model = make_model()
    groups = [dict(params=[model.weight]), dict(params=[model.bias], weight_decay=0.0)]
    optimizer = OPTIMIZERS.build(dict(type='SGDW', params=groups, lr=0.1, weight_decay=0.5))
    before = model.bias.detach().clone()
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert torch.equal(model.bias, before)
    assert [group['weight_decay'] for group in optimizer.param_groups] == [0.5, 0.0]


def test_a_negative_decay_is_refused():
    with pytest.raises(InputError, match='weight_decay is -1: give a number from 0'):
        SGDW([nn.Parameter(torch.ones(1))], weight_decay=-1)
