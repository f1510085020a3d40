"""recompute_outputs=True changes no output, gradient or statistic."""

import copy

import pytest
import torch
from torch import nn

from tresnet_det import TResNet
from tresnet_det.backbone.norms import iterate_norms


def pair(**kwargs):
    """The same backbone with and without the option, every branch switched on."""
    arch = dict(depths=(3, 2, 4, 2), width_factor=0.25, se_stages=(True, False, True, False))
    backbone = TResNet(arch=arch, **kwargs)
    for norm in iterate_norms(backbone):
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        nn.init.normal_(norm.bias, std=0.1)
    recomputing = copy.deepcopy(backbone)
    recomputing.recompute_outputs = True
    return backbone, recomputing


def gradients(backbone, x, backward_passes=1):
    x = x.clone().requires_grad_()
    outputs = backbone.train()(x)
    loss = sum(y.float().square().mean() for y in outputs)
    for n in range(backward_passes):
        loss.backward(retain_graph=n + 1 < backward_passes)
    named = {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
    return outputs, {'x': x.grad, **named}


@pytest.mark.parametrize(
    'kwargs',
    [dict(), dict(norm_eval=True), dict(frozen_stages=1), dict(out_indices=(1, 3))],
    ids=lambda kwargs: '-'.join(kwargs) or 'default',
)
@pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last], ids=['contiguous', 'channels_last']
)
def test_outputs_gradients_and_statistics_are_the_same(kwargs, layout):
    plain, recomputing = (m.double() for m in pair(**kwargs))
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64).to(memory_format=layout)
    outputs, expected = gradients(plain, x)
    ours, found = gradients(recomputing, x)
    torch.testing.assert_close(ours, outputs, rtol=0, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(dict(recomputing.named_buffers()), dict(plain.named_buffers()))


def test_autocast_gradients_are_as_near_as_without_it():
    plain, recomputing = pair()
    x = torch.rand(2, 3, 64, 64)
    _, exact = gradients(copy.deepcopy(plain).double(), x.double())
    errors = []
    for model in (plain, recomputing):
        with torch.autocast('cpu', torch.bfloat16):
            _, found = gradients(model, x)
        errors.append(
            sum((found[k] - exact[k]).norm() / exact[k].norm() for k in exact) / len(exact)
        )
    assert errors[1] < 1.2 * errors[0]


def test_with_another_norm_it_is_refused():
    with pytest.raises(ValueError, match="recompute_outputs=True needs .*InPlaceABN.*got 'BN'"):
        TResNet(norm_cfg=dict(type='BN'), recompute_outputs=True)
