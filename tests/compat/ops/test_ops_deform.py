"""Deformable convolutions and attention through mmcv's own functions, against loops in float64."""

import pytest
import torch
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttention,
    MultiScaleDeformableAttnFunction,
)
from torch.autograd import gradcheck

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


def naive_deform(x, offset, mask, weight, bias, geometry):
    stride, padding, dilation, groups, deform_groups = geometry
    out_c, in_c, kh, kw = weight.shape
    h, w = offset.shape[2:]
    out = torch.zeros(len(x), out_c, h, w, dtype=torch.float64)
    per_deform = x.size(1) // deform_groups
    for n, o, i, j in torch.cartesian_prod(*map(torch.arange, out.shape)).tolist():
        total = float(bias[o])
        for c in range(in_c):
            channel = o // (out_c // groups) * in_c + c
            dg = channel // per_deform
            for ki in range(kh):
                for kj in range(kw):
                    k = dg * kh * kw + ki * kw + kj
                    y = i * stride[0] - padding[0] + ki * dilation[0] + offset[n, 2 * k, i, j]
                    z = j * stride[1] - padding[1] + kj * dilation[1] + offset[n, 2 * k + 1, i, j]
                    value = sample(x[n, channel], float(y), float(z))
                    total += value * float(mask[n, k, i, j]) * float(weight[o, c, ki, kj])
        out[n, o, i, j] = total
    return out


def test_deform_conv_is_the_naive_loop():
    x, offset, mask, weight, bias = (t[:1] for t in tensors(MIXED))
    weight, bias = tensors(MIXED)[3:]
    expected = naive_deform(x, offset, torch.ones_like(mask), weight, bias * 0, MIXED)
    torch.testing.assert_close(deform_conv2d(x, offset, weight, *MIXED), expected)
    expected = naive_deform(x, offset, mask, weight, bias, MIXED)
    torch.testing.assert_close(
        modulated_deform_conv2d(x, offset, mask, weight, bias, *MIXED), expected
    )


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize('geometry', [PLAIN, MIXED])
def test_modulated_deform_conv_passes_gradcheck(geometry, with_bias):
    leaves = [t.requires_grad_() for t in tensors(geometry)]
    if not with_bias:
        leaves[4] = None
    assert gradcheck(
        lambda *t: modulated_deform_conv2d(*t, *geometry), tuple(leaves), fast_mode=True
    )


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


def test_deformable_attention_keeps_half_precision():
    value, shapes, starts, where, weights = attention_inputs()
    leaves = [t.half().requires_grad_() for t in (value, where, weights)]
    out = MultiScaleDeformableAttnFunction.apply(leaves[0], shapes, starts, *leaves[1:], 64)
    exact = MultiScaleDeformableAttnFunction.apply(
        leaves[0].double(), shapes, starts, *(t.double() for t in leaves[1:]), 64
    )
    torch.testing.assert_close(out, exact.half(), rtol=2e-3, atol=2e-3)
    out.sum().backward()
    assert {t.grad.dtype for t in leaves} == {torch.float16}


def test_the_attention_layer_runs_on_the_cpu():
    layer = MultiScaleDeformableAttention(embed_dims=8, num_heads=2, num_levels=2, num_points=2)
    _, shapes, starts, _, _ = attention_inputs()
    out = layer(
        torch.randn(5, 1, 8),
        value=torch.randn(16, 1, 8),
        reference_points=torch.rand(1, 5, 2, 2),
        spatial_shapes=shapes,
        level_start_index=starts,
    )
    assert out.shape == (5, 1, 8)
