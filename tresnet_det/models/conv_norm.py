"""A convolution with its norm, the unit that TResNet is made of, and what concerns all norms."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checkpoints.formats import adapt_norm_notation
from ..errors import InputError
from ..layers import BlurPool, InPlaceABN
from ..layers.recompute import Recipe, convolve

NormConfig = Mapping[str, Any]


class ConvNorm(nn.Module):
    """Convolution, norm, and where asked for leaky ReLU and blur: ``(N, C, H, W)`` to ``(N, out,
    H, W)``, or half of that resolution with the blur or with stride 2.

    The norm is the attribute ``abn`` (scale ``|weight| + eps``) or ``bn`` (scale ``weight``), after
    its kind. A state dict of the other kind is converted when it is loaded.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: An odd number; the border is padded with zeros.
        norm_cfg: See :class:`TResNet`.
        slope: Slope of the leaky ReLU; None for no activation.
        stride: Of the convolution.
        blur: Whether to downsample by two, anti-aliased.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        norm_cfg: NormConfig,
        slope: float | None = None,
        stride: int = 1,
        blur: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
        )
        norm = build_norm(norm_cfg, out_channels, slope)
        self.norm_name = 'abn' if isinstance(norm, InPlaceABN) else 'bn'
        self.add_module(self.norm_name, norm)
        self.act: nn.LeakyReLU | None = None
        if slope is not None and not isinstance(norm, InPlaceABN):
            self.act = nn.LeakyReLU(slope, inplace=True)
        self.blur = BlurPool(kernels_of(norm_cfg)) if blur else None

    @property
    def norm(self) -> Any:  # In-Place ABN or batch norm; once folded, the identity
        return getattr(self, self.norm_name)

    def forward(self, x: torch.Tensor, recipe: Recipe | None = None) -> torch.Tensor:
        """Return the output, ``(N, out, H, W)`` or half of that resolution.

        Args:
            x: ``(N, in, H, W)``.
            recipe: Computes ``x`` again in the backward pass, where it need not be kept.
        """
        x = self.norm(convolve(self.conv, x, recipe))
        if self.act is not None:
            x = self.act(x)
        return x if self.blur is None else self.blur(x)

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Fold the norm, with its running statistics, into the convolution: for inference only.

        Where that has been done already, it stays as it is.

        Raises:
            InputError: If the norm keeps no running statistics.
        """
        norm = self.norm
        if isinstance(norm, nn.Identity):
            return
        if norm.running_mean is None:
            raise InputError('a norm with track_running_stats=False cannot be folded')
        scale, bias = norm.weight, norm.bias
        if isinstance(norm, InPlaceABN):
            scale = norm.scale
            if norm.activation == 'leaky_relu':
                self.act = nn.LeakyReLU(norm.activation_param, inplace=True)
        # In float64, so that only the results are rounded.
        factor = (norm.running_var.double() + norm.eps).rsqrt()  # (out,)
        if scale is not None:
            factor *= scale
        shift = -norm.running_mean * factor
        if bias is not None:
            shift += bias
        weight = self.conv.weight  # (out, in, k, k)
        weight.copy_(weight * factor[:, None, None, None])
        self.conv.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=False)
        setattr(self, self.norm_name, nn.Identity())

    def _load_from_state_dict(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if self.conv.bias is None:  # folded, there is no norm to adapt to
            adapt_norm_notation(state_dict, prefix, self.norm_name, self.norm.eps)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def build_norm(norm_cfg: NormConfig, channels: int, slope: float | None) -> nn.Module:
    """Build the norm of ``norm_cfg``; an In-Place ABN brings its activation along.

    Args:
        norm_cfg: See :class:`TResNet`; ``requires_grad=False`` in it freezes weight and bias.
        channels: Channels of the input.
        slope: Slope of the activation that an In-Place ABN applies; None for the identity.

    Returns:
        The norm, an ``InPlaceABN`` or a batch norm of torch.

    Raises:
        InputError: If the type is neither an In-Place ABN nor a batch norm, or an argument is not
            one of that type.
    """
    cfg = dict(norm_cfg)
    kind = cfg.get('type')
    if kind == 'InPlaceABN':
        del cfg['type']
        requires_grad = cfg.pop('requires_grad', True)
        own: dict[str, Any] = dict(activation='identity')
        if slope is not None:
            own = dict(activation='leaky_relu', activation_param=slope)
        try:
            norm = InPlaceABN(channels, **own, **cfg)  # one that is in both is a TypeError
        except (TypeError, ValueError) as error:
            raise InputError(f'norm_cfg {dict(norm_cfg)}: {error}') from error
        return norm.requires_grad_(requires_grad)
    if kind not in ('BN', 'BN2d', 'SyncBN'):
        raise InputError(
            f'norm_cfg type {kind!r} does not fit TResNet: its weights are those of a batch norm; '
            "use 'InPlaceABN', 'BN' or 'SyncBN'"
        )
    return build_norm_layer(cfg, channels)[1]


def kernels_of(norm_cfg: NormConfig) -> str:
    """Return whose kernels blur and gate run on: Triton's where the norm asks for them."""
    return 'triton' if norm_cfg.get('backend') == 'triton' else 'torch'


def iterate_norms(module: nn.Module) -> Iterator[nn.Module]:
    """Yield every batch norm in ``module``, In-Place ABN included."""
    return (m for m in module.modules() if isinstance(m, (InPlaceABN, _BatchNorm)))


@contextlib.contextmanager
def keep_running_statistics(module: nn.Module) -> Iterator[None]:
    """Let the norms update copies of their running statistics, which are thrown away."""
    kept = [
        (norm, name, buffer)
        for norm in iterate_norms(module)
        for name, buffer in norm.named_buffers(recurse=False)
    ]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
