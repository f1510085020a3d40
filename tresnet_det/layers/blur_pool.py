"""Anti-aliased downsampling by two (Zhang, ICML 2019; TResNet, section 2.2)."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import Function, once_differentiable

from .tracing import is_tracing

_PADDING = (1, 1, 1, 1)
_STRIDE = 2


class BlurPool(nn.Module):
    """Blur with the binomial 3x3 filter and keep every second pixel.

    ``(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))``. The filter is ``[1, 2, 1] x [1, 2, 1] /
    16``, the border is reflected, so a side needs at least two pixels. The layer has no parameters
    and keeps nothing for the backward pass: the operation is linear and fixed.

    Raises:
        ValueError: If a side is shorter than two pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        # A constant, not a weight: published checkpoints do not have it.
        self.register_buffer('kernel', torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if min(x.shape[-2:]) < 2:
            raise ValueError(f'BlurPool needs sides of at least 2 pixels, got {tuple(x.shape)}')
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], -1, -1, -1)  # (C, 1, 3, 3)
        if is_tracing():
            return _blur(x, kernel)
        return _BlurPool.apply(x, kernel)


def _blur(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    padded = F.pad(x, _PADDING, mode='reflect')
    return F.conv2d(padded, kernel, stride=_STRIDE, groups=x.shape[1])


class _BlurPool(Function):
    """:func:`_blur` without the padded input that autograd would keep for the fixed kernel."""

    @staticmethod
    def forward(ctx, x, kernel):
        ctx.input_shape = x.shape
        ctx.save_for_backward(kernel)
        return _blur(x, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (kernel,) = ctx.saved_tensors
        n, c, h, w = ctx.input_shape
        grad_padded = torch.nn.grad.conv2d_input(
            (n, c, h + 2, w + 2),
            kernel.to(grad_output.dtype),
            grad_output,
            stride=_STRIDE,
            groups=c,
        )
        # Only the shape of the second argument is read; an expanded scalar has it for nothing.
        like_input = grad_output.new_empty(()).expand(n, c, h, w)
        return torch.ops.aten.reflection_pad2d_backward(grad_padded, like_input, _PADDING), None
