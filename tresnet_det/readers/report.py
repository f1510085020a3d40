"""All that is wrong with the splits of a dataset at once, and its numbers, for ``check_data.py``.

To what :mod:`tresnet_det.readers.data` finds, as a training does, this adds what only a look at
all images and a comparison of the splits can find.
"""

import math
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, few
from .data import ONE_LABEL, read_data
from .files import SUFFIXES, is_hidden, list_folder
from .findings import ERROR, LEVELS, Findings
from .levels import View
from .pixels import ReadImage, Scan, find_like, find_same, scan_images
from .split import Boxes, Source, Split

# A class without example is no news where these were found.
EXPLAINS_UNUSED = ('no-known-class', 'duplicate-category', 'nothing-to-learn')


@dataclass
class Part:
    """A split and what was found out about it.

    Attributes:
        split: As it was read.
        scan: Of its ``N`` images.
        sizes: ``(N, 2)``, width and height in pixels as annotated or else as read; NaN where
            neither is.
        sides: ``(K, 2)``, width and height of the usable boxes in pixels after the resize.
    """

    split: Split
    scan: Scan
    sizes: np.ndarray
    sides: np.ndarray

    def numbers(self) -> dict[str, Any]:
        """Return the split's numbers, for a row of a table."""
        split, boxes = self.split, self.split.boxes
        sizes = self.sizes[~np.isnan(self.sizes).any(1)]
        return dict(
            split=split.name,
            images=len(split.files),
            boxes=None if boxes is None else len(boxes.xywh),
            ignored=None if boxes is None else int(boxes.ignored.sum()),
            labels=len(self._pairs()) if boxes is None else None,
            classes=len(split.classes),
            without=int((~split.annotated).sum()),
            size=' x '.join(f'{v:g}' for v in np.median(sizes, 0)) if len(sizes) else None,
        )

    def classes(self) -> list[dict[str, Any]]:
        """Return of each class its name, how many objects it has, and in how many images.

        Where a class is all that is learnt of an image, its objects are these images.
        """
        split = self.split
        labels = self._pairs() % max(len(split.classes), 1)
        images = np.bincount(labels, minlength=len(split.classes)).tolist()
        counts = images if split.boxes is None else split.class_counts().tolist()
        numbers = zip(split.classes, counts, images, strict=True)
        return [dict(name=name, objects=count, images=n) for name, count, n in numbers]

    def _pairs(self) -> np.ndarray:
        """Return a number for each pair of an image and a class in it."""
        split, known = self.split, self.split.labels >= 0
        return np.unique(split.rows[known] * max(len(split.classes), 1) + split.labels[known])


@dataclass
class DataReport:
    """What a check found.

    Attributes:
        findings: All of them.
        parts: The splits that could be read.
        view: How the detector sees the boxes.
        decoded: Whether the images were read.
    """

    findings: Findings
    parts: list[Part]
    view: View
    decoded: bool

    @property
    def failed(self) -> bool:
        """Whether training would fail or mislead."""
        return self.findings.count(ERROR) > 0

    def levels(self) -> dict[str, dict[str, int]]:
        """Return for each split with boxes how many fall to each level."""
        boxed = [part for part in self.parts if part.split.boxes is not None]
        return {part.split.name: self.view.count(part.sides) for part in boxed}

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return dict(
            findings=[finding.as_dict() for finding in self.findings.sorted()],
            counts={level: self.findings.count(level) for level in LEVELS},
            splits=[
                dict(
                    part.numbers(),
                    annotations=str(part.split.source.ann_file),
                    folder=str(part.split.folder),
                    training=part.split.source.training,
                    class_table=part.classes(),
                )
                for part in self.parts
            ],
            resize=self.view.describe(),
            boxes_by_level=self.levels(),
            images_read=self.decoded,
        )


def inspect_data(
    sources: Sequence[Source],
    findings: Findings | None = None,
    view: View | None = None,
    num_classes: int | None = None,
    read_image: ReadImage | None = None,
    workers: int = 0,
    progress: bool = False,
) -> DataReport:
    """Look for all that is wrong with the splits of a dataset.

    Args:
        sources: Where the splits are.
        findings: What was found already; gets what is found now.
        view: How the detector sees boxes; None for FCOS with MMDetection's usual resize.
        num_classes: Of the model's head; None where it is not known.
        read_image: Reads every image as training does; without it, corrupt ones, wrong sizes in
            COCO's files and copies are not found.
        workers: Processes that read images; 0 for this one.
        progress: Whether to show a bar on stderr.

    Raises:
        InputError: No folder is found for the images of any split.
    """
    findings, view = findings or Findings(), view or View()
    splits = read_data(sources, findings, num_classes, headers=math.inf if read_image else 0)
    lost = [f for f in findings if f.code == 'images-not-found']
    if lost and len(lost) == len(splits):  # annotations alone, as in a training's work directory
        raise InputError(lost[0].message)
    _find_unused_files(splits, findings)
    scans = _scan(splits, read_image, workers, progress)
    parts = [_join(split, scan, view) for split, scan in zip(splits, scans, strict=True)]
    for part in parts:
        _check_images(part, findings)
        _check_classes(part.split, findings)
    _find_similar_names(splits, findings)
    training = [part for part in parts if part.split.source.training]
    for part in parts:
        if training and part not in training:
            _find_overlap(part, training, findings)
    return DataReport(findings, parts, view, read_image is not None)


def _join(split: Split, scan: Scan, view: View) -> Part:
    seen = scan.seen['size']
    sizes = np.where(np.isnan(split.sizes), np.where(seen, seen, np.nan), split.sizes)
    sides = np.zeros((0, 2))
    if split.boxes is not None:
        sides = view.resize(split.boxes.xywh[split.usable], sizes[split.rows[split.usable]])
        sides = sides[~np.isnan(sides).any(1)]
    return Part(split, scan, sizes, sides)


