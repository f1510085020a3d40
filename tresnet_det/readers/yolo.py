"""Reader of YOLO's label files: a text file per image, a row per box in fractions of it."""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError, few
from .classes import find_unknown
from .data_yaml import YoloData, number_names
from .files import SUFFIXES, image_size, read_lines, walk
from .findings import Add, Findings
from .split import NO_CLASS, Boxes, Source, Split
from .yolo_rows import Box, RowError, parse_row

UNNAMED = 10_000  # classes that are taken where nothing names them
DIGITS = 3  # of pixels; label files have six decimals, half a thousandth of 1000 pixels
NO_LABELS = ('classes.txt', 'train.txt', 'val.txt', 'test.txt', 'readme.txt')


@dataclass
class _Objects:
    """The good rows of label files, and by kind the bad ones."""

    rows: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    edges: list[Box] = field(default_factory=list)
    wheres: list[tuple[Path, int]] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    filled: set[int] = field(default_factory=set)  # images with any row, good or bad


def read_yolo(source: Source, findings: Findings) -> Split | None:
    """Read the label files of a split; None where it has no images.

    A row is ``CLASS CX CY WIDTH HEIGHT`` in fractions of the image, the class a number from 0. A
    row of the class and three points or more is a polygon, which becomes the box around it. The
    label file of an image lies where the last ``images`` among its folders is ``labels``, or else
    beside it. An image without one is background, without boxes.

    Fractions are of the image as it is shown: width and height come from its header, exchanged
    where EXIF says that it lies on its side, as MMDetection loads it. Boxes are rounded to a
    thousandth of a pixel; those of an image whose header cannot be read are skipped.

    Args:
        source: Of the kind ``'yolo'``.
        findings: Gets what is wrong with lists, label files and their rows.
    """
    data, add = source.yolo, findings.about(source.name, source.ann_file)
    assert data is not None  # of this kind
    places = data.splits[source.role]
    try:
        images = list(dict.fromkeys(image for place in places for image in list_images(place)))
    except InputError as error:
        add('unreadable-annotations', [error])
        return None
    if not images:
        text = f'{data.source}: {source.role} has no image in {few(map(str, places))}'
        add('nothing-to-learn', [text])
        return None
    labels = [label_file(image) for image in images]
    lacking = np.array([not os.path.isfile(file) for file in labels])
    objects = _Objects()
    for i, file in enumerate(labels):
        if not lacking[i]:
            _read_rows(i, file, data, source.folder, objects)
    _check_files(source, add, images, labels, lacking)
    total = len(objects.rows) + sum(map(len, objects.faults.values()))
    for code, faults in objects.faults.items():
        add(code, faults, total=total)
    return _make_split(source, add, images, lacking, objects)


def _read_rows(i: int, file: Path, data: YoloData, root: Path, objects: _Objects) -> None:
    """Read the label file of image ``i``."""
    try:
        lines = read_lines(file)
    except InputError as error:
        objects.faults['bad-label-row'].append(str(error))
        objects.filled.add(i)
        return
    for row, line in enumerate(lines, 1):
        if not line.strip():
            continue
        objects.filled.add(i)
        try:
            label, edges = parse_row(line.split(), len(data.names) or UNNAMED, data.source)
        except RowError as error:
            objects.faults[error.code].append(f'{_shown(file, root)}:{row}: {error}')
            continue
        objects.rows.append(i)
        objects.labels.append(label)
        objects.edges.append(edges)
        objects.wheres.append((file, row))


def _check_files(
    source: Source, add: Add, images: list[Path], labels: list[Path], lacking: np.ndarray
) -> None:
    """Compare images and label files."""
    data, root = source.yolo, source.folder
    assert data is not None  # of this kind
    if lacking.all():
        text = (
            f'{data.source}: none of the {len(images)} images of {source.role} has a label file; '
            f'the first would be {labels[0]}'
        )
        add('nothing-to-learn', [text])

    def name(i: int) -> str:
        return f'{_shown(images[i], root)}: no {_shown(labels[i], root)}'

    add('missing-label-file', np.flatnonzero(lacking).tolist(), name, len(images))
    if all(place.is_dir() for place in data.splits[source.role]):  # lists may share a folder
        add('label-without-image', _find_lost(labels), lambda file: _shown(file, root))
    first: dict[Path, int] = {}
    shared = []
    for i, file in enumerate(labels):
        if first.setdefault(file, i) != i and not lacking[i]:
            shared.append(i)
    add(
        'shared-label-file',
        shared,
        lambda i: f'{_shown(images[i], root)} and {images[first[labels[i]]].name}',
        len(images),
    )


