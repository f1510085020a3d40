"""Single-label datasets: class folders, or a flat folder with a list of labels."""

import logging
from collections.abc import Mapping, Sequence

from mmdet.registry import DATASETS
from mmengine.logging import print_log

from ..readers.config import label_source
from ..readers.data import read_strictly
from .classification import ClassificationDataset
from .pipeline import TEST_PIPELINE, TRAIN_PIPELINE


@DATASETS.register_module()
class ImageFolderDataset(ClassificationDataset):
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

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = '',
        data_prefix: Mapping | None = None,
        metainfo: Mapping | None = None,
        pipeline: Sequence[Mapping] | None = None,
        test_mode: bool = False,
    ) -> None:
        source = label_source(data_root, ann_file, data_prefix, metainfo, several=False)
        split, warnings = read_strictly(source)
        for line in warnings:
            print_log(line, 'current', logging.WARNING)
        labels = split.single_labels()
        if pipeline is None:
            pipeline = TEST_PIPELINE if test_mode else TRAIN_PIPELINE
        super().__init__(split.folder, split.files, labels, split.classes, pipeline)
