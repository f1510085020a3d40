"""Deformable pooling of regions through mmcv's own function and layers, against float64 loops."""

import math

import pytest
import torch
from mmcv.ops import DeformRoIPoolPack, ModulatedDeformRoIPoolPack, deform_roi_pool
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


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_deform_roi_pool_keeps_its_dtype(dtype):
    feature, offset = (t.requires_grad_() for t in tensors(dtype))
    out = deform_roi_pool(feature, ROIS.to(dtype), offset, SIZE, SCALE, 2, GAMMA)
    rois = ROIS.to(dtype).double()
    expected = naive_pool(feature.detach().double(), rois, offset.detach().double(), 2)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(out, expected.to(dtype), rtol=4 * eps, atol=max(eps, 1e-5))
    out.sum().backward()
    assert feature.grad.dtype == offset.grad.dtype == dtype


def test_no_regions_give_no_output_and_no_gradient():
    feature = tensors()[0].requires_grad_()
    out = deform_roi_pool(feature, ROIS[:0], None, SIZE, SCALE, 0, GAMMA)
    assert out.shape == (0, 3, *SIZE)
    out.sum().backward()
    assert not feature.grad.any()


@pytest.mark.parametrize('layer', [DeformRoIPoolPack, ModulatedDeformRoIPoolPack])
def test_the_layers_begin_as_plain_pooling_and_train(layer):
    pack = layer(SIZE, output_channels=3, deform_fc_channels=8, spatial_scale=SCALE)
    feature, rois = tensors(torch.float32)[0], ROIS.float()
    out = pack(feature, rois)
    plain = deform_roi_pool(feature, rois, None, SIZE, SCALE, 0, GAMMA)
    # the mask's sigmoid begins at a half
    torch.testing.assert_close(out, plain * (0.5 if layer is ModulatedDeformRoIPoolPack else 1))
    out.square().sum().backward()
    assert pack.offset_fc[-1].weight.grad.abs().sum() > 0
