"""Exact counts, the same on every machine: parameters, MACs, bytes kept for backward."""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .settings import autocast


def count_parameters(model: nn.Module) -> int:
    """Return the number of values in all parameters."""
    return sum(p.numel() for p in model.parameters())


def count_macs(forward: Callable[[], object]) -> int:
    """Return the MACs of the convolutions and matrix products in one forward pass.

    Elementwise operations, norms and pooling are not counted, as is usual.

    Args:
        forward: Runs the pass; it should do so without gradients, on one image.
    """
    with FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops() // 2  # FLOPs: 1 MAC is 2


def model_macs(model: nn.Module, size: int) -> int:
    """Return the MACs of ``model`` in evaluation mode for one image.

    Args:
        model: Takes ``(1, 3, size, size)``; it is left in evaluation mode.
        size: Pixels a side.
    """
    x = torch.rand(1, 3, size, size, device=next(model.parameters()).device)
    with torch.inference_mode():
        return count_macs(lambda: model.eval()(x))


def largest_output(model: nn.Module, size: int) -> int:
    """Return the number of values in the largest output of a layer: see :func:`model_macs`."""
    sizes = [3 * size * size]

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        sizes.append(getattr(output, 'numel', int)())

    with nn.modules.module.register_module_forward_hook(note):
        model_macs(model, size)
    return max(sizes)


def kept_bytes(forward: Callable[[], object], own: Iterable[torch.Tensor]) -> int:
    """Return the bytes that autograd keeps for the backward pass of what ``forward`` returns.

    Every tensor that is saved counts with its whole storage, each storage once, whatever layers
    share it.

    Args:
        forward: Runs the forward pass with gradients.
        own: Tensors that are there anyway and do not count: parameters and buffers.
    """
    left_out = {_identity(tensor) for tensor in own}
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        # The tensor itself is held here: the memory of a freed one would be given to another, and
        # two storages be taken for one.
        kept[_identity(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    total = sum(t.untyped_storage().nbytes() for p, t in kept.items() if p not in left_out)
    del output  # the graph was to live until the bytes are summed
    return total


def _identity(tensor: torch.Tensor) -> int:
    """Return what is one for all tensors of a storage; on the meta device data has no address."""
    return tensor.untyped_storage()._cdata


def kept_bytes_per_image(
    model: nn.Module,
    size: int = 224,
    batch: int = 2,
    precision: str = 'fp32',
    channels_last: bool = False,
) -> float:
    """Return the bytes that ``model`` keeps for its backward pass, for each image of a batch.

    Each storage counts once, parameters and buffers are excluded, the images themselves count if
    autograd keeps them. In reduced precision ``torch.autocast`` casts the weights, and the casts
    are kept: they count, shared between the images of the batch, so the result there depends on
    the batch. A model on the meta device gives the same result, without the memory.

    Args:
        model: Takes ``(batch, 3, size, size)``. It runs once in training mode and stays in it;
            its running statistics see that batch.
        size: Pixels a side.
        batch: Images in the batch.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        channels_last: Layout of the images; the model's own layout is the caller's affair.
    """
    device = next(model.parameters()).device
    x = torch.rand(batch, 3, size, size, device=device)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)

    def forward() -> object:
        with autocast(device.type, precision):
            return model.train()(x)

    return kept_bytes(forward, [*model.parameters(), *model.buffers()]) / batch
