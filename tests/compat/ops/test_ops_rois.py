"""Edges of RoIAlign, whose answers test_ops_compiled holds; RoIPool against a loop in float64."""

import math

import pytest
import torch
from mmcv.ops import RoIAlign, roi_align, roi_pool
from torch.autograd import gradcheck

# image, x1, y1, x2, y2 in input pixels; one region reaches outside, one has no extent
ROIS = torch.tensor(
    [[0.0, 1, 2, 9, 14], [1, 3.3, 0.7, 15.1, 7.9], [1, -4, -4, 30, 30], [0, 5, 5, 5, 5]],
    dtype=torch.float64,
)


def feature(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 8, 9, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_roi_align_keeps_its_dtype(dtype, mode):
    x = feature(dtype).requires_grad_()
    out = roi_align(x, ROIS.float(), (3, 3), 0.5, 2, mode, True)
    expected = roi_align(x.detach().double(), ROIS, (3, 3), 0.5, 2, mode, True)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(out, expected.to(dtype), rtol=4 * eps, atol=max(eps, 1e-5))
    out.sum().backward()
    assert x.grad.dtype == dtype


def test_roi_align_layer_runs_under_autocast():
    layer = RoIAlign(output_size=2, spatial_scale=0.5, sampling_ratio=0)
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(feature(torch.bfloat16), ROIS.float())
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_no_regions_give_no_output_and_no_gradient(mode):
    x = feature().requires_grad_()
    out = roi_align(x, ROIS[:0], (2, 2), 0.5, 2, mode, True)
    assert out.shape == (0, 3, 2, 2)
    out.sum().backward()
    assert not x.grad.any()


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_a_region_without_area_is_zero_without_gradient(mode):
    """By the sampling ratio 0 it has no samples; mmcv's compiled maximum would be -10000."""
    x = feature().requires_grad_()
    out = roi_align(x, torch.tensor([[0.0, 4, 4, 4, 4]]).to(x), (2, 2), 0.5, 0, mode, True)
    assert not out.any()
    out.sum().backward()
    assert not x.grad.any()


def naive_pool(x, rois, size, scale):
    out = torch.zeros(len(rois), x.size(1), *size, dtype=torch.float64)
    h, w = x.shape[2:]
    for r, (n, x1, y1, x2, y2) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = x1 * scale, y1 * scale, (x2 + 1) * scale, (y2 + 1) * scale
        for i in range(size[0]):
            for j in range(size[1]):
                top = min(max(math.floor(i * (y2 - y1) / size[0] + y1), 0), h)
                stop = min(max(math.ceil((i + 1) * (y2 - y1) / size[0] + y1), 0), h)
                left = min(max(math.floor(j * (x2 - x1) / size[1] + x1), 0), w)
                right = min(max(math.ceil((j + 1) * (x2 - x1) / size[1] + x1), 0), w)
                if top < stop and left < right:
                    out[r, :, i, j] = x[int(n), :, top:stop, left:right].amax((1, 2))
    return out


def test_roi_pool_takes_the_largest_value_of_each_bin():
    got = roi_pool(feature(), ROIS, (3, 2), 0.5)
    torch.testing.assert_close(got, naive_pool(feature(), ROIS, (3, 2), 0.5))


def test_roi_pool_passes_gradcheck():
    x = feature()[:, :2].requires_grad_()
    assert gradcheck(lambda x: roi_pool(x, ROIS, (2, 2), 0.5), x, fast_mode=True)


def test_roi_pool_of_a_region_outside_is_zero_without_gradient():
    x = feature().requires_grad_()
    out = roi_pool(x, torch.tensor([[0.0, 100, 100, 120, 120]]), (2, 2), 0.5)
    out.sum().backward()
    assert not out.any()
    assert not x.grad.any()


def test_roi_pool_sends_the_gradient_of_equal_values_to_the_first():
    x = torch.zeros(1, 1, 2, 2).requires_grad_()
    roi_pool(x, torch.tensor([[0.0, 0, 0, 1, 1]]), (1, 1), 1.0).sum().backward()
    assert x.grad.flatten().tolist() == [1, 0, 0, 0]
