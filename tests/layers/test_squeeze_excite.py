"""SqueezeExcite: timm's values, and the fused form with its norm."""

import sys
from functools import partial

import pytest
import torch
from timm.layers import SEModule
from torch import nn

from tresnet_det.layers import BlurPool, InPlaceABN, SqueezeExcite
from tresnet_det.layers.refinements import norm_and_gate


def test_values_are_those_of_timms_module():
    ours, theirs = SqueezeExcite(8, 4), SEModule(8, rd_channels=4)
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 8, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x))


def norm_and_se(dtype=torch.float64, training=True):
    norm = InPlaceABN(6, activation='identity').to(dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.0, 1e-6, -0.5, 1.5, -1e-3, 0.7]))
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    se = SqueezeExcite(6, 4).to(dtype)
    return norm.train(training), se.train(training)


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_the_fused_form_equals_norm_then_squeeze_excite(training):
    x = (torch.randn(3, 6, 4, 5, dtype=torch.float64) * 2 + 1).requires_grad_()
    norm, se = norm_and_se(training=training)
    weight = torch.randn(3, 6, 4, 5, dtype=torch.float64)

    def gradients(y):
        parameters = [x, *norm.parameters(), *se.parameters()]
        return torch.autograd.grad((y * weight).sum(), parameters)

    fused, plain = norm_and_gate(x, norm, se), se(norm(x))
    torch.testing.assert_close(fused, plain)
    for ours, expected in zip(gradients(fused), gradients(plain), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_the_fused_form_is_exact_at_the_zero_initialisation_in_half_precision(dtype):
    # Recovering the normalised input from the output would divide rounding errors by eps here.
    norm, se = norm_and_se(torch.float32)
    nn.init.zeros_(norm.weight)
    nn.init.constant_(norm.bias, 0.1)
    x = torch.randn(4, 6, 8, 8).to(dtype)
    weight = torch.randn(4, 6, 8, 8).to(dtype)
    se.to(dtype)
    (norm_and_gate(x, norm, se) * weight).sum().backward()
    norm64, se64 = norm_and_se()
    norm64.load_state_dict({k: v.double() for k, v in norm.state_dict().items()})
    se64.load_state_dict({k: v.double() for k, v in se.state_dict().items()})
    (se64(norm64(x.double())) * weight.double()).sum().backward()
    error = (norm.weight.grad - norm64.weight.grad).abs().max()
    assert error < 4 * torch.finfo(dtype).eps * norm64.weight.grad.abs().max()


@pytest.mark.parametrize('layer', [lambda: BlurPool('cuda'), lambda: SqueezeExcite(4, 2, 'cuda')])
def test_an_unknown_backend_is_refused(layer):
    with pytest.raises(ValueError, match="backend 'cuda' is not one of"):
        layer()


@pytest.mark.parametrize('layer', [BlurPool, partial(SqueezeExcite, 4, 2), partial(InPlaceABN, 4)])
def test_a_missing_triton_says_what_to_install(layer, monkeypatch):
    monkeypatch.setitem(sys.modules, 'triton', None)
    with pytest.raises(ImportError, match='pip install triton'):
        layer(backend='triton')
