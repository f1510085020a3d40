"""TResNet as a backbone for MMDetection 3.x: detection, multi-label and ImageNet classification.

Importing the package prepares the stack below (see :mod:`tresnet_det.compat`) and registers the
backbone, so that ``custom_imports = dict(imports=['tresnet_det'])`` is all that a config needs.
"""

from . import compat

compat.prepare()  # before anything of MMDetection that needs mmcv's compiled operators

from .models import TResNet  # noqa: E402

__version__ = '0.1.0'

__all__ = ['TResNet', '__version__']
