"""What a training step asks of the device: how many operations, and in what precision."""

from collections import Counter

import pytest
import torch
import torchvision
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tresnet_det import TResNet

BATCH = 5  # no weight has that many rows


class Recorder(TorchDispatchMode):
    """Counts the operations, and those with a float32 feature map as a result, by name."""

    def __init__(self):
        super().__init__()
        self.launches, self.float32_maps = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view and 'empty' not in name:
            self.launches[name] += 1
            for x in filter(torch.is_tensor, tree_leaves(result)):
                is_map = x.dim() == 4 and len(x) == BATCH and x.shape[-1] > 1
                self.float32_maps[name] += is_map and x.dtype == torch.float32
        return result


def record(model, images, autocast=False):
    """Record the forward and backward pass of a training step."""
    with Recorder() as recorder:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            outputs = model(images)
        last = outputs[-1] if isinstance(outputs, tuple) else outputs
        last.mean().backward()
    return recorder


def test_a_step_has_at_most_1200_launches_where_resnet50_has_400():
    images = torch.rand(2, 3, 64, 64)
    launches = record(TResNet().train(), images).launches
    baseline = record(torchvision.models.resnet50(), images).launches
    print(f'{launches.total()} against {baseline.total()}: {launches.most_common(20)}')
    assert launches.total() <= 1200


@pytest.mark.parametrize(
    'options', [{}, dict(recompute_outputs=True), dict(norm_eval=True)], ids=str
)
def test_no_map_of_a_step_in_half_precision_is_float32(options, tiny_arch):
    model = TResNet(arch=tiny_arch, frozen_stages=-1, **options).train()
    images = torch.rand(BATCH, 3, 64, 64, dtype=torch.bfloat16)
    maps = record(model, images, autocast=True).float32_maps
    assert not +maps
