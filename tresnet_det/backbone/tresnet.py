"""TResNet: High Performance GPU-Dedicated Architecture (Ridnik et al., WACV 2021)."""

import contextlib
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..checkpoints import LoadReport, load_backbone_weights
from ..checkpoints.img_norm import warn_unless_unit_range
from ..checkpoints.load import Source
from ..errors import InputError, check_flag, shown
from ..layers import InPlaceABN, SpaceToDepth
from ..layers.inplace_abn import is_tracing
from ..values import check_value
from .blocks import BLOCKS, ConvNorm, NormConfig, check_norm_cfg
from .norms import iterate_norms, keep_running_statistics

MIN_SIDE = 32  # at stride 16 the last blur still needs two rows to reflect
STEMS = ('space_to_depth', 'conv')


class TResNet(nn.Module):
    """TResNet backbone with outputs at strides 4, 8, 16 and 32.

    Input: RGB in [0, 1], ``(N, in_channels, H, W)``, no mean or standard deviation applied. Sides
    need at least 32 pixels; one that is no multiple of 4 is padded with zeros at the right or
    bottom. Weights are random at first: Kaiming normal (fan out), each branch's last norm at zero
    (paper, section 2.7).

    Args:
        arch: ``'m'``, ``'l'``, ``'xl'``, ``'v2_l'``, or a dict with fields of ``arch_settings``; an
            omitted field has the value that ``'m'`` gives it. Besides the paper's table:
            ``anti_alias=False`` downsamples by convolutions of stride 2 instead of blurs,
            ``stem='conv'`` begins as ResNet does, with a 7x7 convolution and max pooling.
        in_channels: Channels of the input.
        out_indices: The stages whose outputs are returned, increasing. Stages after the last one
            are not built.
        frozen_stages: Stages that do not learn: 0 for the stem, ``k`` for the stem and the first
            ``k`` stages, -1 for none. Their norms keep their running statistics.
        norm_eval: Keep the running statistics of all norms while training.
        norm_cfg: ``dict(type='InPlaceABN')`` (with ``sync=True`` to share statistics between
            processes), ``dict(type='BN')`` or ``dict(type='SyncBN')``, and the norm's arguments.
            ``backend='triton'`` in it also chooses the kernels of the blur and of the gate.
        with_cp: Keep only each block's input while training and compute the block again in the
            backward pass: less memory, more time. Running statistics are updated once. Without
            effect under ``torch.compile``, which decides by itself what to keep.
        drop_path_rate: Stochastic depth's rate at the last block, rising linearly from 0, in
            [0, 1).
        recompute_outputs: Keep every second block's output only while training, and compute the
            others again in the backward pass, each by a norm, a sum and a ReLU: a seventh less
            memory for a little time; no convolution runs twice. It needs an In-Place ABN. Blocks
            with stochastic depth keep theirs; without effect under ``with_cp`` and
            ``torch.compile``.

    Attributes:
        out_channels: Channels of each output, a tuple in the order of ``out_indices``.
        out_strides: Stride of each output, likewise.

    Raises:
        InputError: If an argument is out of its range (a ``ValueError``).

    Examples:
        >>> import torch
        >>> model = TResNet(arch='m', out_indices=(1, 2, 3))
        >>> [tuple(y.shape) for y in model(torch.rand(1, 3, 64, 96))]
        [(1, 128, 8, 12), (1, 1024, 4, 6), (1, 2048, 2, 3)]
    """

    arch_settings: dict[str, dict[str, Any]] = {
        'm': dict(
            depths=(3, 4, 11, 3),
            width_factor=1.0,
            block_types=('basic', 'basic', 'bottleneck', 'bottleneck'),
            se_stages=(True, True, True, False),
            anti_alias=True,
            stem='space_to_depth',
            stem_slope=1e-2,
            slope=1e-3,
        ),
    }
    arch_settings['l'] = dict(arch_settings['m'], depths=(4, 5, 18, 3), width_factor=1.2)
    arch_settings['xl'] = dict(arch_settings['m'], depths=(4, 5, 24, 3), width_factor=1.3)
    arch_settings['v2_l'] = dict(
        arch_settings['m'], depths=(3, 4, 23, 3), block_types=('bottleneck',) * 4
    )

    space_to_depth: nn.Module
    max_pool: nn.Module

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'm',
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: NormConfig = dict(type='InPlaceABN'),  # noqa: B006  (read, never written)
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        recompute_outputs: bool = False,
    ) -> None:
        super().__init__()
        settings = resolve_arch(
            arch, self.arch_settings, {'block type': list(BLOCKS), 'stem': STEMS}
        )
        depths = settings['depths']
        _check_out_indices(out_indices, len(depths))
        num_stages = out_indices[-1] + 1
        check_value('backbone.in_channels', in_channels)
        check_value('backbone.frozen_stages', frozen_stages)
        check_value('backbone.drop_path_rate', drop_path_rate)
        if frozen_stages > num_stages:
            raise InputError(
                f'backbone.frozen_stages is {frozen_stages}: only {num_stages} stages are built'
            )
        for name, flag in (
            ('norm_eval', norm_eval),
            ('with_cp', with_cp),
            ('recompute_outputs', recompute_outputs),
        ):
            check_flag(name, flag)
        check_norm_cfg(norm_cfg)
        if recompute_outputs and norm_cfg.get('type') != 'InPlaceABN':
            raise InputError(
                "recompute_outputs=True needs norm_cfg type 'InPlaceABN', "
                f'got {norm_cfg.get("type")!r}'
            )
        self.in_channels = in_channels
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.recompute_outputs = recompute_outputs

        width = int(64 * settings['width_factor'])
        if settings['stem'] == 'space_to_depth':
            self.space_to_depth, self.max_pool = SpaceToDepth(), nn.Identity()
            channels = in_channels * SpaceToDepth.block_size**2
            stem: dict[str, Any] = dict(in_channels=channels, kernel_size=3)
        else:
            self.space_to_depth, self.max_pool = nn.Identity(), nn.MaxPool2d(3, 2, padding=1)
            stem = dict(in_channels=in_channels, kernel_size=7, stride=2)
        self.conv1 = ConvNorm(
            out_channels=width, norm_cfg=norm_cfg, slope=settings['stem_slope'], **stem
        )
        step = drop_path_rate / max(sum(depths) - 1, 1)
        channels, stage_channels = width, []
        for stage in range(num_stages):
            block = BLOCKS[settings['block_types'][stage]]
            planes = width * 2**stage
            blocks = []
            for index in range(depths[stage]):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(
                    block(
                        channels,
                        planes,
                        stride,
                        norm_cfg,
                        settings['slope'],
                        settings['se_stages'][stage],
                        settings['anti_alias'],
                        step * (sum(depths[:stage]) + index),
                    )
                )
                channels = planes * block.expansion
            stage_channels.append(channels)
            self.add_module(f'layer{stage + 1}', nn.Sequential(*blocks))
        self.num_stages = num_stages
        self.out_channels = tuple(stage_channels[i] for i in self.out_indices)
        self.out_strides = tuple(4 * 2**i for i in self.out_indices)
        self._checks_next_input = False
        self.reset_parameters()
        self._freeze()

    @property
    def feature_info(self) -> 'FeatureInfo':
        """Channels and strides of the outputs, as timm gives them."""
        return FeatureInfo(self)

    @property
    def stages(self) -> list[Any]:
        """The stages that are built, in order: each an ``nn.Sequential`` of residual blocks."""
        return [getattr(self, f'layer{i + 1}') for i in range(self.num_stages)]

    def reset_parameters(self) -> None:
        """Draw random weights as the paper does (section 2.7)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='leaky_relu')
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for stage in self.stages:
            for block in stage:
                if block.last_norm.weight is not None:  # with affine=False there is none
                    nn.init.zeros_(block.last_norm.weight)

    def load_pretrained(self, source: Source) -> LoadReport:
        """Load weights as :func:`load_backbone_weights` does, and check the next images' range.

        Args:
            source: A file in the published, timm's or this project's format, or ``timm://NAME``.

        Raises:
            InputError: If the checkpoint is missing, unreadable or of another arch.
        """
        report = load_backbone_weights(self, source)
        self._checks_next_input = True
        return report

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the feature maps of ``out_indices``.

        Args:
            x: ``(N, in_channels, H, W)``, values in [0, 1].

        Returns:
            One ``(N, C, ceil(H / s), ceil(W / s))`` per out index, ``C`` in ``out_channels`` and
            ``s`` in ``out_strides``.

        Raises:
            InputError: If it is no such batch, or a side is shorter than 32 pixels.
        """
        self._check_input(x)
        height, width = x.shape[2:]
        if self._checks_next_input and x.numel() and not is_tracing():
            self._checks_next_input = False
            warn_unless_unit_range(x)
        if height % 4 or width % 4:
            x = F.pad(x, (0, -width % 4, 0, -height % 4))
        x = self.max_pool(self.conv1(self.space_to_depth(x)))
        outputs = []
        for index, stage in enumerate(self.stages):
            x = self._run_stage(stage, x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def _check_input(self, x: torch.Tensor) -> None:
        if not torch.is_tensor(x):
            raise InputError(f'TResNet takes a tensor of images, got a {type(x).__name__}')
        if x.dim() != 4 or (x.shape[1] != self.in_channels and not is_tracing()):
            raise InputError(
                f'TResNet takes images of (N, {self.in_channels}, H, W), got {tuple(x.shape)}'
            )
        if not x.is_floating_point():
            raise InputError(
                f'TResNet takes images of floats in [0, 1], got {x.dtype}: divide 8-bit images by '
                '255, as a data preprocessor with std=[255, 255, 255] does'
            )
        height, width = x.shape[2:]
        if min(height, width) < MIN_SIDE:
            raise InputError(
                f'TResNet needs images of at least {MIN_SIDE} pixels a side, got {height}x{width}'
            )

    def _run_stage(self, stage: Any, x: torch.Tensor) -> torch.Tensor:
        checkpoints = self.with_cp and self.training
        saves_memory = checkpoints or self.recompute_outputs
        if not saves_memory or not torch.is_grad_enabled() or is_tracing():
            return stage(x)
        if checkpoints:
            for block in stage:
                x = _run_checkpointed(block, x)
            return x
        recipe = None  # of x, where the block before has not kept it
        for block in stage:
            # The last output is kept by whatever comes after the stage.
            drops = self.recompute_outputs and recipe is None and block is not stage[-1]
            if drops and _can_recompute(block) and x.numel():
                x, recipe = block.forward_with_recipe(x)
            else:
                x, recipe = block(x, recipe), None
        return x

    def train(self, mode: bool = True) -> 'TResNet':
        """Set training mode, but for what ``frozen_stages`` and ``norm_eval`` keep as it is."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for norm in iterate_norms(self):
                norm.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for module in [self.conv1, *self.stages[: self.frozen_stages]]:
            module.eval()
            for parameter in module.parameters():
                parameter.requires_grad = False


class FeatureInfo(list[dict[str, Any]]):
    """A dict for each output, with timm's keys: ``num_chs``, ``reduction`` and ``module``."""

    def __init__(self, backbone: TResNet) -> None:
        outputs = zip(
            backbone.out_indices, backbone.out_channels, backbone.out_strides, strict=True
        )
        super().__init__(
            dict(num_chs=channels, reduction=stride, module=f'layer{index + 1}')
            for index, channels, stride in outputs
        )

    def channels(self) -> list[int]:
        """Return the channels of each output."""
        return [output['num_chs'] for output in self]

    def reduction(self) -> list[int]:
        """Return the stride of each output."""
        return [output['reduction'] for output in self]


def _can_recompute(block: Any) -> bool:
    """Tell whether stochastic depth is off and the last norm still there, not folded."""
    return isinstance(block.drop_path, nn.Identity) and isinstance(block.last_norm, InPlaceABN)


def _run_checkpointed(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return checkpoint(
        block,
        x,
        use_reentrant=False,
        context_fn=lambda: (contextlib.nullcontext(), keep_running_statistics(block)),
    )


def _check_out_indices(out_indices: object, num_stages: int) -> None:
    is_valid = (
        isinstance(out_indices, (list, tuple))
        and len(out_indices) > 0
        and all(isinstance(i, Integral) and not isinstance(i, bool) for i in out_indices)
        and list(out_indices) == [i for i in range(num_stages) if i in out_indices]
    )
    if not is_valid:
        raise InputError(
            f'out_indices must be increasing stage numbers from 0 to {num_stages - 1}, '
            f'got {shown(out_indices)}'
        )


def resolve_arch(
    arch: object, table: Mapping[str, dict[str, Any]], choices: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the fields of a TResNet.

    Args:
        arch: A name in the table; or a dict with some of the fields, the others being those of
            ``'m'``.
        table: The fields by name.
        choices: What ``stem`` and each of ``block_types`` may be.

    Raises:
        InputError: If there is no such name or field, or a field's value is of the wrong type or
            out of its range.
    """
    if not isinstance(arch, Mapping):
        if not isinstance(arch, str) or arch not in table:
            raise InputError(f'unknown arch {shown(arch)}: use one of {sorted(table)}, or a dict')
        return table[arch]
    fields = table['m']
    unknown = [field for field in arch if field not in fields]
    if unknown:
        raise InputError(f'unknown field {unknown[0]!r} in arch: the fields are {list(fields)}')
    settings = {**fields, **arch}
    for field in ('depths', 'block_types', 'se_stages'):
        value = settings[field]
        if not isinstance(value, (list, tuple)) or len(value) != 4:
            raise InputError(
                f'arch field {field!r} needs one value for each of the 4 stages, got {shown(value)}'
            )
    for flag in settings['se_stages']:
        check_flag("each of arch field 'se_stages'", flag)
    check_flag("arch field 'anti_alias'", settings['anti_alias'])
    for what, values in (('block type', settings['block_types']), ('stem', [settings['stem']])):
        for value in values:
            if value not in choices[what]:
                raise InputError(
                    f'unknown {what} {shown(value)} in arch: use one of {list(choices[what])}'
                )
    for field in ('depths', 'width_factor', 'stem_slope', 'slope'):
        check_value(f'backbone.arch.{field}', settings[field])
    return settings
