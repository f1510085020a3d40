"""Deformable pooling of regions through mmcv's own function and layers, against float64 loops."""

import math

import pytest
import torch
from mmcv.ops import deform_roi_pool
from torch.autograd import gradcheck

SCALE, GAMMA, SIZE = 0.5, 0.1, (3, 2)
# image, x1, y1, x2, y2 in input pixels; one region reaches outside, one has no extent
ROIS = torch.tensor(
    [[0.0, 1, 2, 9, 14], [1, 3.3, 0.7, 15.1, 7.9], [1, -4, -4, 30, 30], [0, 5, 5, 5, 5]],
    dtype=torch.float64,
)


def tensors(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(2, 3, 8, 9, generator=generator, dtype=torch.float64)
    offset = torch.randn(len(ROIS), 2, *SIZE, generator=generator, dtype=torch.float64)
    return feature.to(dtype), offset.to(dtype)


def bilinear(plane, y, x):
    h, w = len(plane), len(plane[0])
    if y < -1 or y > h or x < -1 or x > w:
        return 0.0
    y, x = min(max(y, 0), h - 1), min(max(x, 0), w - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
    ly, lx = y - y0, x - x0
    top = plane[y0][x0] * (1 - lx) + plane[y0][x1] * lx
    bottom = plane[y1][x0] * (1 - lx) + plane[y1][x1] * lx
    return top * (1 - ly) + bottom * ly


def naive_pool(x, rois, offset, ratio):
    out = torch.zeros(len(rois), x.size(1), *SIZE, dtype=torch.float64)
    for r, (n, x1, y1, x2, y2) in enumerate(rois.tolist()):
        h, w = (y2 - y1) * SCALE, (x2 - x1) * SCALE
        bin_h, bin_w = h / SIZE[0], w / SIZE[1]
        gh, gw = ratio or math.ceil(bin_h), ratio or math.ceil(bin_w)
        for c in range(x.size(1)):
            plane = x[int(n), c].tolist()
            for i in range(SIZE[0]):
                for j in range(SIZE[1]):
                    dx, dy = (0, 0) if offset is None else offset[r, :, i, j].tolist()
                    top = y1 * SCALE - 0.5 + GAMMA * h * dy + i * bin_h
                    left = x1 * SCALE - 0.5 + GAMMA * w * dx + j * bin_w
                    values = [
                        bilinear(plane, top + (a + 0.5) * bin_h / gh, left + (b + 0.5) * bin_w / gw)
                        for a in range(gh)
                        for b in range(gw)
                    ]
                    out[r, c, i, j] = sum(values) / max(len(values), 1)
    return out


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('shifted', [True, False])
def test_deform_roi_pool_is_the_naive_loop(shifted, ratio):
    feature, offset = tensors()
    offset = offset if shifted else None
    got = deform_roi_pool(feature, ROIS, offset, SIZE, SCALE, ratio, GAMMA)
    torch.testing.assert_close(got, naive_pool(feature, ROIS, offset, ratio))


@pytest.mark.parametrize('ratio', [0, 2])
def test_deform_roi_pool_passes_gradcheck(ratio):
    feature, offset = (t.requires_grad_() for t in tensors())
    assert gradcheck(
        lambda x, o: deform_roi_pool(x, ROIS, o, SIZE, SCALE, ratio, GAMMA),
        (feature, offset),
        fast_mode=True,
    )
    assert gradcheck(
        lambda x: deform_roi_pool(x, ROIS, None, SIZE, SCALE, ratio, GAMMA), feature, fast_mode=True
    )
