"""The layers of TResNet in plain torch: no registry, no MMDetection."""

from .drop_path import DropPath
from .inplace_abn import InPlaceABN
from .refinements import BlurPool, SpaceToDepth, SqueezeExcite

__all__ = ['BlurPool', 'DropPath', 'InPlaceABN', 'SpaceToDepth', 'SqueezeExcite']
