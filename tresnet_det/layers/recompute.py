"""Less activation memory: block outputs computed again in backward, from what is kept anyway."""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import Function, once_differentiable


class Recipe:
    """Computes such an output again, by a few elementwise operations.

    Two functions ask for it in a backward pass: first the next block's convolution, whose input it
    is, then the ReLU that made it, which takes over what the first one had computed.

    Args:
        compute: Maps the sources to the output.
        *sources: Kept for backward, so they should be what others keep too.
    """

    def __init__(self, compute: Callable[..., torch.Tensor], *sources: torch.Tensor) -> None:
        self.compute = compute
        self.sources = [source.detach() for source in sources]
        self._waiting: torch.Tensor | None = None

    def __call__(self, *sources: torch.Tensor) -> torch.Tensor:
        """Return the output from the sources, as autograd has kept and checked them."""
        value, self._waiting = self._waiting, None
        if value is None:
            value = self._waiting = self.compute(*sources)
        return value


def relu_(x: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Return ``x.relu_()``, keeping the recipe of the result in place of the result."""
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
        y = ctx.recipe(*ctx.saved_tensors)
        grad_x = torch.ops.aten.threshold_backward(grad_output, y, 0)
        return grad_x, None, *[None] * len(ctx.saved_tensors)
