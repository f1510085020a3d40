"""Reader of YOLO's label files: a text file per image, a row per box.

A row is a class number, and a box or a polygon in fractions of the image.
"""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError, few
from .data_yaml import number_names
from .files import (
    SUFFIXES,
    is_companion,
    is_hidden,
    list_folder,
    read_lines,
    read_sizes,
    walk,
)
from .findings import Add, Findings
from .locate import list_all, match_names
from .split import Boxes, Source, Split, YoloData

UNNAMED = 10_000  # classes that are taken where nothing names them
DIGITS = 3  # of pixels; label files have six decimals, half a thousandth of 1000 pixels
NO_LABELS = ('classes.txt', 'train.txt', 'val.txt', 'test.txt', 'readme.txt')
FRACTION_SLACK = 0.01  # beyond 0 to 1: what rounding explains
PIXELS = 2.0  # from there on a number cannot be meant as a fraction

Box = tuple[float, float, float, float]


def read_yolo(source: Source, findings: Findings) -> Split | None:
    """Read the label files of a split; None where it has no images.

    A row is ``CLASS CX CY WIDTH HEIGHT`` in fractions of the image, the class a number from 0. A
    row of the class and three points or more is a polygon, which becomes the box around it. The
    label file of an image lies where the last ``images`` among its folders is ``labels``, or else
    next to it. An image without one is background, without boxes.

    Fractions are of the image as it is shown: width and height come from its header, exchanged
    where EXIF says that it lies on its side, as MMDetection loads it. Boxes are rounded to a
    thousandth of a pixel; those of an image whose header cannot be read are skipped.

    Args:
        source: Of the kind ``'yolo'``.
        findings: Gets what is wrong with lists, label files and their rows.

    Raises:
        InputError: A list of images is no text.
    """
    data, add, root = source.yolo, source.about(findings), source.folder
    assert data is not None  # of this kind
    places = data.splits[source.role]
    listed = [list_images(place, source.role) for place in places]
    images = list(dict.fromkeys(image for found, _ in listed for image in found))
    add('filled-in', [line for _, lines in listed for line in lines])
    if not images:
        text = f'{data.source}: {source.role} has no image in {few(map(str, places))}'
        add('nothing-to-learn', [text])
        return None
    labels = [label_file(image) for image in images]
    add('filled-in', _match_labels(labels, source))
    lacking = np.array([not os.path.isfile(file) for file in labels])
    objects: list[tuple[int, int, int, Box]] = []  # image, row of its file, class, edges
    faults: defaultdict[str, list[str]] = defaultdict(list)
    filled = np.zeros(len(images), bool)  # images with any row, good or bad
    for i in np.flatnonzero(~lacking).tolist():
        try:
            rows = [(n, line.split()) for n, line in enumerate(read_lines(labels[i]), 1)]
        except InputError as error:
            faults['bad-label-row'].append(str(error))
            filled[i] = True
            continue
        for number, fields in rows:
            if not fields:
                continue
            filled[i] = True
            try:
                label, edges = parse_row(fields, len(data.names) or UNNAMED, data.source)
                objects.append((i, number, label, edges))
            except RowError as error:
                faults[error.code].append(f'{_shown(labels[i], root)}:{number}: {error}')
    _check_files(source, data, add, images, labels, lacking)
    total = len(objects) + sum(map(len, faults.values()))
    for code, found in faults.items():
        add(code, found, total=total)

    # Of folders, the one that all lie in; of lists, that of all images.
    folders = places if all(place.is_dir() for place in places) else {p.parent for p in images}
    folder = Path(os.path.commonpath(folders))
    files = [os.path.relpath(image, folder) for image in images]
    sizes, unreadable = read_sizes(folder, files, add)
    at = np.array([i for i, *_ in objects], np.int64)
    numbers = np.array([label for _, _, label, _ in objects], np.int64)
    fractions = np.array([edges for *_, edges in objects], np.float64).reshape(-1, 4)
    edges = (fractions * np.tile(sizes[at], 2)).round(DIGITS)
    xywh = np.concatenate([edges[:, :2], edges[:, 2:] - edges[:, :2]], axis=1).round(DIGITS)
    names = data.names or number_names(max(numbers, default=-1) + 1)
    add('unknown-class', source.find_unknown(names))
    split = Split(
        source,
        folder,
        names,
        files,
        at,
        numbers,
        lambda i: f'{_shown(labels[at[i]], root)}:{objects[i][1]}',
        filled,
        sizes,
        files,
        lacking=lacking,
        boxes=Boxes(xywh, xywh[:, 2:].prod(1), np.zeros(len(xywh), bool)),
        unreadable=unreadable,
    )
    return split.renumber(source.classes or names).take((~np.isnan(xywh).any(1)).nonzero()[0])


def _check_files(
    source: Source,
    data: YoloData,
    add: Add,
    images: list[Path],
    labels: list[Path],
    lacking: np.ndarray,
) -> None:
    """Compare images and label files."""
    root = source.folder
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
    shared = [i for i, f in enumerate(labels) if first.setdefault(f, i) != i and not lacking[i]]

    def pair(i: int) -> str:
        return f'{_shown(images[i], root)} and {images[first[labels[i]]].name}'

    add('shared-label-file', shared, pair, len(images))


