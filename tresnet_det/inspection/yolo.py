"""Reader of YOLO's label files for the check of data, fault after fault.

Unlike `tresnet_det.datasets.formats.yolo.read_yolo`, whose parts it is made of, it
leaves out what is no good, notes it, and goes on.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..datasets.formats.text_files import read_lines
from ..datasets.formats.voc import image_size
from ..datasets.formats.yolo import (
    DIGITS,
    YoloData,
    common_folder,
    find_lost,
    label_file,
    list_images,
    number_names,
)
from ..datasets.formats.yolo_rows import Box, RowError, parse_row
from ..errors import InputError
from .findings import Findings
from .sources import Boxes, Source, Split

UNNAMED = 10_000  # classes that are taken where nothing names them


@dataclass
class _Objects:
    """The good rows of label files, and by kind the bad ones."""

    rows: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    edges: list[Box] = field(default_factory=list)
    wheres: list[tuple[Path, int]] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    filled: set[int] = field(default_factory=set)  # images with any row, good or bad


def read_yolo_split(source: Source, findings: Findings) -> Split | None:
    """Read the label files of a split; None where it has no images.

    Boxes are converted to COCO's form, as by `tresnet_det.datasets.formats.yolo.read_yolo`;
    those of an image whose size cannot be read are left out, for that image is a finding itself.

    Args:
        source: Of the kind ``'yolo'``.
        findings: Gets what is wrong with lists, label files and their rows.
    """
    data = source.yolo
    assert data is not None  # of this kind
    places = data.splits[source.role]
    try:
        images = list(dict.fromkeys(p for place in places for _, p in list_images(place)))
    except InputError as error:
        findings.add(source.name, 'unreadable-annotations', [str(error)])
        return None
    if not images:
        text = f'{data.source}: {source.role} has no image in {", ".join(map(str, places))}'
        findings.add(source.name, 'nothing-to-learn', [text])
        return None
    labels = [label_file(image) for image in images]
    lacking = np.array([not file.is_file() for file in labels])
    objects = _Objects()
    for i, file in enumerate(labels):
        if not lacking[i]:
            _read_rows(i, file, data, source.folder, objects)
    _check_files(source, findings, places, images, labels, lacking)
    total = len(objects.rows) + sum(map(len, objects.faults.values()))
    for code, faults in objects.faults.items():
        findings.add(source.name, code, faults, total=total)
    return _make_split(source, data, images, lacking, objects)


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
            count = len(data.names) or UNNAMED
            label, edges = parse_row(line.split(), count, data.source)
        except RowError as error:
            objects.faults[error.code].append(f'{_shown(file, root)}:{row}: {error}')
            continue
        objects.rows.append(i)
        objects.labels.append(label)
        objects.edges.append(edges)
        objects.wheres.append((file, row))


def _check_files(
    source: Source,
    findings: Findings,
    places: Sequence[Path],
    images: list[Path],
    labels: list[Path],
    lacking: np.ndarray,
) -> None:
    """Hold images and label files against each other."""
    root = source.folder

    def name(i: int) -> str:
        return f'{_shown(images[i], root)}: there is no {_shown(labels[i], root)}'

    missing = np.flatnonzero(lacking).tolist()
    findings.add(source.name, 'missing-label-file', missing, name, len(images))
    if all(place.is_dir() for place in places):  # lists may share a folder
        lost = find_lost(labels)
        findings.add(source.name, 'label-without-image', lost, lambda f: _shown(f, root))
    first: dict[Path, int] = {}
    shared = []
    for i, file in enumerate(labels):
        if first.setdefault(file, i) != i and not lacking[i]:
            shared.append(i)
    findings.add(
        source.name,
        'shared-label-file',
        shared,
        lambda i: f'{_shown(images[i], root)} and {images[first[labels[i]]].name}',
        len(images),
    )


def _make_split(
    source: Source, data: YoloData, images: list[Path], lacking: np.ndarray, objects: _Objects
) -> Split:
    folder = common_folder(data.splits[source.role], images)
    files = [str(image.relative_to(folder)) for image in images]
    sizes = np.array([_read_size(image) for image in images], np.float64)
    rows, labels = np.array(objects.rows, np.int64), np.array(objects.labels, np.int64)
    edges = np.array(objects.edges, np.float64).reshape(-1, 4) * np.tile(sizes[rows], 2)
    edges = edges.round(DIGITS)  # as training has it
    xywh = np.concatenate([edges[:, :2], edges[:, 2:] - edges[:, :2]], axis=1).round(DIGITS)
    kept = (~np.isnan(xywh).any(1)).nonzero()[0]
    boxes = Boxes(xywh, xywh[:, 2:].prod(1), np.zeros(len(xywh), bool))
    names = data.names or number_names(int(labels.max(initial=-1)) + 1)
    wheres = objects.wheres
    return Split(
        source,
        folder,
        names,
        files,
        sizes,
        rows[kept],
        labels[kept],
        lambda i: f'{_shown(wheres[kept[i]][0], source.folder)}:{wheres[kept[i]][1]}',
        set(files),
        np.isin(np.arange(len(files)), list(objects.filled)),
        lacking=lacking,
        boxes=boxes.take(kept),
    )


def _read_size(image: Path) -> tuple[float, float]:
    """Return width and height, NaN where the image is none."""
    try:
        return image_size(image)
    except InputError:
        return math.nan, math.nan


def _shown(file: Path, root: Path) -> str:
    """Return a file as it lies below the layout's folder."""
    return str(file.relative_to(root) if file.is_relative_to(root) else file)
