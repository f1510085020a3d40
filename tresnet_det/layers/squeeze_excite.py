"""Squeeze-and-excitation (Hu et al., CVPR 2018; TResNet, section 2.5)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import Function, once_differentiable

from .inplace_abn import InPlaceABN, Normalized
from .tracing import is_tracing
from .triton_kernels import check_backend, is_available


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate in (0, 1) that the whole image decides.

    ``(N, C, H, W) -> (N, C, H, W)``: global average, 1x1 convolution to ``reduced_channels``,
    ReLU, 1x1 convolution back, sigmoid, product.

    Args:
        channels: Channels ``C`` of the input.
        reduced_channels: Channels between the two convolutions.
        backend: ``'torch'``, or ``'triton'`` for the product of ``triton_gate.py`` on CUDA tensors.

    Raises:
        ValueError: If there is no such backend.
        ImportError: If the package of ``backend='triton'`` is not installed.
    """

    def __init__(self, channels: int, reduced_channels: int, backend: str = 'torch') -> None:
        super().__init__()
        check_backend(backend)
        self.backend = backend
        self.fc1 = nn.Conv2d(channels, reduced_channels, kernel_size=1)
        self.fc2 = nn.Conv2d(reduced_channels, channels, kernel_size=1)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """Return the gate of each channel, ``(N, C, 1, 1)``, values in (0, 1).

        Args:
            x: ``(N, C, H, W)``.
        """
        squeezed = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        return torch.sigmoid(self.fc2(F.relu(self.fc1(squeezed), inplace=True)))

    def forward(self, x: torch.Tensor, norm: nn.Module | None = None) -> torch.Tensor:
        """Return the gated image, ``(N, C, H, W)``; with ``norm``, that of ``norm(x)``.

        The product needs the norm's output ``y`` for the gate's gradient, and the norm needs its
        input ``x``. With an identity-activation :class:`InPlaceABN`, ``y`` is an affine function of
        ``x`` per channel, so it is computed again and ``x`` alone is kept for backward. Any other
        norm is called as a module.

        Args:
            x: ``(N, C, H, W)``.
            norm: The norm between the convolution and this layer, where this layer applies it.
        """
        if norm is None:
            return self.product(x, self.gate(x))
        keeps_less = torch.is_grad_enabled() and x.numel() > 0 and not is_tracing()
        if keeps_less and isinstance(norm, InPlaceABN) and norm.activation == 'identity':
            return self.scale_normalized(norm.normalize(x))[0]
        return self(norm(x))

    def product(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Return ``x * gate``, keeping both for backward.

        Args:
            x: ``(N, C, H, W)``.
            gate: ``(N, C, 1, 1)``.
        """
        if self.backend == 'triton' and is_available(x) and not is_tracing():
            from .triton_gate import gate_product  # needs triton

            return gate_product(x, gate)
        return x * gate

    def scale_normalized(self, normalized: Normalized) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``y * gate``, keeping what ``y`` is recomputed from, and the gate.

        Args:
            normalized: What an identity-activation :class:`InPlaceABN` makes of ``(N, C, H, W)``.
        """
        gate = self.gate(normalized.y)
        return _GateNormOutput.apply(normalized.y, gate, *normalized.sources), gate


class _GateNormOutput(Function):
    """``y * gate`` for ``y = (x - mean) * invstd * scale + bias``, keeping ``x`` instead of ``y``.

    ``x`` and the norm's figures are there to recompute; their gradients flow through ``y``.
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
        # sum(grad * y) over the image, with the per-channel figures taken out of the sum
        centred = x - mean[:, None, None]  # (N, C, H, W), in the statistics' precision
        with_x = (grad_output * centred).sum((2, 3))  # (N, C)
        alone = grad_output.sum((2, 3), dtype=mean.dtype)  # (N, C)
        grad_gate = with_x * (scale * invstd) + alone * bias
        return grad_y, grad_gate[:, :, None, None].to(gate.dtype), None, None, None, None, None
