"""TResNet as a backbone for MMDetection 3.x: detection, multi-label and ImageNet classification.

Importing the package prepares the stack below (see :mod:`tresnet_det.compat`) and registers the
backbone and the classifiers on it, so that ``custom_imports = dict(imports=['tresnet_det'])`` is
all that a config needs. Without MMDetection there is :mod:`tresnet_det.backbone`, in plain torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import compat
from .compat.detection import has_detection, needs_detection

if has_detection():
    compat.prepare()  # before anything of MMDetection that needs mmcv's compiled operators
    from . import models  # noqa: F401  (registers them)
from . import backbone  # noqa: E402, F401

if TYPE_CHECKING:
    from .models import (
        AsymmetricLoss,
        ImageClassifier,
        LinearClsHead,
        MLDecoderHead,
        SingleLabelAsymmetricLoss,
        TResNet,
    )

__version__ = '0.1.0'

__all__ = [
    'AsymmetricLoss',
    'ImageClassifier',
    'LinearClsHead',
    'MLDecoderHead',
    'SingleLabelAsymmetricLoss',
    'TResNet',
    '__version__',
]

# Where a public name is, if not in `models`: what is slow to import waits for its first use.
_HOMES: dict[str, str] = {}

if not TYPE_CHECKING:  # a checker would take any name

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name not in __all__:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        if not has_detection():
            raise ImportError(needs_detection(f'tresnet_det.{name}'))
        home = importlib.import_module(f'.{_HOMES.get(name, "models")}', __name__)
        globals()[name] = getattr(home, name)
        return globals()[name]
