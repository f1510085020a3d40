"""TResNet as a backbone for MMDetection 3.x: detection, multi-label and ImageNet classification.

Importing the package prepares the stack below (see :mod:`tresnet_det.compat`) and registers the
backbone and the classifiers on it, so that ``custom_imports = dict(imports=['tresnet_det'])`` is
all that a config needs.
"""

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
