"""Layers that keep for backward how a tensor was made instead of the tensor itself."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

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
        uses: How many layers ask for it in a backward pass, 1 or 2.
    """

    def __init__(
        self, compute: Callable[..., torch.Tensor], *sources: torch.Tensor, uses: int = 1
    ) -> None:
        self.compute = compute
        self.sources = [source.detach() for source in sources]
        self.uses = uses
        self._waiting: torch.Tensor | None = None

    def again(self, sources: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the tensor; what the first of two uses computes waits for the second.

        Args:
            sources: As autograd has kept them and checked that nothing has changed them.
        """
        value, self._waiting = self._waiting, None
        if value is None:
            value = self.compute(*sources)
            if self.uses > 1:
                self._waiting = value
        return value


def keeps_recipes() -> bool:
    """Tell whether a backward pass may follow that the compiler does not plan by itself."""
    return torch.is_grad_enabled() and not is_tracing()


def convolve(conv: nn.Conv2d, x: torch.Tensor, recipe: Recipe | None) -> torch.Tensor:
    """Return ``conv(x)``; where gradients are recorded, ``recipe`` is kept in place of ``x``.

    Args:
        conv: With a bias, or of a subclass, it keeps ``x`` as usual.
        x: ``(N, C, H, W)``.
        recipe: Computes ``x`` again; None keeps ``x``.
    """
    if (
        recipe is None
        or not keeps_recipes()
        or type(conv) is not nn.Conv2d
        or conv.bias is not None
    ):
        return conv(x)
    device = x.device.type
    autocasts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if autocasts and x.dtype != torch.float64:  # which autocast leaves alone
        x = x.to(torch.get_autocast_dtype(device))
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return _RecomputingConv.apply(x, conv.weight, options, recipe, *recipe.sources)


class _RecomputingConv(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        options: tuple,
        recipe: Recipe,
        *sources: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, *sources)
        ctx.options, ctx.recipe, ctx.dtype = options, recipe, x.dtype
        # The cast of the weight is not kept: it is as cheap to make again as the input.
        # The meta device, which computes shapes only, knows no autocast.
        knows_autocast = torch.amp.is_autocast_available(x.device.type)
        with torch.autocast(x.device.type, enabled=False) if knows_autocast else nullcontext():
            return F.conv2d(x, weight.to(x.dtype), None, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, *sources = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        x = ctx.recipe.again(sources).to(ctx.dtype)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad_output, x, weight.to(x.dtype), None, stride, padding, dilation,
            False, (0, 0), groups, (needs_x, needs_weight, False),
        )  # fmt: skip
        if needs_weight:
            grad_weight = grad_weight.to(weight.dtype)
        return grad_x, grad_weight, None, None, *[None] * len(sources)


def relu_(x: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Return ``x.relu_()``, keeping the recipe of the result in place of the result.

    Args:
        x: Overwritten; nothing else may keep it for backward.
        recipe: Computes the result again.
    """
    return _RecomputingReLU.apply(x, recipe, *recipe.sources)


class _RecomputingReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, recipe: Recipe, *sources: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*sources)
        ctx.recipe = recipe
        ctx.mark_dirty(x)
        return x.relu_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        y = ctx.recipe.again(ctx.saved_tensors)
        grad_x = torch.ops.aten.threshold_backward(grad_output, y, 0)
        return grad_x, None, *[None] * len(ctx.saved_tensors)
