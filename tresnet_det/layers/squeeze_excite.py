"""Squeeze-and-excitation (Hu et al., CVPR 2018; TResNet, section 2.5).

Its product ``x * gate`` keeps both for backward. Behind a norm, ``x`` can be computed again instead
(:func:`norm_and_gate`); before a convolution, the product can (:func:`gate_and_convolve`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import Function, once_differentiable

from .inplace_abn import InPlaceABN, is_tracing
from .triton_kernels import check_backend, is_available


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
        # sum(grad * y) over the image, with the per-channel factors taken out of the sum
        centred = x - mean[:, None, None]  # (N, C, H, W), in the statistics' precision
        with_x = (grad_output * centred).sum((2, 3))  # (N, C)
        alone = grad_output.sum((2, 3), dtype=mean.dtype)  # (N, C)
        grad_gate = with_x * (scale * invstd) + alone * bias
        return grad_y, grad_gate[:, :, None, None].to(gate.dtype), None, None, None, None, None


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
