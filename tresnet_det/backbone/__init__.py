"""TResNet in plain torch, as timm's models are used; no other package is needed.

>>> from tresnet_det.backbone import tresnet_m
>>> model = tresnet_m(features_only=True, out_indices=(1, 2, 3))
>>> model.feature_info.channels()
[128, 1024, 2048]
"""

from .create import TResNetClassifier, tresnet_l, tresnet_m, tresnet_v2_l, tresnet_xl
from .tresnet import TResNet

__all__ = [
    'TResNet',
    'TResNetClassifier',
    'tresnet_l',
    'tresnet_m',
    'tresnet_v2_l',
    'tresnet_xl',
]
