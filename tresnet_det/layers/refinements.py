"""The paper's refinements of a ResNet other than In-Place ABN (TResNet, sections 2.1, 2.2 and 2.5).

:class:`SpaceToDepth` for the stem, :class:`BlurPool` for anti-aliased downsampling (Zhang, ICML
2019) and :class:`SqueezeExcite` (Hu et al., CVPR 2018) with its memory-saving forms: its product
``x * gate`` keeps both for backward; behind a norm, ``x`` can be computed again instead
(:func:`norm_and_gate`), and before a convolution the product can (:func:`gate_and_convolve`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import Function, once_differentiable

from .inplace_abn import InPlaceABN, is_tracing, renormalize
from .triton_kernels import check_backend, is_available

_STRIDE = 2  # of the blur


class SpaceToDepth(nn.Module):
    """Move every 4x4 block of pixels into the channels, at a quarter of the resolution.

    ``(N, C, H, W) -> (N, 16 * C, H / 4, W / 4)``; ``H`` and ``W`` must be multiples of 4. The
    channels are ordered (row in block, column in block, colour), which is the order that the
    published weights expect and not that of ``torch.nn.functional.pixel_unshuffle``. A
    channels_last input gives a channels_last output.

    Raises:
        ValueError: If a side is no multiple of 4.
    """

    block_size = 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        b = self.block_size
        if h % b or w % b:
            raise ValueError(f'SpaceToDepth needs sides that are multiples of {b}, got {h}x{w}')
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        x = x.reshape(n, c, h // b, b, w // b, b)
        if channels_last and not x.is_contiguous():
            # (N, C, H/4, rows, W/4, columns) -> (N, H/4, W/4, rows * columns * C), seen as NCHW
            x = x.permute(0, 2, 4, 3, 5, 1).reshape(n, h // b, w // b, b * b * c)
            return x.permute(0, 3, 1, 2)
        # (N, C, H/4, rows, W/4, columns) -> (N, rows * columns * C, H/4, W/4)
        return x.permute(0, 3, 5, 1, 2, 4).reshape(n, b * b * c, h // b, w // b)


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
            padded = F.pad(x, (1, 1, 1, 1), mode='reflect')
            return F.conv2d(padded, kernel, stride=_STRIDE, groups=x.shape[1])
        return _BlurPool.apply(x, kernel)


class _BlurPool(Function):
    """The blur without a padded input: autograd would keep it, and it is contiguous on CUDA."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        ctx.height, ctx.width = height, width = x.shape[-2:]
        y = F.conv2d(x, kernel, stride=_STRIDE, padding=1, groups=x.shape[1])
        # What zeros leave out: before the first pixel is the reflected second one, and at an odd
        # length the last but one after the last. Its share is a quarter of that line's own blur.
        for row in (0, height - 1) if height % 2 else (0,):
            line = x[:, :, abs(row - 1)]
            line = torch.cat([line[..., 1:2], line, line[..., -2:-1]], dim=2)
            y[:, :, row // 2].add_(_blur_line(line), alpha=0.25)
        for column in (0, width - 1) if width % 2 else (0,):
            line = x[:, :, :, abs(column - 1)]
            y[:, :, :, column // 2].add_(_blur_line(line, padding=1), alpha=0.25)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, None]:
        # The filter is a product of one along each side, and so is its transpose. The narrow side
        # first: the sixteenth and the first pass then touch a quarter and a half of the input.
        grad_rows = _transposed_filter(grad_output / 16, 3, ctx.width)
        return _transposed_filter(grad_rows, 2, ctx.height), None


def _blur_line(line: torch.Tensor, padding: int = 0) -> torch.Tensor:
    """Apply ``[1, 2, 1] / 4`` at stride two, ``(N, C, L)``: the mean of two means of two."""
    return F.avg_pool1d(F.avg_pool1d(line, 2, 1, padding), 2, 2)


def _transposed_filter(grad: torch.Tensor, dim: int, length: int) -> torch.Tensor:
    """Apply the transpose of ``[1, 2, 1]`` at stride two with reflected ends, along one side.

    An even pixel is the middle of one output; an odd one is next to one or two. Sums of slices do
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


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate in (0, 1) that the whole image decides.

    ``(N, C, H, W) -> (N, C, H, W)``: global average, 1x1 convolution to ``reduced_channels``,
    ReLU, 1x1 convolution back, sigmoid, product.

    Args:
        channels: Channels ``C`` of the input.
        reduced_channels: Channels between the two convolutions.
        backend: ``'torch'``, or ``'triton'`` for the product of ``triton_gate.py`` on CUDA tensors
            (experimental).

    Raises:
        ValueError: If there is no such backend.
        ImportError: If the package of ``backend='triton'`` is not installed.
    """

    def __init__(self, channels: int, reduced_channels: int, backend: str = 'torch') -> None:
        super().__init__()
        if backend != 'torch':
            check_backend(backend)
        self.backend = backend
        self.fc1 = nn.Conv2d(channels, reduced_channels, kernel_size=1)
        self.fc2 = nn.Conv2d(reduced_channels, channels, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the gated image, ``(N, C, H, W)``, keeping ``x`` and the gate for backward."""
        return self.product(x, self.gate(x))

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """Return the gate of each channel, ``(N, C, 1, 1)``, values in (0, 1).

        Args:
            x: ``(N, C, H, W)``.
        """
        squeezed = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        return torch.sigmoid(self.fc2(F.relu(self.fc1(squeezed), inplace=True)))

    def product(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Return ``x * gate`` for ``(N, C, H, W)`` and ``(N, C, 1, 1)``."""
        if self.backend == 'triton' and is_available(x) and not is_tracing():
            from .triton_gate import gate_product  # needs triton

            return gate_product(x, gate)
        return x * gate


def norm_and_gate(x: torch.Tensor, norm: nn.Module, se: SqueezeExcite) -> torch.Tensor:
    """Return ``se(norm(x))``, ``(N, C, H, W)``.

    The gate's gradient needs the norm's output, and the norm needs its input ``x``. An
    identity-activation :class:`InPlaceABN` is affine per channel, so that ``x`` alone is kept and
    the output computed again. Any other norm keeps what it does by itself.
    """
    if (
        isinstance(norm, InPlaceABN)
        and norm.activation == 'identity'
        and x.numel()
        and _may_recompute()
    ):
        y, *sources = norm.normalize(x)
        return gate_norm_output(y, se.gate(y), sources)
    return se(norm(x))


def gate_norm_output(
    y: torch.Tensor, gate: torch.Tensor, sources: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return ``y * gate``, keeping the gate and the sources.

    Args:
        y: ``(N, C, H, W)``, the first of what :meth:`InPlaceABN.normalize` returns.
        gate: ``(N, C, 1, 1)``.
        sources: The others.
    """
    return _GateNormOutput.apply(y, gate, *sources)


class _GateNormOutput(Function):
    """``y * gate`` for ``y = (x - mean) * invstd * scale + bias``, keeping ``x`` instead of ``y``.

    ``x`` and the norm's statistics are there to recompute; their gradients flow through ``y``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: torch.Tensor,
        gate: torch.Tensor,
        x: torch.Tensor,
        mean: torch.Tensor,
        invstd: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(gate, x, mean, invstd, scale, bias)
        return y * gate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, x, mean, invstd, scale, bias = ctx.saved_tensors
        grad_y = grad_output * gate if ctx.needs_input_grad[0] else None
        y = renormalize(x, mean, invstd, scale, bias)
        grad_gate = (grad_output * y).sum((2, 3), keepdim=True, dtype=mean.dtype)  # (N, C, 1, 1)
        return grad_y, grad_gate.to(gate.dtype), None, None, None, None, None


def gate_and_convolve(x: torch.Tensor, se: SqueezeExcite, conv: nn.Conv2d) -> torch.Tensor:
    """Return ``conv(se(x))``, keeping ``x`` and the gate, which their product keeps in any case."""
    gate = se.gate(x)
    product = se.product(x, gate)
    if not _may_recompute():
        return conv(product)
    return convolve(conv, product, torch.mul, x.detach(), gate.detach())


def convolve(
    conv: nn.Conv2d,
    x: torch.Tensor,
    compute: Callable[..., torch.Tensor],
    *sources: torch.Tensor,
) -> torch.Tensor:
    """Return ``conv(x)``, where backward computes ``x`` again instead of keeping it.

    Args:
        conv: With a bias, or of a subclass, it keeps ``x`` as usual.
        x: ``(N, C, H, W)``.
        compute: Maps the sources to ``x``, cheaply.
        *sources: Kept for backward; no gradient flows through them.
    """
    if type(conv) is not nn.Conv2d or conv.bias is not None:
        return conv(x)
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return _RecomputingConv.apply(x, conv.weight, options, compute, *sources)


class _RecomputingConv(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        options: tuple,
        compute: Callable[..., torch.Tensor],
        *sources: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, *sources)
        ctx.options, ctx.compute = options, compute
        # Detached: autocast would remember the cast of a parameter, here one without a gradient.
        return F.conv2d(x, weight.detach(), None, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, *sources = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        # Autocast's casts are made again as well; autograd casts the gradients back.
        dtype = grad_output.dtype
        x = ctx.compute(*sources).to(dtype)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad_output, x, weight.to(dtype), None, stride, padding, dilation,
            False, (0, 0), groups, (*ctx.needs_input_grad[:2], False),
        )  # fmt: skip
        return grad_x, grad_weight, None, None, *[None] * len(sources)


def _may_recompute() -> bool:
    # A compiler plans by itself what a backward pass keeps; without one, nothing is kept.
    return torch.is_grad_enabled() and not is_tracing()
