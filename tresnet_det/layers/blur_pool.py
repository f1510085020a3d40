"""Anti-aliased downsampling by two (Zhang, ICML 2019; TResNet, section 2.2)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import Function, once_differentiable

from .inplace_abn import is_tracing
from .triton_kernels import check_backend, is_available

_PADDING = (1, 1, 1, 1)
_STRIDE = 2


class BlurPool(nn.Module):
    """Blur with the binomial 3x3 filter and keep every second pixel.

    ``(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))``. The filter is ``[1, 2, 1] x [1, 2, 1] /
    16``, the border is reflected, so a side needs at least two pixels. The layer has no parameters
    and keeps nothing for the backward pass: the operation is linear and fixed.

    Args:
        backend: ``'torch'``, or ``'triton'`` for the kernels of ``triton_blur.py`` on CUDA tensors
            (experimental).

    Raises:
        ValueError: If a side is shorter than two pixels, or there is no such backend.
        ImportError: If the package of ``backend='triton'`` is not installed.
    """

    kernel: torch.Tensor

    def __init__(self, backend: str = 'torch') -> None:
        super().__init__()
        if backend != 'torch':
            check_backend(backend)
        self.backend = backend
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        # A constant, not a weight: published checkpoints do not have it.
        self.register_buffer('kernel', torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if min(x.shape[-2:]) < 2:
            raise ValueError(f'BlurPool needs sides of at least 2 pixels, got {tuple(x.shape)}')
        if self.backend == 'triton' and is_available(x) and not is_tracing():
            from .triton_blur import blur_pool  # needs triton

            return blur_pool(x)
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
    def forward(ctx: Any, x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        ctx.height, ctx.width = x.shape[-2:]
        return _blur(x, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        # The filter is a product of one along each side, and so is its transpose. The narrow side
        # first: the sixteenth and the first pass then touch a quarter and a half of the input.
        grad_rows = _transposed_filter(grad_output / 16, 3, ctx.width)
        return _transposed_filter(grad_rows, 2, ctx.height), None


def _transposed_filter(grad: torch.Tensor, dim: int, length: int) -> torch.Tensor:
    """Apply the transpose of ``[1, 2, 1]`` at stride two with reflected ends, along one side.

    An even pixel is the middle of one output; an odd one lies beside one or two. Sums of slices do
    this in either layout, ten times as quick on a CPU as a transposed depthwise convolution.

    Args:
        grad: ``(N, C, H, W)``, the gradient of the outputs.
        dim: 2 or 3.
        length: Pixels of the inputs along that side, at least 2.
    """
    shape = list(grad.shape)
    shape[dim] = length
    channels_last = grad.is_contiguous(memory_format=torch.channels_last)
    result = torch.empty(
        shape,
        dtype=grad.dtype,
        device=grad.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
    along = result.movedim(dim, 0)
    grad = grad.movedim(dim, 0)
    even, odd = along[0::2], along[1::2]
    torch.mul(grad, 2, out=even)
    beside_two = len(grad) - 1  # the last odd pixel of an even length has no output after it
    torch.add(grad[:-1], grad[1:], out=odd[:beside_two])
    odd[beside_two:] = grad[beside_two : len(odd)]
    odd[0] += grad[0]  # the pixel before the first is the reflected second
    if length % 2:
        odd[-1] += grad[-1]
    return result
