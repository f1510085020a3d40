"""The layers of TResNet in plain torch: no registry, no MMDetection."""

from .inplace_abn import InPlaceABN
from .refinements import BlurPool, SpaceToDepth, SqueezeExcite

__all__ = ['BlurPool', 'InPlaceABN', 'SpaceToDepth', 'SqueezeExcite']
