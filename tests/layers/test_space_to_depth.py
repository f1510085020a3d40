"""SpaceToDepth: the order of its channels, its layout, and the sides that it takes."""

import pytest
import torch

from tresnet_det.layers import SpaceToDepth


def test_channels_are_row_then_column_then_colour():
    x = torch.arange(2 * 3 * 8 * 12.0).reshape(2, 3, 8, 12)
    y = SpaceToDepth()(x)
    assert y.shape == (2, 48, 2, 3)
    for row in range(4):
        for column in range(4):
            for colour in range(3):
                channel = (row * 4 + column) * 3 + colour
                expected = x[:, colour, row::4, column::4]
                assert torch.equal(y[:, channel], expected)


def test_channels_last_gives_the_same_values_in_channels_last():
    x = torch.rand(2, 3, 8, 12)
    y = SpaceToDepth()(x.to(memory_format=torch.channels_last))
    assert torch.equal(y, SpaceToDepth()(x))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_sides_that_do_not_divide_are_an_error():
    with pytest.raises(ValueError, match='multiples of 4'):
        SpaceToDepth()(torch.rand(1, 3, 8, 10))
