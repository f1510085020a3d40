"""Checks of classification data before anything is built: do the classes fit model and each other.

The datasets check their own files and rows when they are built, and name them.
"""

from collections.abc import Mapping, Sequence

from mmdet.registry import DATASETS

from ..errors import InputError, MissingFileError, few
from .checks import coco_download


def read_classes(cfg_dataset: Mapping) -> tuple[str, ...]:
    """Return the classes of a dataset's config, by building it.

    Raises:
        MissingFileError: A file or folder of it is not there.
        InputError: What its files have wrong, or it has no classes.
    """
    try:
        classes = DATASETS.build(cfg_dataset).metainfo.get('classes')
    except MissingFileError as error:
        command = coco_download(cfg_dataset.get('ann_file') or '')
        ways = [f'get MS-COCO by `{command}`'] if command else []
        ways += ['name your own data by `--data-root DIR`', 'or try the demo data by `--demo`']
        raise MissingFileError(f'{error}; {", ".join(ways)}') from error
    if not classes:
        raise InputError(f'{cfg_dataset["type"]} names no classes: set metainfo.classes')
    return tuple(classes)


def count_classes(cfg_dataset: Mapping) -> int:
    """Return how many classes a dataset's config has.

    Raises:
        InputError: As :func:`read_classes`.
    """
    return len(read_classes(cfg_dataset))


def check_classes(datasets: Mapping[str, Mapping], num_classes: int | None) -> None:
    """Hold the classes of data loaders against the model's and each other's.

    Of several processes each does: a data set that downloads lets one go first, and all must build
    it as often.

    Args:
        datasets: ``*_dataloader.dataset`` configs by the loader's name; each is built once.
        num_classes: Of the model's head; None where it is not known.

    Raises:
        InputError: They do not fit, or a file of the data is wrong.
    """
    first = None
    for name, cfg in datasets.items():
        classes = read_classes(cfg)
        if num_classes is not None and not _fits(classes, num_classes):
            raise InputError(
                f'model.head.num_classes is {num_classes} and {name} has {len(classes)} classes '
                f'({few(classes)}): set model.head.num_classes={len(classes)}, or '
                'metainfo.classes of the dataset to the right names'
            )
        if first is None:
            first = name, classes
        elif classes != first[1] and not any(map(are_number_names, (classes, first[1]))):
            only = [c for c in classes if c not in first[1]]
            lacks = [c for c in first[1] if c not in classes]
            how = (
                (f'has {few(only)} more' if only else '')
                + (' and ' if only and lacks else '')
                + (f'lacks {few(lacks)}' if lacks else '')
            ) or 'has them in another order'
            raise InputError(
                f'{name} does not have the classes of {first[0]}, it {how}: set metainfo.classes '
                'of both to the same names'
            )


def _fits(classes: Sequence[str], num_classes: int) -> bool:
    # A label list of numbers need not reach the last class.
    if are_number_names(classes):
        return len(classes) <= num_classes
    return len(classes) == num_classes


def are_number_names(classes: Sequence[str]) -> bool:
    """Whether the classes are the numbers of a label list, which has no names."""
    return list(classes) == [str(number) for number in range(len(classes))]
