"""mmcv's layers that MMDetection's configs name, on the operators in Python.

Corner pooling and point sampling need no operator; they are held here because detectors that use
them must run too.
"""

import pytest
import torch
from mmcv.cnn import build_conv_layer
from mmcv.ops import (
    CornerPool,
    MaskedConv2d,
    ModulatedDeformConv2dPack,
    SAConv2d,
    SimpleRoIAlign,
    point_sample,
    rel_roi_point_to_rel_img_point,
)
from torch.autograd import gradcheck
from torchvision.ops import deform_conv2d


def rand(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ('mode', 'axis', 'reverse'),
    [('top', 2, True), ('bottom', 2, False), ('left', 3, True), ('right', 3, False)],
)
def test_corner_pool_is_the_largest_value_seen_so_far(mode, axis, reverse):
    x = rand(2, 3, 4, 5).requires_grad_()
    out = CornerPool(mode)(x)
    size = x.size(axis)
    for i in range(size):
        seen = range(i, size) if reverse else range(i + 1)
        largest = torch.stack([x.select(axis, j) for j in seen]).amax(0)
        assert torch.equal(out.select(axis, i), largest)
    assert gradcheck(CornerPool(mode), x, fast_mode=True)


def sample(plane, y, x):
    """Bilinear sample of an (H, W) plane, zeros around it; y and x in pixels."""
    total = 0.0
    for i in (int(y // 1), int(y // 1) + 1):
        for j in (int(x // 1), int(x // 1) + 1):
            if 0 <= i < plane.size(0) and 0 <= j < plane.size(1):
                total = total + plane[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


def test_point_sample_is_bilinear_between_pixel_centres():
    x, points = rand(1, 2, 4, 5), torch.rand(1, 7, 2, dtype=torch.float64) * 1.2 - 0.1
    out = point_sample(x, points)
    for p, (px, py) in enumerate(points[0].tolist()):
        for c in range(2):
            expected = sample(x[0, c], py * 4 - 0.5, px * 5 - 0.5)
            torch.testing.assert_close(float(out[0, c, p]), float(expected))
    leaves = x.requires_grad_(), points.requires_grad_()
    assert gradcheck(point_sample, leaves, fast_mode=True)


def test_simple_roi_align_samples_the_middle_of_each_bin():
    x = rand(2, 2, 8, 8).float().requires_grad_()
    rois = torch.tensor([[0.0, 4, 2, 12, 10], [1, 0, 0, 16, 6]])
    out = SimpleRoIAlign(output_size=(2, 2), spatial_scale=0.5)(x, rois)
    for r, (n, x1, y1, x2, y2) in enumerate(rois.tolist()):
        for i in range(2):
            for j in range(2):
                at = ((y1 + (i + 0.5) * (y2 - y1) / 2) / 2, (x1 + (j + 0.5) * (x2 - x1) / 2) / 2)
                expected = sample(x[int(n), 1], at[0] - 0.5, at[1] - 0.5)
                torch.testing.assert_close(out[r, 1, i, j], expected, rtol=0, atol=1e-5)
    out.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_points_in_a_region_become_points_in_the_image():
    rois = torch.tensor([[0.0, 10, 20, 30, 60]])
    got = rel_roi_point_to_rel_img_point(rois, torch.tensor([[[0.5, 0.25]]]), (100, 200), 1.0)
    torch.testing.assert_close(got, torch.tensor([[[20 / 200, 30 / 100]]]))


@pytest.mark.parametrize('name', ['DCN', 'DCNv2'])
def test_a_deformable_layer_of_a_config_is_torchvisions_function_with_its_offsets(name):
    layer = build_conv_layer(dict(type=name, deform_groups=2), 4, 6, 3, padding=1).double()
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.3)
    x = rand(2, 4, 6, 5).requires_grad_()
    out = layer(x)
    offset, mask = layer.conv_offset(x), None
    if isinstance(layer, ModulatedDeformConv2dPack):
        first, second, mask = offset.chunk(3, dim=1)
        offset, mask = torch.cat((first, second), dim=1), mask.sigmoid()
    expected = deform_conv2d(
        x, offset, layer.weight, getattr(layer, 'bias', None), padding=1, mask=mask
    )
    torch.testing.assert_close(out, expected)
    parameters = list(layer.parameters())
    upstream = torch.randn_like(out)
    got = torch.autograd.grad(out, [x, *parameters], upstream)
    wanted = torch.autograd.grad(expected, [x, *parameters], upstream)
    torch.testing.assert_close(got, wanted)


def test_switchable_atrous_convolution_trains():
    layer = SAConv2d(8, 4, 3, padding=1, bias=False, use_deform=True)
    out = layer(torch.randn(2, 8, 6, 7))
    out.square().sum().backward()
    assert out.shape == (2, 4, 6, 7)
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.filterwarnings('ignore:This overload of addmm')
def test_masked_convolution_of_an_empty_mask_is_zero():
    assert not MaskedConv2d(3, 5, 3, padding=1)(torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4)).any()
