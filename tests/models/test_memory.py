"""What the backbones keep for their backward pass: exact counts of bytes, the same on any device.

``pytest tests/models/test_memory.py -rP`` prints the figures.
"""

import pytest
import torch
import torchvision

from tresnet_det import TResNet

MIB = 2**20


def kept_mib_per_image(model, size=224):
    """Bytes of all tensors that autograd keeps, each storage once, parameters and buffers aside."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    x = torch.rand(2, 3, size, size)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        output = model.train()(x)
    storages = {p: t.untyped_storage().nbytes() for p, t in kept.items() if p not in own}
    del output
    return sum(storages.values()) / MIB / len(x)


@pytest.fixture(scope='module')
def resnet50():
    return kept_mib_per_image(torchvision.models.resnet50())


def test_the_count_is_right_for_two_layers_counted_by_hand():
    # The convolution keeps its input, the ReLU its result: 2 images of 3 and of 8 channels.
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU())
    assert kept_mib_per_image(model, size=64) == (3 + 8) * 64 * 64 * 4 / MIB


@pytest.mark.parametrize(
    ('arch', 'expected'), [('m', 42.51), ('l', 70.47), ('xl', 91.88), ('v2_l', 98.65)]
)
def test_kept_bytes_of_a_224_pixel_image_in_fp32(arch, expected, resnet50):
    ours = kept_mib_per_image(TResNet(arch=arch))
    print(f'TResNet-{arch.upper()} {ours:.2f} MiB, ResNet-50 {resnet50:.2f}: {ours / resnet50:.3f}')
    assert ours == pytest.approx(expected, abs=0.005)
    assert resnet50 == pytest.approx(82.03, abs=0.005)
