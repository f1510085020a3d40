"""Convolutions that keep for backward how their input was made instead of the input itself."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import Function, once_differentiable

from .tracing import is_tracing


class Recipe:
    """How to compute a tensor again, cheaply, from tensors that backward keeps in any case.

    Args:
        compute: Maps the sources to the tensor; a few elementwise operations.
        *sources: What it is computed from. They are kept, so they should be what others keep too.
    """

    def __init__(self, compute: Callable[..., torch.Tensor], *sources: torch.Tensor) -> None:
        self.compute = compute
        self.sources = sources


def convolve(conv: nn.Conv2d, x: torch.Tensor, recipe: Recipe | None) -> torch.Tensor:
    """Return ``conv(x)``; where gradients are recorded, ``recipe`` is kept in place of ``x``.

    Args:
        conv: With a bias, or of a subclass, it keeps ``x`` as usual.
        x: ``(N, C, H, W)``.
        recipe: Computes ``x`` again; None keeps ``x``.
    """
    plain = recipe is None or not torch.is_grad_enabled() or is_tracing()
    if plain or type(conv) is not nn.Conv2d or conv.bias is not None:
        return conv(x)
    device = x.device.type
    if torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))
    sources = [source.detach() for source in recipe.sources]
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return _RecomputingConv.apply(x, conv.weight, options, recipe.compute, *sources)


class _RecomputingConv(Function):
    @staticmethod
    def forward(ctx, x, weight, options, compute, *sources):
        ctx.save_for_backward(weight, *sources)
        ctx.options, ctx.compute, ctx.dtype = options, compute, x.dtype
        # The cast of the weight is not kept: it is as cheap to make again as the input.
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x, weight.to(x.dtype), None, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        weight, *sources = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        x = ctx.compute(*sources).to(ctx.dtype)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad_output, x, weight.to(x.dtype), None, stride, padding, dilation,
            False, (0, 0), groups, (needs_x, needs_weight, False),
        )  # fmt: skip
        if needs_weight:
            grad_weight = grad_weight.to(weight.dtype)
        return grad_x, grad_weight, None, None, *[None] * len(sources)
