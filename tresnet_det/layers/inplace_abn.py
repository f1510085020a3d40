"""In-Place Activated BatchNorm (Rota Bulo et al., CVPR 2018) on torch's own kernels.

A batch norm followed by a leaky ReLU keeps two large tensors for its backward pass: the norm's
input ``x`` and the activation's input ``z``. Both can be recovered from the output ``y``, which the
next convolution keeps anyway. This module keeps ``y`` and nothing else of that size.

Notation, per channel: ``g = |w| + eps`` is the scale, ``b`` the bias, ``m`` and ``r`` the mean and
the inverse standard deviation of ``x``;

    z = g * (x - m) * r + b,        y = z if z > 0 else slope * z.

The batch norm's gradient needs ``x`` only through ``xhat = (x - m) * r``, and ``xhat = (z - b) /
g``. So the native backward kernel gives the right gradients when it is handed ``z`` as its input
together with the statistics that ``z`` has: mean ``b`` and inverse standard deviation ``1 / g``.
It then multiplies by ``weight * invstd`` where ``g * r`` is due, hence ``weight = g * g * r``.
"""

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import Function, once_differentiable

from .sync_statistics import SyncNorm, sync_world_size
from .triton_kernels import check_backend, is_available

ACTIVATIONS = ('leaky_relu', 'identity')
BACKENDS = ('auto', 'torch', 'triton', 'inplace_abn')

# float16 stores the smallest numbers in steps of 6e-8, which the inverse of the leaky ReLU turns
# into steps of 6e-8 / slope: 6e-5 at a slope of 1e-3, but 6e-2 at 1e-6. Below this slope the input
# is kept instead. bfloat16 has float32's range and no such steps.
_MIN_FLOAT16_SLOPE = 1e-4


