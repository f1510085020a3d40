"""What the classification datasets share: images and labels in memory, a pipeline, checks."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import InputError
from ..models import ClsDataSample
from .decode import decode_rgb
from .pipeline import build_transforms


class LabelledImages(Dataset):
    """Images with their labels, read and transformed when they are asked for.

    A sample is what MMEngine's Runner hands to a model: ``inputs``, ``(3, H, W)`` of uint8 in RGB,
    and ``data_samples``, a ``ClsDataSample`` with ``gt_label``, ``img_path``, ``ori_shape`` and
    ``img_shape`` (height and width). The colours are normalised by the model's data preprocessor,
    which must not swap them: ``bgr_to_rgb=False``.

    A subclass says how many images there are, where they are and how one is read.

    Args:
        classes: Names of the classes.
        pipeline: Transforms, as :func:`build_transforms` takes them.
    """

    def __init__(self, classes: Sequence[str], pipeline: Sequence[Mapping]) -> None:
        self._classes = tuple(classes)
        self._transforms = build_transforms(pipeline)

    @property
    def metainfo(self) -> dict:
        """``classes``: the names in the order of the labels."""
        return dict(classes=self._classes)

    def __len__(self) -> int:
        raise NotImplementedError

    def img_path(self, index: int) -> str:
        """Return the file of an image."""
        raise NotImplementedError

    def read(self, index: int) -> tuple[torch.Tensor, np.ndarray | int]:
        """Return an image, ``(3, H, W)`` of uint8 in RGB, and its label, before any transform."""
        raise NotImplementedError

    def full_init(self) -> None:
        """Do nothing: MMEngine's ConcatDataset and RepeatDataset ask it of what they wrap."""

    def __getitem__(self, index: int) -> dict:
        """Return a sample.

        Raises:
            InputError: The image does not decode, or the pipeline gives no uint8 tensor.
        """
        image, label = self.read(index)
        inputs = self._transforms(image)
        if not (torch.is_tensor(inputs) and inputs.dtype == torch.uint8 and inputs.dim() == 3):
            got = inputs.dtype if torch.is_tensor(inputs) else type(inputs).__name__
            raise InputError(
                f'the pipeline gives {got} and not a uint8 tensor (3, H, W): leave conversions and '
                "Normalize out of it, the model's data_preprocessor normalises"
            )
        sample = ClsDataSample(
            metainfo=dict(
                img_path=self.img_path(index),
                ori_shape=tuple(image.shape[1:]),
                img_shape=tuple(inputs.shape[1:]),
            )
        )
        sample.gt_label = torch.from_numpy(np.array(label, np.int64))
        # A worker would send all of the image that a crop is a view of.
        return dict(inputs=inputs.contiguous(), data_samples=sample)


class ClassificationDataset(LabelledImages):
    """Image files in a folder, with their labels in memory.

    Args:
        folder: Holds the images.
        names: ``N`` image files, relative to ``folder``.
        gt_labels: Class numbers, ``(N,)`` of int64; or several an image, ``(N, classes)`` of int8
            with 1, 0 and -1 for unknown.
        classes: Names of the classes.
        pipeline: Transforms, as :func:`build_transforms` takes them.

    Attributes:
        gt_labels: As given, by image.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        gt_labels: np.ndarray,
        classes: Sequence[str],
        pipeline: Sequence[Mapping],
    ) -> None:
        super().__init__(classes, pipeline)
        self.folder = folder
        # One array and not a million strings, whose counts each worker would write to, and so copy.
        self._names = np.array([os.fsencode(name) for name in names])
        self.gt_labels = gt_labels

    def __len__(self) -> int:
        return len(self._names)

    def img_path(self, index: int) -> str:
        return os.path.join(self.folder, os.fsdecode(self._names[index]))

    def read(self, index: int) -> tuple[torch.Tensor, np.ndarray]:
        return decode_rgb(self.img_path(index)), self.gt_labels[index]
