"""The residual blocks of TResNet (paper, figure 2)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import nn

from ..layers import InPlaceABN, SqueezeExcite
from ..layers.inplace_abn import renormalize
from ..layers.recompute import Recipe, convolve, keeps_recipes, relu_
from .conv_norm import ConvNorm, NormConfig, kernels_of


class ResidualBlock(nn.Module):
    """``relu(branch(x) + shortcut(x))``: what both kinds of block are.

    The branch's last convolution and norm are called one by one, so that little is kept: forward
    hooks on that :class:`ConvNorm` as a whole do not fire, those on its parts do.

    Args:
        in_channels: Channels of the input.
        planes: Width of the block; the output has ``planes * expansion`` channels.
        stride: 1 or 2; the shortcut downsamples by average pooling.
        norm_cfg: See :class:`TResNet`.
        slope: Slope of the leaky ReLUs.
        use_se: Whether the branch has squeeze-and-excite.
        anti_alias: Whether stride 2 is a blur after a convolution of stride 1, not a convolution
            of stride 2.
        drop_path: Probability of leaving the branch out in training, in [0, 1).
    """

    expansion: int

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
        downsampling = dict(stride=1 if anti_alias else stride, blur=anti_alias and stride == 2)
        self.build_branch(in_channels, planes, downsampling, norm_cfg, slope, use_se)
        self.downsample = build_shortcut(in_channels, planes * self.expansion, stride, norm_cfg)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def build_branch(
        self,
        in_channels: int,
        planes: int,
        downsampling: Mapping[str, Any],
        norm_cfg: NormConfig,
        slope: float,
        use_se: bool,
    ) -> None:
        """Make the layers of the branch; ``downsampling`` is for its first 3x3 convolution."""
        raise NotImplementedError

    @property
    def last_norm(self) -> Any:
        """The branch's last norm: see :attr:`ConvNorm.norm`."""
        raise NotImplementedError

    @property
    def last_se(self) -> SqueezeExcite | None:
        """The squeeze-and-excite after that norm."""
        raise NotImplementedError

    def convolve(self, x: torch.Tensor, recipe: Recipe | None) -> torch.Tensor:
        """Return what the branch's last norm takes."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor, recipe: Recipe | None = None) -> torch.Tensor:
        """Return the output of the block.

        Args:
            x: ``(N, C, H, W)``.
            recipe: Computes ``x`` again in the backward pass, where it need not be kept.
        """
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.convolve(x, recipe)
        branch = self.last_norm(x) if self.last_se is None else self.last_se(x, self.last_norm)
        branch = self.drop_path(branch)
        # In the branch's own memory, which nothing keeps for backward: its norm keeps its input,
        # squeeze-and-excite and stochastic depth return a tensor of their own.
        return F.relu(branch.add_(shortcut), inplace=True)

    @property
    def can_recompute(self) -> bool:
        """Whether :meth:`forward_with_recipe` works now."""
        norm_keeps_input = isinstance(self.last_norm, InPlaceABN)
        return norm_keeps_input and isinstance(self.drop_path, nn.Identity) and keeps_recipes()

    def forward_with_recipe(self, x: torch.Tensor) -> tuple[torch.Tensor, Recipe]:
        """Return the output, which this block does not keep, and how the next one recomputes it.

        By a norm, the gate's product, the sum and the ReLU, from what the norms keep and ``x``.
        """
        normalized = self.last_norm.normalize(self.convolve(x, None))
        branch, sources = normalized.y, [*normalized.sources]
        if self.last_se is not None:
            branch, gate = self.last_se.scale_normalized(normalized)
            sources.append(gate)
        if self.downsample is None:
            shortcut = x
            sources.append(x)
        else:
            *pools, unit = self.downsample
            assert isinstance(unit, ConvNorm)
            projected = unit.norm.normalize(unit.conv(nn.Sequential(*pools)(x)))
            shortcut = projected.y
            sources += projected.sources
        compute = partial(_compute_output, self.last_se is not None, self.downsample is not None)
        recipe = Recipe(compute, *sources, uses=2)  # the ReLU's and the next convolution's
        return relu_(branch.add_(shortcut), recipe), recipe


def _compute_output(has_gate: bool, is_projected: bool, *sources: torch.Tensor) -> torch.Tensor:
    branch, rest = renormalize(*sources[:5]), sources[5:]
    if has_gate:
        branch, rest = branch.mul_(rest[0]), rest[1:]
    shortcut = renormalize(*rest) if is_projected else rest[0]
    return F.relu(branch.add_(shortcut), inplace=True)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions with squeeze-and-excite before the sum (paper, figure 2, left)."""

    expansion = 1

    def build_branch(
        self,
        in_channels: int,
        planes: int,
        downsampling: Mapping[str, Any],
        norm_cfg: NormConfig,
        slope: float,
        use_se: bool,
    ) -> None:
        self.conv1 = ConvNorm(in_channels, planes, 3, norm_cfg, slope, **downsampling)
        self.conv2 = ConvNorm(planes, planes, 3, norm_cfg)
        self.se = build_se(planes, planes // 4, norm_cfg) if use_se else None

    @property
    def last_norm(self) -> Any:
        return self.conv2.norm

    @property
    def last_se(self) -> SqueezeExcite | None:
        return self.se

    def convolve(self, x: torch.Tensor, recipe: Recipe | None) -> torch.Tensor:
        return self.conv2.conv(self.conv1(x, recipe))


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1 convolutions with squeeze-and-excite after the 3x3 (paper, figure 2, right).

    The product with the gate is not kept for backward: its factors are, so it is computed again.
    Forward hooks on ``se`` and ``conv3.conv`` do not fire where it is.
    """

    expansion = 4

    def build_branch(
        self,
        in_channels: int,
        planes: int,
        downsampling: Mapping[str, Any],
        norm_cfg: NormConfig,
        slope: float,
        use_se: bool,
    ) -> None:
        self.conv1 = ConvNorm(in_channels, planes, 1, norm_cfg, slope)
        self.conv2 = ConvNorm(planes, planes, 3, norm_cfg, slope, **downsampling)
        self.se = build_se(planes, planes * 4 // 8, norm_cfg) if use_se else None
        self.conv3 = ConvNorm(planes, planes * self.expansion, 1, norm_cfg)

    @property
    def last_se(self) -> None:
        return None

    @property
    def last_norm(self) -> Any:
        return self.conv3.norm

    def convolve(self, x: torch.Tensor, recipe: Recipe | None) -> torch.Tensor:
        x = self.conv2(self.conv1(x, recipe))
        if self.se is None:
            return self.conv3.conv(x)
        gate = self.se.gate(x)
        return convolve(self.conv3.conv, self.se.product(x, gate), Recipe(torch.mul, x, gate))


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


BLOCKS = {'basic': BasicBlock, 'bottleneck': Bottleneck}
