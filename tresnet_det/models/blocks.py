"""The residual blocks of TResNet (paper, figure 2)."""

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import nn

from ..layers import SqueezeExcite
from ..layers.recompute import Recipe
from .conv_norm import ConvNorm, NormConfig


class ResidualBlock(nn.Module):
    """``relu(branch(x) + shortcut(x))``: what both kinds of block are.

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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        branch = self.drop_path(self.branch(x))
        # In the branch's own memory, which nothing keeps for backward: its norm keeps its input,
        # squeeze-and-excite and stochastic depth return a tensor of their own.
        return F.relu(branch.add_(shortcut), inplace=True)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions with squeeze-and-excite before the sum (paper, figure 2, left).

    Squeeze-and-excite applies the second norm itself, to keep less: forward hooks on ``conv2`` as a
    whole do not fire, those on ``conv2.conv`` and ``se`` do.
    """

    expansion = 1

    def build_branch(self, in_channels, planes, downsampling, norm_cfg, slope, use_se) -> None:
        self.conv1 = ConvNorm(in_channels, planes, 3, norm_cfg, slope, **downsampling)
        self.conv2 = ConvNorm(planes, planes, 3, norm_cfg)
        self.se = SqueezeExcite(planes, max(planes // 4, 64)) if use_se else None

    @property
    def last_norm(self) -> nn.Module:
        return self.conv2.norm

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        if self.se is None:
            return self.conv2(x)
        return self.se(self.conv2.conv(x), self.conv2.norm)


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1 convolutions with squeeze-and-excite after the 3x3 (paper, figure 2, right).

    The product with the gate is not kept for backward: its factors are, so it is computed again.
    Forward hooks on ``se`` and ``conv3.conv`` do not fire, those on ``conv3`` do.
    """

    expansion = 4

    def build_branch(self, in_channels, planes, downsampling, norm_cfg, slope, use_se) -> None:
        self.conv1 = ConvNorm(in_channels, planes, 1, norm_cfg, slope)
        self.conv2 = ConvNorm(planes, planes, 3, norm_cfg, slope, **downsampling)
        self.se = SqueezeExcite(planes, max(planes * 4 // 8, 64)) if use_se else None
        self.conv3 = ConvNorm(planes, planes * self.expansion, 1, norm_cfg)

    @property
    def last_norm(self) -> nn.Module:
        return self.conv3.norm

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(self.conv1(x))
        if self.se is None:
            return self.conv3(x)
        gate = self.se.gate(x)
        return self.conv3(x * gate, Recipe(torch.mul, x, gate))


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