def has_labels(data: YoloData, split: str) -> bool:
    """Whether any image of a split has a label file."""
    places = data.splits[split]
    images = (image for place in places for image in list_images(place, split)[0])
    return any(os.path.isfile(label_file(image)) for image in images)


def label_file(image: Path) -> Path:
    """Return where the boxes of an image are, or would be."""
    folder = image.parent
    at = max((i for i, part in enumerate(folder.parts) if part == 'images'), default=None)
    if at is not None:
        labels = Path(*folder.parts[:at], 'labels', *folder.parts[at + 1 :])
        folder = labels if labels.is_dir() else folder
    return (folder / image.name).with_suffix('.txt')


def list_images(place: Path, role: str) -> tuple[list[Path], list[str]]:
    """Return the images of a folder, or those that a text file lists, there or not.

    Args:
        place: One of `YoloData.splits`.
        role: Of the split.

    Returns:
        The images, and a line for each rule by which the file's names are matched.

    Raises:
        InputError: The file is no text.
    """
    if not place.is_file():
        walked = ((folder, name) for folder, _, files in walk(place) for name in files)
        return [Path(f, name) for f, name in walked if name.lower().endswith(SUFFIXES)], []
    lines = [line for line in map(str.strip, read_lines(place)) if line and not is_companion(line)]
    images = [Path(os.path.normpath(place.parent / line)) for line in lines]
    lost = [i for i, image in enumerate(images) if not os.path.isfile(image)]
    if not lost:
        return images, []
    known = {*images}
    free = [f for f in list_all(place.parent) if place.parent / f not in known]
    meant, rules = match_names([lines[i] for i in lost], free, role)
    for i, file in meant.items():
        images[lost[i]] = place.parent / file
    return images, [f'{place}: {rule}' for rule in rules]


def _match_labels(labels: list[Path], source: Source) -> list[str]:
    """Put the label files that are meant in place of those not found; return the rules.

    One of another folder is none of them: where each folder counts from 1, it is another image's.
    """
    lost: defaultdict[Path, list[int]] = defaultdict(list)
    for i, file in enumerate(labels):
        if not os.path.isfile(file):
            lost[file.parent].append(i)
    known, lines = {*labels}, list[str]()
    for folder, rows in sorted(lost.items()):
        free = {file.stem: file for file in _label_files(folder) if file not in known}
        meant, rules = match_names([labels[i].stem for i in rows], free, source.role)
        for i, stem in meant.items():
            labels[rows[i]] = free[stem]
        # Only the endings differ where the rest is the same, so this is about .TXT.
        told = (rule.replace('in another folder', 'by the case of the ending') for rule in rules)
        lines += [f'label files in {_shown(folder, source.folder)}: {rule}' for rule in told]
    return lines


def _label_files(folder: Path) -> list[Path]:
    """Return what may be the label files in a folder, sorted."""
    return [
        folder / name
        for name in sorted(list_folder(folder))
        if name.lower().endswith('.txt') and name.lower() not in NO_LABELS and not is_hidden(name)
    ]


def _find_lost(labels: Iterable[Path]) -> list[Path]:
    """Return the label files next to those of the images that belong to none."""
    known = {*labels}
    folders = sorted({file.parent for file in known})
    return [file for folder in folders for file in _label_files(folder) if file not in known]


def _shown(file: Path, root: Path) -> str:
    """Return a file as it lies below the layout's folder."""
    return str(file.relative_to(root) if file.is_relative_to(root) else file)


class RowError(InputError):
    """A row of a label file that is no box.

    Attributes:
        code: Its kind, by which the check of data groups and counts it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def parse_row(fields: Sequence[str], num_classes: int, source: Path) -> tuple[int, Box]:
    """Read a row of a label file.

    Args:
        fields: Its numbers, as text.
        num_classes: Of the data.
        source: What names the classes, for messages.

    Returns:
        The class number, and left, top, right and bottom in fractions of the image.

    Raises:
        RowError: It is neither a box nor a polygon.
    """
    try:
        numbers = [float(text) for text in fields]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise RowError('bad-label-row', f'{" ".join(fields)[:60]!r} are not all numbers')
    label, *values = numbers
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise RowError(
            'bad-label-row',
            f'{len(fields)} numbers, where a box has 5 (class, centre x and y, width, height) and '
            'a polygon the class and three points or more',
        )
    if label not in range(num_classes):
        raise RowError(
            'unknown-class-number',
            f'the class {fields[0]}, and {source} has {num_classes}, from 0 to {num_classes - 1}',
        )
    outside = [v for v in values if not -FRACTION_SLACK <= v <= 1 + FRACTION_SLACK]
    if outside:
        text = f'{outside[0]:g} is not in 0 to 1, a fraction of the width or height'
        if max(values) >= PIXELS:
            raise RowError('pixel-row', f'{text}: these are pixels')
        raise RowError('bad-fraction', text)
    if len(values) == 4:
        x, y, w, h = values
        return int(label), (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    xs, ys = values[0::2], values[1::2]
    return int(label), (min(xs), min(ys), max(xs), max(ys))
