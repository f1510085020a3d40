"""Data sets: the demo digits, readers and converters, checks.

Importing it registers `LoadImage`, `ImageFolderDataset`, `MultiLabelDataset`, `TorchvisionDataset`
and `stack_samples`.

The converters and checks are imported from their modules, so that this stays light; so does
torchvision, which takes a second, until an image or a transform needs it.
"""

from .collate import stack_samples
from .decode import decode_rgb
from .image_folder import ImageFolderDataset
from .multilabel import MultiLabelDataset
from .pipeline import build_transforms
from .torchvision_dataset import TorchvisionDataset
from .transforms import LoadImage

__all__ = [
    'ImageFolderDataset',
    'LoadImage',
    'MultiLabelDataset',
    'TorchvisionDataset',
    'build_transforms',
    'decode_rgb',
    'stack_samples',
]
