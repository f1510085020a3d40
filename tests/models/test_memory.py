"""What the backbones keep for their backward pass: exact counts of bytes, the same on any device.

``pytest tests/models/test_memory.py -rP`` prints the metrics.
"""

import pytest
import torch
import torchvision

from tresnet_det import TResNet
from tresnet_det.profiling.counts import kept_bytes_per_image

MIB = 2**20


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('m', 42.49),
        ('m, recompute_outputs', 36.75),
        ('l', 70.44),
        ('xl', 91.85),
        ('v2_l', 98.62),
        ('ResNet-50', 82.03),
    ],
)
def test_kept_mib_of_a_224_pixel_image_in_fp32(name, expected):
    with torch.device('meta'):
        if name == 'ResNet-50':
            model = torchvision.models.resnet50()
        else:
            arch, _, option = name.partition(', ')
            model = TResNet(arch=arch, recompute_outputs=bool(option))
        kept = kept_bytes_per_image(model) / MIB
    print(f'{name}: {kept:.2f} MiB')
    assert kept == pytest.approx(expected, abs=0.005)
