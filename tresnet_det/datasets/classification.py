"""Datasets of labelled images: class folders, label lists, CSV and COCO's JSON."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.logging import print_log
from torch.utils.data import Dataset

from ..errors import InputError
from ..models import ClsDataSample
from ..readers.config import label_source
from ..readers.data import nothing_usable, read_strictly
from .decode import decode_rgb
from .pipeline import (
    MULTI_LABEL_TEST_PIPELINE,
    MULTI_LABEL_TRAIN_PIPELINE,
    TEST_PIPELINE,
    TRAIN_PIPELINE,
    build_transforms,
)


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


class LabelledFiles(LabelledImages):
    """Image files in a folder, with their labels in memory.

    A subclass says by ``several`` whether an image may have several labels, and by ``pipelines``
    which transforms it has in training and in testing where a config names none. Its arguments are
    those of :class:`ImageFolderDataset`.

    Attributes:
        gt_labels: Class numbers, ``(N,)`` of int64; or several an image, ``(N, classes)`` of int8
            with 1, 0 and -1 for unknown.
    """

    several: bool
    pipelines: tuple[Sequence[Mapping], Sequence[Mapping]]

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = '',
        data_prefix: Mapping | None = None,
        metainfo: Mapping | None = None,
        pipeline: Sequence[Mapping] | None = None,
        test_mode: bool = False,
    ) -> None:
        source = label_source(data_root, ann_file, data_prefix, metainfo, self.several)
        split, warnings = read_strictly(source)
        for line in warnings:
            print_log(line, 'current', logging.WARNING)
        super().__init__(split.classes, self.pipelines[test_mode] if pipeline is None else pipeline)
        self.source, self.folder = source, split.folder
        # One array and not a million strings, whose counts each worker would write to, and so copy.
        self._names = np.array([os.fsencode(name) for name in split.files])
        self.gt_labels = split.matrix() if self.several else split.single_labels()

    def __len__(self) -> int:
        return len(self._names)

    def img_path(self, index: int) -> str:
        return os.path.join(self.folder, os.fsdecode(self._names[index]))

    def read(self, index: int) -> tuple[torch.Tensor, np.ndarray]:
        return decode_rgb(self.img_path(index)), self.gt_labels[index]


@DATASETS.register_module()
class ImageFolderDataset(LabelledFiles):
    """Images for single-label classification: ImageNet's layout, and your own folders.

    Without ``ann_file``, each class has a folder of images, the layout of torchvision's
    ``ImageFolder`` and of ImageNet's training data. With it, the images are in one folder, as
    ImageNet's for validation, and each line of the file is ``NAME LABEL``; the labels are class
    names or, where not all of them are, class numbers from 0.

    Args:
        data_root: Folder that the other paths are relative to.
        ann_file: The list of labels; empty where there are class folders.
        data_prefix: ``dict(img=FOLDER)`` for the images' folder below ``data_root``.
        metainfo: ``dict(classes=...)`` for the names in the order of the labels, a tuple or a text
            file with a name on each line. Without it, the folders' or the labels' names, sorted.
            Folders that are not among them are skipped.
        pipeline: Transforms by config, see :func:`build_transforms`. None for the recipe of
            training (crop of random size to 224, flip, RandAugment), or of testing with
            ``test_mode`` (256, and the 224 in the centre).
        test_mode: Which of the two.

    Raises:
        MissingFileError: A folder, the list or an image that it names does not exist.
        InputError: A class has no image, or a line, label or transform is none.
    """

    several = False
    pipelines = TRAIN_PIPELINE, TEST_PIPELINE


@DATASETS.register_module()
class MultiLabelDataset(LabelledFiles):
    """Images with any number of labels each.

    Read from a COCO instances file (``.json``), a CSV file (``.csv``) or, without ``ann_file``, a
    folder for each class, as the readers of :mod:`tresnet_det.readers` describe them.
    A label of -1 in a CSV file is unknown: the losses and the metric pass over it.

    Args:
        data_root: Folder that the other paths are relative to.
        ann_file: The JSON or CSV; empty for folders.
        data_prefix: ``dict(img=FOLDER)`` for the images' folder below ``data_root``.
        metainfo: ``dict(classes=...)`` for the names in the order of the labels, a tuple or a text
            file with a name on each line; training and validation must agree on them. Without it,
            the file's order, or sorted where it has none.
        pipeline: Transforms by config, see :func:`build_transforms`. None for ASL's recipe of
            training (squished to 448, Cutout, RandAugment), or of testing with ``test_mode``
            (squished to 448).
        test_mode: Which of the two.
        filter_empty: Leave out images in which no class is known to be there, in testing too, as
            the published protocol does on COCO. The log says how many.

    Raises:
        MissingFileError: A file or a folder does not exist.
        InputError: The labels cannot be read, see the readers, or no image has one.
    """

    several = True
    pipelines = MULTI_LABEL_TRAIN_PIPELINE, MULTI_LABEL_TEST_PIPELINE

    def __init__(self, *args: Any, filter_empty: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        file, total = self.source.ann_file, len(self)
        if filter_empty:
            kept = (self.gt_labels == 1).any(1)
            self._names, self.gt_labels = self._names[kept], self.gt_labels[kept]
            if len(self) < total:
                print_log(
                    f'{file}: skipped {total - len(self)} of {total} images, of which no class is '
                    'known to be there (filter_empty=False keeps them)',
                    'current',
                )
        if not len(self):
            raise InputError(nothing_usable(file))
