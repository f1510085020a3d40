"""TResNet with one refinement or one code optimisation left out (the paper's ablation tables)."""

import copy
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..engine.config import load_config
from ..layers import BlurPool, SqueezeExcite
from ..models import TResNet
from ..models.blocks import BLOCKS
from .models import ModelSpec, TResNetClassifier

FULL = 'full'
# What a from-scratch training of the backbone alone runs with, whatever the detector does.
_AS_CLASSIFIER = dict(out_indices=(3,), frozen_stages=-1, norm_eval=False, init_cfg=None)


def refinement_specs(base: Path, folder: Path, size: int) -> list[ModelSpec]:
    """Return a classifier on the backbone of each config, that of ``base`` first.

    Args:
        base: Config of the full model.
        folder: Configs that leave one refinement out, in the order of their names.
        size: Pixels a side.
    """
    paths = [base, *sorted(folder.glob('*.py'))]
    names = [FULL, *(path.stem for path in paths[1:])]
    return [_config_spec(name, path, size) for name, path in zip(names, paths, strict=True)]


def _config_spec(name: str, path: Path, size: int) -> ModelSpec:
    backbone = load_config(path).model.backbone.to_dict()
    del backbone['type']
    backbone |= _AS_CLASSIFIER
    return ModelSpec(name, size, lambda: TResNetClassifier(TResNet(**backbone)), is_ours=True)


def optimisation_specs(full: ModelSpec) -> list[ModelSpec]:
    """Return the full model with one code optimisation off, each in turn."""
    return [
        ModelSpec(name, full.size, full.build, is_ours=True, change=change)
        for name, change in OPTIMISATIONS_OFF.items()
    ]


def without_in_place(model: nn.Module) -> nn.Module:
    """Return a copy whose residual sums and activations take memory of their own.

    In-Place ABN is a refinement with a table row of its own and stays.
    """
    changed = copy.deepcopy(model)
    for module in changed.modules():
        if isinstance(module, tuple(BLOCKS.values())):
            vars(module).update(add_and_relu=_add_and_relu)
        elif isinstance(module, (nn.LeakyReLU, nn.ReLU)):
            module.inplace = False
    return changed


def _add_and_relu(branch: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    return F.relu(branch + shortcut)


def without_fused_blur(model: nn.Module) -> nn.Module:
    """Return a copy whose blurs are padding and convolution as autograd records them."""
    changed = copy.deepcopy(model)
    for module in list(changed.modules()):
        for name, child in module.named_children():
            if isinstance(child, BlurPool):
                setattr(module, name, PlainBlurPool())
    return changed


class PlainBlurPool(nn.Module):
    """:class:`BlurPool` as one would write it down, with what autograd keeps for it."""

    kernel: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer('kernel', torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode='reflect')
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], -1, -1, -1)  # (C, 1, 3, 3)
        return F.conv2d(padded, kernel, stride=2, groups=x.shape[1])


def without_fast_pooling(model: nn.Module) -> nn.Module:
    """Return a copy that pools by ``nn.AdaptiveAvgPool2d(1)``, in the gates and in the head.

    Today's torch computes a mean where the output is a single pixel, so little is left to gain.
    """
    changed = copy.deepcopy(model)
    for module in changed.modules():
        if isinstance(module, SqueezeExcite):
            vars(module).update(gate=types.MethodType(_adaptively_pooled_gate, module))
        elif isinstance(module, TResNetClassifier):
            vars(module).update(pool=types.MethodType(_adaptive_pool, module))
    return changed


def _adaptively_pooled_gate(self: SqueezeExcite, x: torch.Tensor) -> torch.Tensor:
    squeezed = F.adaptive_avg_pool2d(x, 1)  # (N, C, 1, 1)
    return torch.sigmoid(self.fc2(F.relu(self.fc1(squeezed), inplace=True)))


def _adaptive_pool(self: TResNetClassifier, x: torch.Tensor) -> torch.Tensor:
    return F.adaptive_avg_pool2d(x, 1).flatten(1)  # (N, C)


OPTIMISATIONS_OFF = {
    'no_in_place': without_in_place,
    'no_fused_blur': without_fused_blur,
    'no_fast_pooling': without_fast_pooling,
}


def split_tables(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the paper's two tables, the full model at the head of each."""
    full = [row for row in rows if row['model'] == FULL]
    code = [row for row in rows if row['model'] in OPTIMISATIONS_OFF]
    refinements = [row for row in rows if row not in full and row not in code]
    return {'refinements': full + refinements, 'code optimisations': full + code}
