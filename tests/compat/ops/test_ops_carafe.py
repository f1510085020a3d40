"""CARAFE and masked convolution through mmcv's own functions."""

import pytest
import torch
from mmcv.ops import MaskedConv2d, carafe, carafe_naive
from torch.autograd import gradcheck


def inputs():
    """Two groups of two channels, a kernel of 3, twice the size."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 3, 4, generator=generator, dtype=torch.float64)
    masks = torch.randn(2, 18, 6, 8, generator=generator, dtype=torch.float64)
    return features, masks


def test_carafe_is_the_naive_loop():
    features, masks = inputs()
    expected = torch.zeros(2, 4, 6, 8, dtype=torch.float64)
    for n, c, y, x in torch.cartesian_prod(*map(torch.arange, expected.shape)).tolist():
        for ky in range(3):
            for kx in range(3):
                i, j = y // 2 + ky - 1, x // 2 + kx - 1
                if 0 <= i < 3 and 0 <= j < 4:
                    mask = masks[n, (c // 2) * 9 + ky * 3 + kx, y, x]
                    expected[n, c, y, x] += features[n, c, i, j] * mask
    torch.testing.assert_close(carafe(features, masks, 3, 2, 2), expected)
    torch.testing.assert_close(carafe_naive(features, masks, 3, 2, 2), expected)


def test_carafe_passes_gradcheck():
    leaves = tuple(t.requires_grad_() for t in inputs())
    assert gradcheck(lambda f, m: carafe(f, m, 3, 2, 2), leaves, fast_mode=True)


@pytest.mark.filterwarnings('ignore:This overload of addmm')  # mmcv's own call
def test_masked_convolution_is_the_convolution_where_the_mask_is_set():
    layer = MaskedConv2d(3, 5, (3, 1), padding=(1, 0))
    x = torch.randn(1, 3, 6, 7)
    mask = torch.rand(1, 6, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    torch.testing.assert_close(layer(x, mask.float()), layer(x) * mask)


@pytest.mark.filterwarnings('ignore:This overload of addmm')
def test_masked_convolution_of_an_empty_mask_is_zero():
    assert not MaskedConv2d(3, 5, 3, padding=1)(torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4)).any()
