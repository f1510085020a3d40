"""What TResNet is made of: convolutions with their norms, and two kinds of block of them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..checkpoints.formats import adapt_norm_notation
from ..errors import InputError, check_flag, shown
from ..layers import BlurPool, DropPath, InPlaceABN, SqueezeExcite
from ..layers.inplace_abn import renormalize
from ..layers.recompute import Recipe, relu_
from ..layers.refinements import convolve, gate_and_convolve, gate_norm_output, norm_and_gate
from ..values import check_value

NormConfig = Mapping[str, Any]
# As MMDetection's configs name them.
BATCH_NORMS = {'BN': nn.BatchNorm2d, 'BN2d': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}


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
            recipe: Computes ``x`` again in the backward pass, where nothing keeps it.
        """
        if recipe is None:
            x = self.conv(x)
        else:
            x = convolve(self.conv, x, recipe, *recipe.sources)
        x = self.norm(x)
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


def add_and_relu_(branch: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    """Return ``relu(branch + shortcut)`` in the branch's own memory.

    Nothing keeps that for backward: the norm keeps its input, squeeze-and-excite and stochastic
    depth return a tensor of their own.
    """
    return F.relu(branch.add_(shortcut), inplace=True)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with squeeze-and-excite before the sum (paper, figure 2, left).

    The last convolution and norm are called one by one: forward hooks on ``conv2`` as a whole do
    not fire, those on its parts do.

    Args:
        in_channels: Channels of the input.
        planes: Width of the block; the output has ``planes * expansion`` channels.
        stride: 1 or 2; the shortcut downsamples by average pooling.
        norm_cfg: See :class:`TResNet`.
        slope: Slope of the leaky ReLUs.
        use_se: Whether the branch has squeeze-and-excite.
        anti_alias: Whether stride 2 is a blur after a convolution of stride 1, not a convolution
            of stride 2.
        drop_path: Probability of dropping the branch in training, in [0, 1).
    """

    expansion = 1
    add_and_relu = staticmethod(add_and_relu_)

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        norm_cfg: NormConfig,
        slope: float,
        use_se: bool,
        anti_alias: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        downsampling = build_downsampling(stride, anti_alias)
        self.conv1 = ConvNorm(in_channels, planes, 3, norm_cfg, slope, **downsampling)
        self.conv2 = ConvNorm(planes, planes, 3, norm_cfg)
        self.se = build_se(planes, planes // 4, norm_cfg) if use_se else None
        self.downsample = build_shortcut(in_channels, planes, stride, norm_cfg)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    @property
    def last_norm(self) -> Any:
        """The branch's last norm: see :attr:`ConvNorm.norm`."""
        return self.conv2.norm

    def forward(self, x: torch.Tensor, recipe: Recipe | None = None) -> torch.Tensor:
        """Return the output, ``(N, planes, H, W)`` or, with stride 2, half of that resolution.

        Args:
            x: ``(N, in_channels, H, W)``.
            recipe: Computes ``x`` again in the backward pass, where nothing keeps it.
        """
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.conv2.conv(self.conv1(x, recipe))
        if self.se is None:
            x = self.conv2.norm(x)
        else:
            x = norm_and_gate(x, self.conv2.norm, self.se)
        return self.add_and_relu(self.drop_path(x), shortcut)

    def forward_with_recipe(self, x: torch.Tensor) -> tuple[torch.Tensor, Recipe]:
        """Return the output, which nothing keeps then, and what computes it again."""
        branch = self.conv2.conv(self.conv1(x))
        return output_and_recipe(x, branch, self.conv2.norm, self.se, self.downsample)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with squeeze-and-excite after the 3x3 (paper, figure 2, right).

    As for ``conv2`` of a :class:`BasicBlock`, hooks on ``conv3`` as a whole do not fire; where
    squeeze-and-excite is fused with its convolution, neither do those on ``se`` and ``conv3.conv``.

    Args:
        in_channels: Those of :class:`BasicBlock`, and so are the others.
    """

    expansion = 4
    add_and_relu = staticmethod(add_and_relu_)

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int,
        norm_cfg: NormConfig,
        slope: float,
        use_se: bool,
        anti_alias: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        out_channels = planes * self.expansion
        downsampling = build_downsampling(stride, anti_alias)
        self.conv1 = ConvNorm(in_channels, planes, 1, norm_cfg, slope)
        self.conv2 = ConvNorm(planes, planes, 3, norm_cfg, slope, **downsampling)
        self.se = build_se(planes, planes * 4 // 8, norm_cfg) if use_se else None
        self.conv3 = ConvNorm(planes, out_channels, 1, norm_cfg)
        self.downsample = build_shortcut(in_channels, out_channels, stride, norm_cfg)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    @property
    def last_norm(self) -> Any:
        """The branch's last norm: see :attr:`ConvNorm.norm`."""
        return self.conv3.norm

    def forward(self, x: torch.Tensor, recipe: Recipe | None = None) -> torch.Tensor:
        """Return the output: see :meth:`BasicBlock.forward`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.conv3.norm(self.convolve(x, recipe))
        return self.add_and_relu(self.drop_path(x), shortcut)

    def convolve(self, x: torch.Tensor, recipe: Recipe | None = None) -> torch.Tensor:
        """Return what the last norm takes, ``(N, planes * 4, H, W)``."""
        x = self.conv2(self.conv1(x, recipe))
        if self.se is None:
            return self.conv3.conv(x)
        return gate_and_convolve(x, self.se, self.conv3.conv)

    def forward_with_recipe(self, x: torch.Tensor) -> tuple[torch.Tensor, Recipe]:
        """Return the output, which nothing keeps then, and what computes it again."""
        return output_and_recipe(x, self.convolve(x), self.conv3.norm, None, self.downsample)


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    'basic': BasicBlock,
    'bottleneck': Bottleneck,
}


def output_and_recipe(
    x: torch.Tensor,
    branch: torch.Tensor,
    norm: InPlaceABN,
    se: SqueezeExcite | None,
    downsample: Any,
) -> tuple[torch.Tensor, Recipe]:
    """Return a block's output and how it is computed again: by norm, gate, sum and ReLU.

    Args:
        x: What the block takes.
        branch: What its last norm takes.
        norm: That norm.
        se: Squeeze-and-excite after that norm.
        downsample: What :func:`build_shortcut` returned.
    """
    branch, *sources = norm.normalize(branch)
    if se is not None:
        gate = se.gate(branch)
        branch = gate_norm_output(branch, gate, sources)
        sources.append(gate)
    if downsample is None:
        shortcut = x
        sources.append(x)
    else:
        *pools, unit = downsample
        shortcut, *others = unit.norm.normalize(unit.conv(nn.Sequential(*pools)(x)))
        sources += others
    recipe = Recipe(partial(_output_again, se is not None, downsample is not None), *sources)
    return relu_(branch.add_(shortcut), recipe), recipe


def _output_again(has_gate: bool, is_projected: bool, *sources: torch.Tensor) -> torch.Tensor:
    branch, rest = renormalize(*sources[:5]), sources[5:]
    if has_gate:
        branch, rest = branch.mul_(rest[0]), rest[1:]
    return add_and_relu_(branch, renormalize(*rest) if is_projected else rest[0])


def build_downsampling(stride: int, anti_alias: bool) -> dict[str, Any]:
    """Return the arguments of the 3x3 :class:`ConvNorm` that downsamples."""
    return dict(stride=1 if anti_alias else stride, blur=anti_alias and stride == 2)


def build_se(channels: int, reduced_channels: int, norm_cfg: NormConfig) -> SqueezeExcite:
    """Return squeeze-and-excite of at least 64 inner channels."""
    return SqueezeExcite(channels, max(reduced_channels, 64), kernels_of(norm_cfg))


def build_shortcut(
    in_channels: int, out_channels: int, stride: int, norm_cfg: NormConfig
) -> nn.Sequential | None:
    """Return average pooling and a 1x1 convolution, each where needed; None for the identity."""
    if stride == 1 and in_channels == out_channels:
        return None
    layers: list[nn.Module] = []
    if stride == 2:
        layers.append(nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False))
    layers.append(ConvNorm(in_channels, out_channels, 1, norm_cfg))
    return nn.Sequential(*layers)


def build_norm(norm_cfg: NormConfig, channels: int, slope: float | None) -> nn.Module:
    """Build the norm of ``norm_cfg``; an In-Place ABN includes its activation.

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
    if kind not in ('InPlaceABN', *BATCH_NORMS):
        raise InputError(
            f'norm_cfg type {shown(kind)} does not fit TResNet: its weights are those of a batch '
            "norm; use 'InPlaceABN', 'BN' or 'SyncBN'"
        )
    del cfg['type']
    requires_grad = cfg.pop('requires_grad', True)
    own: dict[str, Any] = {}
    if kind == 'InPlaceABN':
        own = dict(activation='identity')
        if slope is not None:
            own = dict(activation='leaky_relu', activation_param=slope)
    try:
        norm = (BATCH_NORMS | {'InPlaceABN': InPlaceABN})[kind](channels, **own, **cfg)
    except (TypeError, ValueError) as error:
        raise InputError(f'norm_cfg {dict(norm_cfg)}: {error}') from error
    return norm.requires_grad_(requires_grad)


def kernels_of(norm_cfg: NormConfig) -> str:
    """Return whose kernels blur and gate run on: Triton's where the norm asks for them."""
    return 'triton' if norm_cfg.get('backend') == 'triton' else 'torch'


def check_norm_cfg(norm_cfg: object) -> None:
    """Raise an InputError unless it is a dict whose flags and numbers are such."""
    if not isinstance(norm_cfg, Mapping):
        raise InputError(
            f"norm_cfg must be a dict, as dict(type='InPlaceABN'), got {shown(norm_cfg)}"
        )
    for name in ('sync', 'requires_grad', 'affine', 'track_running_stats'):
        check_flag(f'{name!r} in norm_cfg', norm_cfg.get(name, True))
    check_value('backbone.norm_cfg.eps', norm_cfg.get('eps', 1e-5))
    # Of momentum None, a norm averages over all batches.
    check_value('backbone.norm_cfg.momentum', norm_cfg.get('momentum'))
