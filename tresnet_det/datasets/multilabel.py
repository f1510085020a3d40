"""Several labels per image: COCO's JSON, CSV or class folders."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdet.registry import DATASETS
from mmengine.logging import print_log

from ..errors import InputError
from .classification import ClassificationDataset, resolve_classes, resolve_folder
from .formats.multilabel_readers import read_coco, read_csv, read_folders
from .pipeline import MULTI_LABEL_TEST_PIPELINE, MULTI_LABEL_TRAIN_PIPELINE


@DATASETS.register_module()
class MultiLabelDataset(ClassificationDataset):
    """Images with any number of labels each.

    Read from a COCO instances file (``.json``), a CSV file (``.csv``) or, without ``ann_file``, a
    folder for each class, as :mod:`tresnet_det.datasets.formats.multilabel_readers` describes them.
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
        MissingFileError: A file or a folder is not there.
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
        folder = resolve_folder(data_root, data_prefix)
        classes = resolve_classes(metainfo)
        path = Path(data_root, ann_file)
        kind = path.suffix.lower() if ann_file else ''
        if kind not in ('', '.json', '.csv'):
            raise InputError(f'ann_file {path} must be a .json (COCO) or .csv file')
        if kind == '':
            names, labels, classes = read_folders(folder, classes)
        else:
            read = read_coco if kind == '.json' else read_csv
            names, labels, classes = read(path, folder, classes)
        if filter_empty:
            kept = (labels == 1).any(1).nonzero()[0]
            dropped = len(names) - len(kept)
            if dropped:
                print_log(
                    f'{path}: left out {dropped} of {len(names)} images, of which no class is '
                    'known to be there (filter_empty=False keeps them)',
                    'current',
                )
            names, labels = [names[i] for i in kept], labels[kept]
        if not names:
            raise InputError(f'{path}: no image has a label of the classes: nothing to learn')
        if pipeline is None:
            pipeline = MULTI_LABEL_TEST_PIPELINE if test_mode else MULTI_LABEL_TRAIN_PIPELINE
        super().__init__(folder, names, labels, classes, pipeline)
