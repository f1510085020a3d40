"""TResNet as a backbone for MMDetection 3.x: detection, multi-label and ImageNet classification.

Importing the package prepares the stack below (see :mod:`tresnet_det.compat`) and registers the
backbone and the classifiers on it, so that ``custom_imports = dict(imports=['tresnet_det'])`` is
all that a config needs. What trains, measures and predicts is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import compat

compat.prepare()  # before anything of MMDetection that needs mmcv's compiled operators

from .models import (  # noqa: E402
    AsymmetricLoss,
    ImageClassifier,
    LinearClsHead,
    MLDecoderHead,
    SingleLabelAsymmetricLoss,
    TResNet,
)

if TYPE_CHECKING:
    from .cli.api import RunResult, evaluate, train
    from .inference.predictor import Predictor
    from .inference.result import Result

__version__ = '0.1.0'

__all__ = [
    'AsymmetricLoss',
    'ImageClassifier',
    'LinearClsHead',
    'MLDecoderHead',
    'Predictor',
    'Result',
    'RunResult',
    'SingleLabelAsymmetricLoss',
    'TResNet',
    '__version__',
    'evaluate',
    'train',
]

_WHEN_ASKED_FOR = {
    **dict.fromkeys(('RunResult', 'evaluate', 'train'), '.cli.api'),
    'Predictor': '.inference.predictor',
    'Result': '.inference.result',
}


def __getattr__(name: str) -> Any:
    if name in _WHEN_ASKED_FOR:
        return getattr(import_module(_WHEN_ASKED_FOR[name], __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
