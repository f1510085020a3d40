"""One label per image: class folders, or a flat folder with a list of labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS

from ..errors import InputError, MissingFileError, shown
from .classification import (
    ClassificationDataset,
    check_image_files,
    check_repeats,
    find_class_images,
    resolve_classes,
    resolve_folder,
    suggest,
)
from .formats.text_files import read_lines
from .pipeline import TEST_PIPELINE, TRAIN_PIPELINE

MOST_DIGITS = 6  # of a class number: nobody has a million classes


@DATASETS.register_module()
class ImageFolderDataset(ClassificationDataset):
    """Images with one label each: ImageNet's layout, and one's own folders.

    Without ``ann_file``, each class has a folder of images, the layout of torchvision's
    ``ImageFolder`` and of ImageNet's training data. With it, the images lie in one folder, as
    ImageNet's for validation, and each line of the file is ``NAME LABEL``; the labels are class
    names or, where not all of them are, class numbers from 0.

    Args:
        data_root: Folder that the other paths are relative to.
        ann_file: The list of labels; empty where there are class folders.
        data_prefix: ``dict(img=FOLDER)`` for the images' folder below ``data_root``.
        metainfo: ``dict(classes=...)`` for the names in the order of the labels, a tuple or a text
            file with a name on each line. Without it, the folders' or the labels' names, sorted.
            Folders that are not among them are left out.
        pipeline: Transforms by config, see :func:`build_transforms`. None for the recipe of
            training (crop of random size to 224, flip, RandAugment), or of testing with
            ``test_mode`` (256, and the 224 in the centre).
        test_mode: Which of the two.

    Raises:
        MissingFileError: A folder, the list or an image that it names is not there.
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
        folder = resolve_folder(data_root, data_prefix)
        classes = resolve_classes(metainfo)
        if ann_file:
            names, labels, classes = read_label_list(Path(data_root, ann_file), folder, classes)
        else:
            names, labels, classes = find_class_images(folder, classes)
        if pipeline is None:
            pipeline = TEST_PIPELINE if test_mode else TRAIN_PIPELINE
        super().__init__(folder, names, np.array(labels, np.int64), classes, pipeline)


def read_label_list(
    ann_file: Path, folder: Path, classes: Sequence[str] | None
) -> tuple[list[str], list[int], tuple[str, ...]]:
    """Read a list of images with the label of each.

    Args:
        ann_file: Text, ``NAME LABEL`` on each line; a name may have spaces in it.
        folder: Holds the images.
        classes: Names in the order of the labels. None takes the labels for names, sorted; or for
            numbers where all of them are, each its own name.

    Returns:
        The names, the class number of each, and the classes.

    Raises:
        MissingFileError: The file or an image is not there.
        InputError: A line has no label, a label is no class, or an image is there twice.
    """
    if not ann_file.is_file():
        raise MissingFileError(f'label list {ann_file.absolute()} is not there: set ann_file')
    lines = read_lines(ann_file)
    names, labels, rows = [], [], []
    for row, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = line.rsplit(maxsplit=1)
        if len(parts) < 2:
            raise InputError(
                f'{ann_file}:{row}: {shown(line.strip())} is not of the form "NAME LABEL"'
            )
        names.append(parts[0].strip())
        labels.append(parts[1])
        rows.append(row)
    if not names:
        raise InputError(f'{ann_file}: the label list is empty: write "NAME LABEL" on each line')
    check_repeats(ann_file, names, rows)
    numbered = all(label.isdecimal() for label in labels)
    if classes is None:
        high = max(labels, key=len)
        if numbered and len(high) > MOST_DIGITS:
            raise InputError(
                f'{ann_file}:{rows[labels.index(high)]}: the label {shown(high)} is no class '
                'number: they count the classes from 0'
            )
        count = max(map(int, labels)) + 1 if numbered else 0
        classes = [str(number) for number in range(count)] if numbered else sorted(set(labels))
    numbers = {name: number for number, name in enumerate(classes)}
    # Where classes are called '1' and '2', such labels are their names.
    if numbered and not any(name.isdecimal() for name in classes):
        numbers = {str(number): number for number in range(len(classes))}
    for row, label in zip(rows, labels, strict=True):
        if label not in numbers:
            raise InputError(
                f'{ann_file}:{row}: the label {shown(label)} is none of the {len(classes)} '
                'classes: '
                + (
                    f'numbers go from 0 to {len(classes) - 1}'
                    if numbered
                    else suggest(label, classes)
                )
            )
    check_image_files(folder, names, str(ann_file), rows)
    return names, [numbers[label] for label in labels], tuple(classes)
