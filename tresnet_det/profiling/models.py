"""The models that can be measured, by name: ours, timm's and torchvision's."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..engine.config import load_config
from ..errors import InputError
from ..models import TResNet

NUM_CLASSES = 1000

# The models of the paper's first table; EfficientNet-B1 at its own resolution, as there.
PAPER_TABLE = (
    'timm:resnet50',
    'timm:resnet50_folded',
    'timm:resnet50d',
    'timm:resnext50_32x4d',
    'timm:seresnext50_32x4d',
    'timm:efficientnet_b1@240',
    'timm:mixnet_l',
    'tresnet_m',
    'tresnet_l',
    'tresnet_xl',
)
# For whom bytes are counted when no model is named.
BYTES_TABLE = (
    'torchvision:resnet50',
    'timm:tresnet_m',
    'tresnet_m',
    'tresnet_m_recompute',
    'tresnet_l',
    'tresnet_xl',
)

# ImageNet top-1 in percent, as published and not measured here. TResNet: arXiv 2003.13630 (M 80.8
# in its first version, 80.7 in the last); the 448-pixel results after 10 epochs of fine-tuning.
# EfficientNet: arXiv 1905.11946, each at the resolution it was made for.
PUBLISHED_TOP1 = {
    'tresnet_m@224': 80.8,
    'tresnet_l@224': 81.4,
    'tresnet_xl@224': 82.0,
    'tresnet_m@448': 83.2,
    'tresnet_l@448': 83.8,
    'tresnet_xl@448': 84.3,
    'timm:efficientnet_b1@240': 79.1,
    'timm:efficientnet_b2@260': 80.1,
    'timm:efficientnet_b3@300': 81.6,
    'timm:efficientnet_b4@380': 82.9,
    'timm:efficientnet_b5@456': 83.6,
}


# Behind the name of one of ours: how it is built.
_VARIANTS: dict[str, dict[str, Any]] = {
    '': {},
    '_recompute': dict(recompute_outputs=True),
    '_cp': dict(with_cp=True),
    '_triton': dict(norm_cfg=dict(type='InPlaceABN', backend='triton')),
    '_inplace_abn': dict(norm_cfg=dict(type='InPlaceABN', backend='inplace_abn')),
}
# Of timm and torchvision: each batch norm stands behind the convolution whose output it takes.
_FOLDABLE = ('resnet50', 'resnet50d')


@dataclass(frozen=True)
class ModelSpec:
    """A classifier to measure.

    Attributes:
        name: As the tables show it.
        size: Side of the square images, in pixels.
        build: Builds it with random weights, on the CPU.
        is_ours: Whether it is a TResNet of this project.
        folds: Whether its norms are folded for inference.
    """

    name: str
    size: int
    build: Callable[[], nn.Module]
    is_ours: bool = False
    folds: bool = False


class TResNetClassifier(nn.Module):
    """A TResNet with global average pooling and a linear layer: ``(N, 3, H, W) -> (N, classes)``.

    Args:
        backbone: Its last output is what is classified.
        num_classes: Number of logits.
    """

    def __init__(self, backbone: TResNet, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(backbone.out_channels[-1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def resolve(name: str, default_size: int) -> ModelSpec:
    """Find a model by its name.

    Args:
        name: ``tresnet_m`` and its kin, ``timm:NAME`` or ``torchvision:NAME``; ``@SIZE`` behind it
            sets the side of its images. ``_recompute`` or ``_cp`` behind one of ours keeps less
            for backward, ``_triton`` and ``_inplace_abn`` choose a backend. A ResNet-50's norms are
            folded for inference, as ours are, with ``_folded`` behind its name.
        default_size: Pixels a side where the name does not say.

    Raises:
        InputError: If there is no such model, with the names that come close.
    """
    model_name, _, size = name.partition('@')
    if size and (not size.isdigit() or int(size) < 1):
        raise InputError(f'{name}: the size behind @ is a number of pixels, not {size!r}')
    library, _, inner = model_name.rpartition(':')
    if library not in _LIBRARIES:
        raise InputError(f'unknown model {name!r}: no library {library!r}; {_usage()}')
    plain = inner.removesuffix('_folded')
    folded = bool(library) and plain != inner and plain in _FOLDABLE
    build = _LIBRARIES[library](plain if folded else inner, model_name)
    is_ours = not library
    return ModelSpec(name, int(size or default_size), build, is_ours, folds=is_ours or folded)


def ablation_specs(base: Path, folder: Path, size: int) -> list[ModelSpec]:
    """Return a classifier on the backbone of each config, that of ``base`` first.

    Args:
        base: Config of the full model.
        folder: Configs that leave one refinement out, in the order of their names.
        size: Pixels a side.
    """

    def spec(name: str, path: Path) -> ModelSpec:
        backbone = load_config(path).model.backbone.to_dict()
        del backbone['type']
        # As in a training from scratch of the backbone alone, whatever the detector does.
        backbone |= dict(out_indices=(3,), frozen_stages=-1, norm_eval=False, init_cfg=None)
        return ModelSpec(name, size, lambda: TResNetClassifier(TResNet(**backbone)), True, True)

    return [spec('full', base), *(spec(path.stem, path) for path in sorted(folder.glob('*.py')))]


def _find_ours(inner: str, name: str) -> Callable[[], nn.Module]:
    ours = {
        f'tresnet_{arch}{ending}': dict(arguments, arch=arch)
        for arch in TResNet.arch_settings
        for ending, arguments in _VARIANTS.items()
    }
    if inner not in ours:
        _refuse(name, ours)
    return lambda: TResNetClassifier(TResNet(out_indices=(3,), **ours[inner]))


def _find_timm(inner: str, name: str) -> Callable[[], nn.Module]:
    try:
        import timm
    except ImportError as error:
        raise InputError(f'{name}: timm is not installed; pip install timm') from error
    if not timm.is_model(inner):
        _refuse(name, timm.list_models(), 'timm:')
    return lambda: timm.create_model(inner, pretrained=False, num_classes=NUM_CLASSES)


def _find_torchvision(inner: str, name: str) -> Callable[[], nn.Module]:
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)  # the classifiers
    if inner not in names:
        _refuse(name, names, 'torchvision:')
    return lambda: torchvision.models.get_model(inner, weights=None, num_classes=NUM_CLASSES)


_LIBRARIES = {'': _find_ours, 'timm': _find_timm, 'torchvision': _find_torchvision}


def _refuse(name: str, known: Iterable[str], prefix: str = '') -> None:
    close = difflib.get_close_matches(name.removeprefix(prefix), list(known), n=3)
    hint = f'did you mean {" or ".join(prefix + c for c in close)}?' if close else _usage()
    raise InputError(f'unknown model {name!r}: {hint}')


def _usage() -> str:
    ours = ', '.join(f'tresnet_{arch}' for arch in TResNet.arch_settings)
    return f'use {ours}, timm:NAME or torchvision:NAME'
