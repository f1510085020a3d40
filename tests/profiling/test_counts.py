"""Bytes kept for the backward pass, MACs and parameters, counted by hand."""

import torch
from torch import nn

from tresnet_det import TResNet
from tresnet_det.profiling.counts import (
    count_parameters,
    kept_bytes,
    kept_bytes_per_image,
    largest_output,
    model_macs,
)

FLOAT = 4


def test_a_storage_that_two_layers_keep_counts_once():
    # The ReLU's result is what the second convolution keeps; its own result nobody does.
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1))
    assert kept_bytes_per_image(model, size=64) == (3 + 8) * 64 * 64 * FLOAT


def test_the_largest_output_is_that_of_any_layer():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 1), nn.AvgPool2d(2))
    assert largest_output(model, 64) == 16 * 64 * 64


def test_a_view_counts_with_its_whole_storage():
    x = torch.rand(10, 10, requires_grad=True) * 2
    assert kept_bytes(lambda: x[:2].exp(), []) == 2 * 10 * FLOAT  # the result of exp
    assert kept_bytes(lambda: x[:2].square(), []) == 10 * 10 * FLOAT  # its input, a part of x


def test_bf16_keeps_half_of_a_large_image_and_the_cast_weights():
    model = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.ReLU())
    weights = 8 * 3 * 2
    expected = (3 + 8) * 64 * 64 * 2 + weights / 4
    assert kept_bytes_per_image(model, size=64, batch=4, precision='bf16') == expected


def test_macs_and_parameters_of_a_convolution_counted_by_hand():
    model = nn.Conv2d(3, 8, 3, padding=1)
    assert model_macs(model, 16) == 16 * 16 * 8 * 3 * 3 * 3
    assert count_parameters(model) == 8 * 3 * 3 * 3 + 8


def test_the_meta_device_gives_the_same_figures_without_the_memory(tiny_arch):
    def figures(device):
        with torch.device(device):
            model = TResNet(arch=tiny_arch)
        return kept_bytes_per_image(model, 64), model_macs(model, 64)

    assert figures('meta') == figures('cpu')
