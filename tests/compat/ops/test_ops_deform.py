"""Deformable convolutions and attention through mmcv's own functions, beside test_ops_compiled."""

import pytest
import torch
from mmcv.cnn import build_conv_layer
from mmcv.ops import ModulatedDeformConv2dPack, modulated_deform_conv2d
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from torch.autograd import gradcheck
from torchvision.ops import deform_conv2d

# stride, padding, dilation, groups, deformable groups; height and width differ everywhere
PLAIN = ((1, 1), (1, 1), (1, 1), 1, 1)
MIXED = ((2, 1), (1, 2), (1, 2), 2, 2)


def tensors(geometry, dtype=torch.float64):
    """Return input (2, 4, 6, 7), offset, mask, weight (4, 4 / groups, 3, 2) and bias."""
    stride, padding, dilation, groups, deform_groups = geometry
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    h = (6 + 2 * padding[0] - dilation[0] * 2 - 1) // stride[0] + 1
    w = (7 + 2 * padding[1] - dilation[1] - 1) // stride[1] + 1
    x, weight, bias = rand(2, 4, 6, 7), rand(4, 4 // groups, 3, 2), rand(4)
    offset = rand(2, deform_groups * 12, h, w)
    mask = rand(2, deform_groups * 6, h, w).sigmoid()
    return x, offset, mask, weight, bias


def sample(plane, y, x):
    """Bilinear sample of an (H, W) plane with zeros around it."""
    h, w = plane.shape
    y0, x0 = int(y // 1), int(x // 1)
    total = 0.0
    for i, wy in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
        for j, wx in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
            if 0 <= i < h and 0 <= j < w:
                total += float(plane[i, j]) * wy * wx
    return total


def test_modulated_deform_conv_without_a_bias_passes_gradcheck():
    leaves = tuple(t.requires_grad_() for t in tensors(MIXED)[:4])
    assert gradcheck(lambda *t: modulated_deform_conv2d(*t, None, *MIXED), leaves, fast_mode=True)


@pytest.mark.parametrize('name', ['DCN', 'DCNv2'])
def test_a_deformable_layer_of_a_config_is_torchvisions_function_with_its_offsets(name):
    layer = build_conv_layer(dict(type=name, deform_groups=2), 4, 6, 3, padding=1).double()
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.3)
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    offset, mask = layer.conv_offset(x), None
    if isinstance(layer, ModulatedDeformConv2dPack):
        first, second, mask = offset.chunk(3, dim=1)
        offset, mask = torch.cat((first, second), dim=1), mask.sigmoid()
    expected = deform_conv2d(
        x, offset, layer.weight, getattr(layer, 'bias', None), padding=1, mask=mask
    )
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    leaves = [t.requires_grad_() for t in tensors(PLAIN, dtype)]
    out = modulated_deform_conv2d(*leaves, *PLAIN)
    exact = modulated_deform_conv2d(*(t.detach().double() for t in leaves), *PLAIN)
    torch.testing.assert_close(out, exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-4)
    out.sum().backward()
    assert {t.grad.dtype for t in leaves} == {dtype}


def attention_inputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    shapes = torch.tensor([[3, 4], [2, 2]])
    value = torch.randn(2, 16, 2, 3, generator=generator, dtype=dtype)
    where = torch.rand(2, 5, 2, 2, 3, 2, generator=generator, dtype=dtype) * 1.2 - 0.1
    weights = torch.rand(2, 5, 2, 2, 3, generator=generator, dtype=dtype)
    return value, shapes, torch.tensor([0, 12]), where, weights


def test_deformable_attention_is_the_naive_loop():
    value, shapes, starts, where, weights = attention_inputs()
    expected = torch.zeros(2, 5, 6, dtype=torch.float64)
    for n, q, m, d in torch.cartesian_prod(*map(torch.arange, (2, 5, 2, 3))).tolist():
        for level, (h, w) in enumerate(shapes.tolist()):
            start = int(starts[level])
            plane = value[n, start : start + h * w, m, d].view(h, w)
            for p in range(3):
                x, y = where[n, q, m, level, p].tolist()
                value_there = sample(plane, y * h - 0.5, x * w - 0.5)
                expected[n, q, m * 3 + d] += value_there * weights[n, q, m, level, p]
    got = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, where, weights, 64)
    torch.testing.assert_close(got, expected)


def test_deformable_attention_passes_gradcheck():
    value, shapes, starts, where, weights = attention_inputs()
    leaves = tuple(t.requires_grad_() for t in (value, where, weights))
    assert gradcheck(
        lambda v, at, w: MultiScaleDeformableAttnFunction.apply(v, shapes, starts, at, w, 64),
        leaves,
        fast_mode=True,
    )