def _find_unused_files(splits: Sequence[Split], findings: Findings) -> None:
    """Find images that no split names, in folders where one does; each folder is listed once."""
    named: defaultdict[str, set[str]] = defaultdict(set)
    owner: dict[str, Split] = {}
    for split in splits:
        if split.source.kind == 'folders' or not split.folder.is_dir():
            continue
        for part, name in map(os.path.split, split.named):
            named[os.path.join(split.folder, part)].add(name)
        for part in {os.path.split(file)[0] for file in split.files}:
            owner.setdefault(os.path.join(split.folder, part), split)
    unused: defaultdict[Split, list[str]] = defaultdict(list)
    for place, split in owner.items():
        try:
            rest = list_folder(place) - named[place]
        except InputError:  # a finding already
            continue
        files = sorted(n for n in rest if n.lower().endswith(SUFFIXES) and not is_hidden(n))
        unused[split] += [os.path.join(place, name) for name in files]
    for split, files in unused.items():
        split.about(findings)('unused-file', files)


def _scan(
    splits: Sequence[Split], read: ReadImage | None, workers: int, progress: bool
) -> list[Scan]:
    """Read each image once, however many splits name it."""
    images = [
        [
            (split.path(i), detection) if found and i not in split.unreadable else None
            for i, found in enumerate(split.found)
        ]
        for split in splits
        for detection in [split.source.detection and not split.source.several]
    ]
    unique = list(dict.fromkeys(image for part in images for image in part if image))
    seen = scan_images(unique, read, workers, progress) if read else {}
    return [Scan.of([image and seen.get(image) for image in part]) for part in images]


def _check_images(part: Part, findings: Findings) -> None:
    """Compare the images with their annotations and each other, and the boxes of each."""
    split, seen, total = part.split, part.scan.seen, len(part.split.files)
    add, name = split.about(findings), split.files.__getitem__
    if split.boxes is not None:
        again = _find_duplicates(split, split.boxes).nonzero()[0]
        add('duplicate-box', again, split.name_object, len(split.rows))
    add('undecodable-image', part.scan.errors, part.scan.errors.__getitem__, total)
    if split.source.kind == 'yolo':
        boxed = np.isin(np.arange(total), split.rows)
        add('exif-turned', (boxed & seen['turned']).nonzero()[0], name, total)
    add('blank-image', seen['blank'].nonzero()[0], name, total)
    # Images with the same pixels in different files, those apart whose one label is another.
    first = find_same(part.scan.digests, part.scan.digests)
    copies = [i for i in np.flatnonzero(first >= 0).tolist() if name(i) != name(first[i])]
    one_label = split.source.kind in ONE_LABEL and not split.source.several
    labels = split.single_labels() if one_label else np.zeros(total)
    for code, same in (('duplicate-image', True), ('contradicting-labels', False)):
        rows = [i for i in copies if (labels[i] == labels[first[i]]) == same]
        add(code, rows, lambda i: f'{name(i)} = {name(first[i])}', total)


def _find_duplicates(split: Split, boxes: Boxes) -> np.ndarray:
    """Return ``(M,)``, whether a box of that class was in its image already."""
    keys = np.column_stack([split.rows, split.labels, boxes.xywh])
    order = np.lexsort([*boxes.xywh.T, split.labels, split.rows])  # stable, the first stays first
    again = np.zeros(len(keys), bool)
    again[order[1:]] = (keys[order[1:]] == keys[order[:-1]]).all(1)
    return again & ~boxes.ignored


def _check_classes(split: Split, findings: Findings) -> None:
    """Find classes without an example."""
    if not split.source.needs_truth or findings.has(split.name, *EXPLAINS_UNUSED):
        return
    counts = split.class_counts()
    if counts.any() or not findings.has_error(split.name):  # or all rows may be bad
        pairs = zip(split.classes, counts, strict=True)
        unused = [name for name, n in pairs if n == 0 and name not in split.absent]
        split.about(findings)('unused-category', unused, repr, len(split.classes))


def _find_similar_names(splits: Sequence[Split], findings: Findings) -> None:
    """Find names that differ by case, spaces, hyphens or underscores alone; each group once."""
    told: set[str] = set()
    for split in splits:
        groups = defaultdict(list)
        for name in split.classes:
            groups[re.sub(r'[\s_-]+', '', name.casefold())].append(name)
        alike = [few(names) for names in groups.values() if len(names) > 1]
        split.about(findings)('similar-classes', [text for text in alike if text not in told])
        told |= set(alike)


def _find_overlap(part: Part, training: Sequence[Part], findings: Findings) -> None:
    """Find the images of a split that are in training splits, too, or look like one of these.

    An image that was not read is compared by its file.
    """
    split, seen = part.split, part.scan.seen
    files = [(other.split, row) for other in training for row in range(len(other.split.files))]
    same = find_same(part.scan.digests, [d for other in training for d in other.scan.digests])
    unread = ((same < 0) & (seen['digest'] == 0)).nonzero()[0]
    if len(unread):
        paths = [os.path.abspath(other.path(row)) for other, row in files]
        same[unread] = find_same([os.path.abspath(split.path(i)) for i in unread], paths)
    others = np.concatenate([other.scan.seen['thumb'] for other in training])
    like = np.where(same < 0, find_like(seen['thumb'], others), -1)
    for code, found in (('overlap', same), ('near-copy', like)):

        def describe(row: int, found: np.ndarray = found) -> str:
            other, place = files[found[row]]
            return f'{split.files[row]} = {other.files[place]} of {other.name}'

        rows = np.flatnonzero(found >= 0).tolist()
        split.about(findings)(code, rows, describe, len(split.files))
