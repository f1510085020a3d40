"""The bricks of TResNet in pure torch: no registry, no MMDetection."""

from .blur_pool import BlurPool
from .inplace_abn import InPlaceABN
from .space_to_depth import SpaceToDepth
from .squeeze_excite import SqueezeExcite

__all__ = ['BlurPool', 'InPlaceABN', 'SpaceToDepth', 'SqueezeExcite']