def _make_split(
    source: Source, add: Add, images: list[Path], lacking: np.ndarray, objects: _Objects
) -> Split:
    data = source.yolo
    assert data is not None  # of this kind
    places = data.splits[source.role]
    # Of folders, the one that all lie in; of lists, that of all images.
    folders = places if all(place.is_dir() for place in places) else {p.parent for p in images}
    folder = Path(os.path.commonpath(folders))
    files = [os.path.relpath(image, folder) for image in images]
    sizes = np.full((len(images), 2), math.nan)
    unreadable = []
    for i, image in enumerate(images):
        try:
            sizes[i] = image_size(image)
        except InputError:
            if os.path.lexists(image):  # one that is not is a finding of its own
                unreadable.append(i)
    add('undecodable-image', unreadable, files.__getitem__, len(files))
    names = data.names or number_names(max(objects.labels, default=-1) + 1)
    classes = source.classes or names
    add('unknown-class', find_unknown(source.ann_file, names, classes, source.known_by))
    number_of = {name: i for i, name in enumerate(classes)}
    number = np.array([number_of.get(name, NO_CLASS) for name in names], np.int64)
    rows = np.array(objects.rows, np.int64)
    edges = np.array(objects.edges, np.float64).reshape(-1, 4) * np.tile(sizes[rows], 2)
    edges = edges.round(DIGITS)
    xywh = np.concatenate([edges[:, :2], edges[:, 2:] - edges[:, :2]], axis=1).round(DIGITS)
    boxes = Boxes(xywh, xywh[:, 2:].prod(1), np.zeros(len(xywh), bool))
    wheres = objects.wheres
    split = Split(
        source,
        folder,
        classes,
        files,
        rows,
        number[np.array(objects.labels, np.int64)],
        lambda i: f'{_shown(wheres[i][0], source.folder)}:{wheres[i][1]}',
        np.isin(np.arange(len(files)), list(objects.filled)),
        sizes,
        files,
        lacking=lacking,
        boxes=boxes,
        unreadable=unreadable,
    )
    return split.take((~np.isnan(xywh).any(1)).nonzero()[0])


def has_labels(data: YoloData, split: str) -> bool:
    """Whether any image of a split has a label file."""
    places = data.splits[split]
    return any(os.path.isfile(label_file(image)) for p in places for image in list_images(p))


def label_file(image: Path) -> Path:
    """Return where the boxes of an image are, or would be."""
    folder = image.parent
    at = max((i for i, part in enumerate(folder.parts) if part == 'images'), default=None)
    if at is not None:
        labels = Path(*folder.parts[:at], 'labels', *folder.parts[at + 1 :])
        folder = labels if labels.is_dir() else folder
    return (folder / image.name).with_suffix('.txt')


def list_images(place: Path) -> Iterator[Path]:
    """Yield the images of a folder, or those that a text file lists, there or not.

    Args:
        place: One of `YoloData.splits`.

    Raises:
        InputError: The file is no text.
    """
    if place.is_file():
        for line in filter(None, map(str.strip, read_lines(place))):
            yield Path(os.path.normpath(place.parent / line))
        return
    for folder, inner, files in walk(place):
        inner[:] = sorted(name for name in inner if not name.startswith('.'))
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith('.'):
                yield Path(folder, name)


def _find_lost(labels: Iterable[Path]) -> list[Path]:
    """Return the label files next to those of the images that belong to none."""
    expected = defaultdict(set)
    for file in labels:
        expected[file.parent].add(file.name)
    return [
        folder / name
        for folder, names in sorted(expected.items())
        for name in (sorted(os.listdir(folder)) if folder.is_dir() else ())
        if name.endswith('.txt') and name not in names and name.lower() not in NO_LABELS
    ]


def _shown(file: Path, root: Path) -> str:
    """Return a file as it lies below the layout's folder."""
    return str(file.relative_to(root) if file.is_relative_to(root) else file)