def is_tracing() -> bool:
    """Tell whether ``torch.compile``, ``torch.export`` or the ONNX exporter is at work.

    The compiler decides by itself what to keep for backward, and exporters know standard operators
    only, so the layers then use the plain operators instead of their memory-saving functions.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # the TorchScript-based ONNX exporter
        or torch.onnx.is_in_onnx_export()
    )


class InPlaceABN(nn.Module):
    """Batch norm and activation that keep one tensor for backward: ``(N, C, ...) -> (N, C, ...)``.

    The scale is ``|weight| + eps``, as in the published TResNet weights. A weight of exactly zero
    has the gradient of a positive one, so that norms initialised at zero can leave it.

    With ``activation='identity'`` nothing is inverted: the input is kept, as an ordinary batch norm
    does, which is exact at any weight and as small, since nothing downstream keeps the output.

    Args:
        num_features: Channels ``C``.
        eps: Added to the variance and to ``|weight|``, at least 0.
        momentum: Share of the new batch in the running statistics, 0 to 1.
        activation: ``'leaky_relu'`` or ``'identity'``.
        activation_param: Slope of the leaky ReLU, above 0.
        sync: Share the statistics between the processes of the default group while training.
        backend: ``'torch'`` for torch's own kernels, ``'triton'`` for those of ``triton_norm.py``
            on CUDA tensors (and torch's for what they do not take: float64, CPU tensors, shared
            statistics), ``'inplace_abn'`` for the compiled package of that name, where it is
            installed, in the leaky ReLU norms, ``'auto'`` for the best that needs no compiler: now
            torch's, as the Triton kernels are experimental: never yet run on a GPU.

    Raises:
        ValueError: If an argument is out of its range, the input has other channels, or a training
            batch has one value a channel.
        ImportError: If the package of ``backend='triton'`` or ``'inplace_abn'`` is not installed.
        RuntimeError: If it is compiled with ``sync=True`` and trains in several processes.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        activation: str = 'leaky_relu',
        activation_param: float = 0.01,
        sync: bool = False,
        backend: str = 'auto',
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f'activation {activation!r} is not one of {ACTIVATIONS}')
        if backend not in BACKENDS:
            raise ValueError(f'backend {backend!r} is not one of {BACKENDS}')
        if activation == 'leaky_relu' and not activation_param > 0:
            raise ValueError(f'activation_param must be above 0, got {activation_param}')
        if not eps >= 0:
            raise ValueError(f'eps must be at least 0, got {eps}')
        if momentum is None or not 0 <= momentum <= 1:
            raise ValueError(f'momentum must be from 0 to 1, got {momentum}')
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.activation = activation
        self.activation_param = activation_param
        self.sync = sync
        self.backend = backend
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer('running_mean', torch.zeros(num_features))
        self.register_buffer('running_var', torch.ones(num_features))
        # A missing package: say so when the model is built, not at its first batch.
        if backend == 'triton':
            check_backend(backend)
        if backend == 'inplace_abn':
            _compiled_package()

    @property
    def scale(self) -> torch.Tensor:
        """The factor that each normalised channel is multiplied by, ``(C,)``."""
        if is_tracing():
            return torch.where(self.weight < 0, -self.weight, self.weight) + self.eps
        return _Scale.apply(self.weight, self.eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activated norm of ``x``, in its shape and dtype.

        Args:
            x: ``(N, C, ...)``; it is not changed.
        """
        self._check_batch(x)
        if is_tracing():
            if self._uses_global_statistics():
                raise RuntimeError('InPlaceABN(sync=True) cannot be compiled while it trains')
            return self._forward_plain(x)
        # The native backward kernel divides by the number of values; shared statistics wait for
        # every process, also for one without a value.
        if x.numel() == 0 and not self._uses_global_statistics():
            return self._forward_plain(x)
        if self.activation == 'identity':
            return self._forward_identity(x)[0]
        if self.backend == 'inplace_abn':
            return self._forward_compiled(x)
        if self._uses_global_statistics():
            return self._forward_sync(x, self.activation_param)[0]
        if x.dtype == torch.float16 and self.activation_param < _MIN_FLOAT16_SLOPE:
            return self._forward_plain(x)
        if self._takes_triton(x):
            return self._forward_triton(x, self.activation_param)[0]
        return _InPlaceABN.apply(
            x, self.scale, self.bias, *self._statistics_arguments(), self.activation_param
        )

    def normalize(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the output and what :func:`renormalize` computes it from again.

        For an identity activation.

        Args:
            x: ``(N, C, H, W)``.

        Returns:
            ``y``; ``x`` itself; mean and inverse standard deviation (eps included), scale and bias,
            each ``(C,)``.

        Raises:
            ValueError: If the activation is not the identity, or as for :meth:`forward`.
        """
        if self.activation != 'identity':
            raise ValueError('normalize() is for activation="identity"')
        self._check_batch(x)
        return self._forward_identity(x)

    def extra_repr(self) -> str:
        slope = f', slope={self.activation_param}' if self.activation == 'leaky_relu' else ''
        return (
            f'{self.num_features}, eps={self.eps}, momentum={self.momentum}, '
            f'activation={self.activation}{slope}, sync={self.sync}, backend={self.backend}'
        )

    def _check_batch(self, x: torch.Tensor) -> None:
        # The native kernels, called without F.batch_norm, would read and write past the statistics.
        if not is_tracing() and (x.dim() < 2 or x.shape[1] != self.num_features):
            raise ValueError(
                f'a norm of {self.num_features} channels takes (N, {self.num_features}, ...), '
                f'got shape {tuple(x.shape)}'
            )
        values = x.numel() // x.shape[1]
        if self.training and values == 1 and not self._uses_global_statistics():
            raise ValueError(
                f'a training batch needs more than 1 value per channel, got shape {tuple(x.shape)}'
            )

    def _uses_global_statistics(self) -> bool:
        return self.sync and self.training and sync_world_size() > 1

    def _statistics_arguments(self) -> tuple[torch.Tensor, torch.Tensor, bool, float, float]:
        """Return running mean and variance, training, momentum, eps: torch's order."""
        return self.running_mean, self.running_var, self.training, self.momentum, self.eps

    def _forward_plain(self, x: torch.Tensor) -> torch.Tensor:
        mean, var, training, momentum, eps = self._statistics_arguments()
        z = F.batch_norm(x, mean, var, self.scale, self.bias, training, momentum, eps)
        return z if self.activation == 'identity' else F.leaky_relu(z, self.activation_param)

    def _forward_identity(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self._uses_global_statistics():
            return self._forward_sync(x, slope=1.0)
        if self._takes_triton(x):
            y, mean, invstd = self._forward_triton(x, slope=1.0)
            return y, x, mean, invstd, self.scale.detach(), self.bias
        scale = self.scale
        arguments = self._statistics_arguments()
        y, mean, invstd = torch.native_batch_norm(x, scale, self.bias, *arguments)
        if not self.training:
            mean, invstd = self.running_mean, (self.running_var + self.eps).rsqrt()
        return y, x, mean, invstd, scale, self.bias

    def _takes_triton(self, x: torch.Tensor) -> bool:
        return self.backend == 'triton' and is_available(x)

    def _forward_triton(self, x: torch.Tensor, slope: float) -> tuple[torch.Tensor, ...]:
        from .triton_norm import inplace_abn  # needs triton

        return inplace_abn(x, self.weight, self.bias, *self._statistics_arguments(), slope)

    def _forward_sync(self, x: torch.Tensor, slope: float) -> tuple[torch.Tensor, ...]:
        scale = self.scale
        running_mean, running_var, _, momentum, eps = self._statistics_arguments()
        y, mean, invstd = SyncNorm.apply(
            x, scale, self.bias, running_mean, running_var, momentum, eps, slope
        )
        return y, x, mean, invstd, scale, self.bias

    def _forward_compiled(self, x: torch.Tensor) -> torch.Tensor:
        functions = _compiled_package().functions
        if x.element_size() < 4:
            x = x.float()  # the package wants its input in the precision of its parameters
        function = functions.inplace_abn_sync if self.sync else functions.inplace_abn
        return function(
            x.clone(),  # the package overwrites its input, which the caller may still hold
            self.weight,
            self.bias,
            *self._statistics_arguments(),
            self.activation,
            self.activation_param,
        )


def _compiled_package() -> ModuleType:
    try:
        import inplace_abn
    except ImportError as error:
        raise ImportError(
            "backend='inplace_abn' needs the compiled package inplace-abn "
            '(pip install --no-build-isolation inplace-abn); the default backend needs nothing'
        ) from error
    return inplace_abn


class _Scale(Function):
    """``|weight| + eps`` in four launches, forward and backward: a network has sixty of them.

    Not ``abs()``: its gradient at 0 is 0, and a norm that starts there would stay for ever.
    """

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, eps: float) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return weight.abs().add_(eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_scale: torch.Tensor) -> tuple[torch.Tensor, None]:
        (weight,) = ctx.saved_tensors
        return torch.copysign(grad_scale, grad_scale * weight), None


class _InPlaceABN(Function):
    """Batch norm and leaky ReLU with backward from the output; see the module's docstring."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor,
        running_mean: torch.Tensor,
        running_var: torch.Tensor,
        training: bool,
        momentum: float,
        eps: float,
        slope: float,
    ) -> torch.Tensor:
        z, _, invstd = torch.native_batch_norm(
            x, scale, bias, running_mean, running_var, training, momentum, eps
        )
        if not training:
            invstd = (running_var + eps).rsqrt()
        y = F.leaky_relu_(z, slope)
        ctx.training = training
        ctx.slope = slope
        ctx.save_for_backward(y, scale, bias, invstd)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        y, scale, bias, invstd = ctx.saved_tensors
        z, grad_z = invert_leaky_relu(y, grad_y, ctx.slope)
        weight = scale * scale * invstd
        if ctx.training:
            running, saved, eps = (None, None), (bias, scale.reciprocal()), 0.0
        else:
            running, saved, eps = (bias, scale * scale), (None, None), 0.0
        grad_x, grad_scale, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad_z, z, weight, *running, *saved, ctx.training, eps, ctx.needs_input_grad[:3]
        )
        return grad_x, grad_scale, grad_bias, None, None, None, None, None, None


def invert_leaky_relu(
    y: torch.Tensor, grad_y: torch.Tensor, slope: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the activation's input and the gradient there, from its output ``y``.

    A leaky ReLU keeps the sign, so its inverse is the leaky ReLU with the inverse slope.
    """
    if y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous():
        # The norm's kernels are quick only where all their tensors have one layout.
        grad_y = grad_y.contiguous(memory_format=torch.channels_last)
    z = F.leaky_relu(y, 1 / slope)
    return z, torch.ops.aten.leaky_relu_backward(grad_y, y, slope, True)


def renormalize(
    x: torch.Tensor,
    mean: torch.Tensor,
    invstd: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """Return ``(x - mean) * invstd * scale + bias``, an output of :meth:`InPlaceABN.normalize`."""
    # As a norm with fixed statistics: no copy of a half-precision map in theirs.
    return F.batch_norm(x, mean, invstd.pow(-2), scale, bias, eps=0.0)
