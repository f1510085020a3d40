"""TResNet as a backbone for MMDetection 3.x: detection, multi-label and ImageNet classification.

Importing the package prepares the stack below (see :mod:`tresnet_det.compat`) and registers the
backbone and the classifiers on it, so that ``custom_imports = dict(imports=['tresnet_det'])`` is
all that a config needs. What trains, measures and predicts is imported when it is first asked for.
Without MMDetection there is :mod:`tresnet_det.backbone`, which needs torch alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import compat
from .compat.detection import has_detection, needs_detection
from .compat.interrupt import end_quietly

end_quietly()  # a tool, at Ctrl-C during the imports below
if has_detection():
    compat.prepare()  # before anything of MMDetection that needs mmcv's compiled operators
    from . import models  # noqa: F401  (registers them)
from . import backbone  # noqa: E402, F401

if TYPE_CHECKING:
    from .cli.api import RunResult, evaluate, train
    from .inference.predictor import Predictor
    from .inference.result import Result
    from .models import (
        AsymmetricLoss,
        ImageClassifier,
        LinearClsHead,
        MLDecoderHead,
        SingleLabelAsymmetricLoss,
        TResNet,
    )

__version__ = '0.2.0'

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

# Where those names are that are not in `models`.
_HOMES = {
    **dict.fromkeys(('RunResult', 'evaluate', 'train'), '.cli.api'),
    'Predictor': '.inference.predictor',
    'Result': '.inference.result',
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if not has_detection():
        raise ImportError(needs_detection(f'tresnet_det.{name}'))
    return getattr(import_module(_HOMES.get(name, '.models'), __name__), name)
