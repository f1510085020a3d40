"""Datasets and transforms that configs name, and the demo data.

Importing it registers `LoadImage`, `ImageFolderDataset`, `MultiLabelDataset`, `TorchvisionDataset`,
`BalancedSampler` and `stack_samples`. What is on disk is read by :mod:`tresnet_det.readers`.

Torchvision, whose import takes a second, is imported where an image or a transform needs it.
"""

from .balance import BalancedSampler
from .classification import ImageFolderDataset, MultiLabelDataset
from .collate import stack_samples
from .decode import decode_rgb
from .pipeline import build_transforms
from .torchvision_dataset import TorchvisionDataset
from .transforms import LoadImage

__all__ = [
    'BalancedSampler',
    'ImageFolderDataset',
    'LoadImage',
    'MultiLabelDataset',
    'TorchvisionDataset',
    'build_transforms',
    'decode_rgb',
    'stack_samples',
]
