"""Multi-label datasets: COCO's JSON, CSV or class folders."""

import logging
from collections.abc import Mapping, Sequence

from mmdet.registry import DATASETS
from mmengine.logging import print_log

from ..errors import InputError
from ..readers.config import label_source
from ..readers.data import nothing_usable, read_strictly
from .classification import ClassificationDataset
from .pipeline import MULTI_LABEL_TEST_PIPELINE, MULTI_LABEL_TRAIN_PIPELINE


@DATASETS.register_module()
class MultiLabelDataset(ClassificationDataset):
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

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = '',
        data_prefix: Mapping | None = None,
        metainfo: Mapping | None = None,
        pipeline: Sequence[Mapping] | None = None,
        test_mode: bool = False,
        filter_empty: bool = True,
    ) -> None:
        source = label_source(data_root, ann_file, data_prefix, metainfo, several=True)
        split, warnings = read_strictly(source)
        for line in warnings:
            print_log(line, 'current', logging.WARNING)
        names, labels = split.files, split.matrix()
        if filter_empty:
            kept = (labels == 1).any(1).nonzero()[0]
            dropped = len(names) - len(kept)
            if dropped:
                print_log(
                    f'{source.ann_file}: skipped {dropped} of {len(names)} images, of which no '
                    'class is known to be there (filter_empty=False keeps them)',
                    'current',
                )
            names, labels = [names[i] for i in kept], labels[kept]
        if not names:
            raise InputError(nothing_usable(source.ann_file))
        if pipeline is None:
            pipeline = MULTI_LABEL_TEST_PIPELINE if test_mode else MULTI_LABEL_TRAIN_PIPELINE
        super().__init__(split.folder, names, labels, split.classes, pipeline)
