"""The way in: read the splits of a dataset, with every check that a training makes.

``check_data.py`` collects what is wrong, a training raises the first error: both call `read_data`.
What else is to be checked of annotations and the headers of images belongs here or in the readers;
checks that read whole images, or compare them, belong into :mod:`tresnet_det.inspection`.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..errors import InputError
from .boxes import check_boxes
from .class_folders import read_class_folders
from .classes import check_num_classes, compare_classes
from .coco import read_coco
from .csv import read_csv, read_list
from .files import list_folder, not_found
from .findings import Findings
from .split import NO_CLASS, Source, Split
from .voc import read_voc
from .yolo import read_yolo

READERS: Mapping[str, Callable[[Source, Findings], Split | None]] = {
    'coco': read_coco,
    'voc': read_voc,
    'yolo': read_yolo,
    'csv': read_csv,
    'list': read_list,
    'folders': read_class_folders,
}
ONE_LABEL = ('list', 'folders')  # kinds of single-label sources


def read_data(
    sources: Sequence[Source], findings: Findings, num_classes: int | None = None
) -> list[Split]:
    """Read splits, and check them as far as that needs no pixels.

    Args:
        sources: Where they are.
        findings: Gets what is wrong.
        num_classes: Of the model's head; None where it is not known.

    Returns:
        Those that could be read.

    Raises:
        InputError: The findings are strict, and there is an error.
    """
    splits = []
    for split in _locate(
        _drop_group(_share_voc_classes(_read(sources, findings)), findings), findings
    ):
        if split.boxes is None:
            splits.append(replace(split, usable=split.labels >= 0))
        else:
            splits.append(check_boxes(split, findings))
    _check_usable(splits, findings)
    named = [(s.name, s.source.ann_file, s.classes) for s in splits if s.source.needs_truth]
    check_num_classes(named, num_classes, findings)
    first = next(((s.name, '', s.classes) for s in splits if s.source.training), None)
    compare_classes(named, first, findings)
    for split in splits:
        add = findings.about(split.name, split.source.ann_file)
        if not split.source.needs_truth or findings.has(split.name, 'nothing-to-learn'):
            continue
        if split.source.own and split.source.kind in ONE_LABEL and len(split.classes) == 1:
            add('single-class', [repr(split.classes[0])])
        silent = ~split.annotated if split.lacking is None else ~split.annotated & ~split.lacking
        rows = silent.nonzero()[0]
        add('no-annotation', rows, split.files.__getitem__, len(split.files))
    return splits


def read_strictly(source: Source) -> tuple[Split, list[str]]:
    """Read one split for a dataset.

    Returns:
        The split, and warnings, a line each.

    Raises:
        InputError: There is an error in it.
    """
    findings = Findings(strict=True)
    split = READERS[source.kind](source, findings)
    assert split is not None  # or it would have been raised why
    return _locate([split], findings)[0], findings.warnings()


def _read(sources: Sequence[Source], findings: Findings) -> list[Split]:
    splits: list[Split] = []
    classes = None  # of the first split of your own data, which the others have to follow
    for source in sources:
        if source.own and source.kind not in ('voc', 'yolo') and source.classes is None and classes:
            known_by = 'the training data' if source.kind == 'folders' else ''
            source = replace(source, classes=classes, known_by=known_by)
        split = READERS[source.kind](source, findings)
        if split is not None:
            splits.append(split)
            classes = classes or split.classes
    return splits


def _share_voc_classes(splits: list[Split]) -> list[Split]:
    """Number VOC's classes by the names in all splits."""
    own = [s for s in splits if s.source.kind == 'voc' and s.source.classes is None]
    classes = tuple(sorted({name for split in own for name in split.classes}))
    return [_renumber(split, classes) if split in own else split for split in splits]


def _drop_group(splits: list[Split], findings: Findings) -> list[Split]:
    """Leave out a category that groups the others, where no object is of it."""
    own = [s for s in splits if s.source.own and s.source.kind == 'coco']
    group = own[0].group if own else None
    if group is None or any(
        group in s.classes and (s.labels == s.classes.index(group)).any() for s in own
    ):
        return splits
    text = f'the category {group!r} groups the others and has no boxes: skipped'
    findings.add(own[0].name, own[0].source.ann_file, 'left-out', [text])
    classes = tuple(name for name in own[0].classes if name != group)
    return [_renumber(split, classes) if split in own else split for split in splits]


def _renumber(split: Split, classes: tuple[str, ...]) -> Split:
    number = {name: i for i, name in enumerate(classes)}
    new = [number.get(name, NO_CLASS) for name in split.classes]
    return replace(split, classes=classes, labels=np.array([*new, NO_CLASS])[split.labels])


def _locate(splits: Sequence[Split], findings: Findings) -> list[Split]:
    """Find which images are there, by listing each folder once, not asking for every file."""
    listed: dict[str, set[str]] = {}
    located = []
    for split in splits:
        found = np.ones(len(split.files), bool)
        if split.source.kind != 'folders':  # listed already
            add = findings.about(split.name, split.source.ann_file)
            if not split.folder.is_dir():
                add('missing-folder', [not_found('image folder', split.folder)])
            if findings.has(split.name, 'missing-folder', 'images-not-found'):
                located.append(replace(split, found=~found))
                continue
            pairs = [os.path.split(file) for file in split.files]
            for part in {part for part, _ in pairs}:
                place = os.path.join(split.folder, part)
                if place not in listed:
                    try:
                        listed[place] = list_folder(place)
                    except InputError as error:
                        listed[place] = set()
                        add('missing-folder', [error])
            there = {part: listed[os.path.join(split.folder, part)] for part, _ in pairs}
            found = np.array([name in there[part] for part, name in pairs], bool)
            lost = np.flatnonzero(~found).tolist()
            add('missing-image', lost, _lost_namer(split, there), len(pairs))
        located.append(replace(split, found=found))
    return located


def _lost_namer(split: Split, there: Mapping[str, set[str]]) -> Callable[[int], str]:
    """Return what names a lost image, and the file whose name differs by case alone.

    Args:
        split: Whose image it is.
        there: The files in each folder that its images name.
    """

    @functools.cache
    def by_small_letters(folder: str) -> dict[str, str]:
        return {name.casefold(): name for name in there[folder]}

    def describe(row: int) -> str:
        folder, name = os.path.split(split.files[row])
        close = by_small_letters(folder).get(name.casefold())
        return split.files[row] + (f' (there is {close})' if close else '')

    return describe


def _check_usable(splits: Sequence[Split], findings: Findings) -> None:
    """Check that there is something to learn, and to measure on; a part of several may lack it."""
    training = [split for split in splits if split.source.training]
    groups = [training] + [[split] for split in splits if not split.source.training]
    for group in groups:
        wanting = [split for split in group if split.source.needs_truth]
        if not wanting or any(split.usable.any() for split in group):
            continue
        if not any(findings.has_error(split.name) for split in group):
            file = wanting[0].source.ann_file
            findings.add(wanting[0].name, file, 'nothing-to-learn', [nothing_usable(file)])


def nothing_usable(file: object) -> str:
    """Say that no annotation of a file can be used."""
    return f'{file}: no image has a usable box or label of the classes, nothing to learn or measure'
