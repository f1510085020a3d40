"""The way in: read the splits of a dataset, with every check that a training makes.

``check_data.py`` collects what is wrong, a training raises the first error: both call `read_data`.
What else is to be checked of annotations and the headers of images belongs here or in the readers;
checks that read whole images, or compare them, belong in :mod:`tresnet_det.inspection`.
"""

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingFileError, shown
from .class_folders import read_class_folders
from .coco import read_coco
from .csv import read_csv, read_list
from .files import child_folders, list_folder, not_found
from .findings import Add, Findings, check_num_classes, compare_classes
from .layouts import role_of
from .split import NO_CLASS, Source, Split, check_boxes
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
DEPTH = 3  # folders below the data's own in which images are looked for
SAMPLE = 100  # names by which the folder of images is found


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
    split = _read_one(source, findings)
    assert split is not None  # or it would have been raised why
    return _locate([split], findings)[0], findings.warnings()


def _read(sources: Sequence[Source], findings: Findings) -> list[Split]:
    splits: list[Split] = []
    classes = None  # of the first split of your own data, which the others have to follow
    for source in sources:
        if source.own and source.kind not in ('voc', 'yolo') and source.classes is None and classes:
            known_by = 'the training data' if source.kind == 'folders' else ''
            source = replace(source, classes=classes, known_by=known_by)
        split = _read_one(source, findings)
        if split is not None:
            splits.append(split)
            classes = classes or split.classes
    return splits


def _read_one(source: Source, findings: Findings) -> Split | None:
    """Read one split; None where it cannot be read, which is a finding then."""
    try:
        return READERS[source.kind](source, findings)
    except InputError as error:
        if findings.strict and findings.has_error(source.name):  # the finding itself
            raise
        if isinstance(error, MissingFileError):
            what = 'image folder' if source.kind == 'folders' else 'annotation file'
            code = 'missing-folder' if source.kind == 'folders' else 'missing-file'
            findings.add(source.name, source.ann_file, code, [not_found(what, source.ann_file)])
        else:
            findings.add(source.name, source.ann_file, 'unreadable-annotations', [error])
    return None


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
    """Find which images exist, by listing each folder once, not asking for every file."""
    listed: dict[str, set[str]] = {}
    located = []
    for split in splits:
        found = np.ones(len(split.files), bool)
        if split.source.kind != 'folders':  # listed already
            add = findings.about(split.name, split.source.ann_file)
            split = replace(split, folder=_find_folder(split, add))
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


def find_images(root: Path, names: Sequence[str], ann_file: Path, role: str) -> Path:
    """Find the folder that the image files of an annotation file are relative to.

    Where several folders have them (as where each split counts from 1), it is the one next to the
    file, or with the file's name, or with a name of the role.

    Args:
        root: Folder of the data.
        names: As the file has them, at least one.
        ann_file: The file.
        role: ``'train'``, ``'val'`` or ``'test'``.

    Raises:
        MissingFileError: No folder has any of them.
        InputError: Several have them, and nothing tells which are meant.
    """
    sample = names[:: max(1, len(names) // SAMPLE)]
    counts = {
        folder: sum(os.path.isfile(folder / name) for name in sample)
        for folder in _walk_down(root, DEPTH)
    }
    most = max(counts.values())
    if not most:
        raise MissingFileError(
            f'{ann_file}: names images such as {shown(names[0])}, and no folder below {root} has '
            'them: put them there, under the names that it gives'
        )
    split = re.sub('^instances_', '', ann_file.stem)

    def rank(folder: Path) -> tuple[bool, bool, bool, int]:
        parts = folder.relative_to(root).parts
        named = split in parts or role in map(role_of, parts)
        return folder == ann_file.parent, split in parts, named, counts[folder]

    # A folder of the right name may lack some images, which the data's checks then tell.
    able = [folder for folder, count in counts.items() if count >= most / 2]
    best = max(map(rank, able))
    chosen = [folder for folder in able if rank(folder) == best]
    if len(chosen) > 1:
        raise InputError(
            f'{ann_file}: {chosen[0]} and {chosen[1]} both have images of its names: move one '
            'away, or give the right one a name of the split'
        )
    return chosen[0]


def _find_folder(split: Split, add: Add) -> Path:
    """Return the folder of a split's images: where none has them, the one that they lie below."""
    source = split.source
    if source.search and split.files:
        try:
            return find_images(source.folder, split.files, source.ann_file, source.role)
        except InputError as error:
            add('images-not-found', [error])
    return split.folder


def _walk_down(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        for child in child_folders(root):
            yield from _walk_down(child, depth - 1)
