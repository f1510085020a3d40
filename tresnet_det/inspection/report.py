"""Everything that is wrong with the splits of a dataset, before anything is trained on them.

To what :mod:`tresnet_det.readers.data` finds, as a training does, this adds what only a look at
all images and a comparison of the splits can find.
"""

import functools
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, few
from ..readers.data import ONE_LABEL, read_data
from ..readers.files import SUFFIXES, list_folder
from ..readers.findings import Findings
from ..readers.kinds import ERROR, LEVELS
from ..readers.split import Source, Split, find_duplicates
from .levels import View, count_levels
from .scan import Scan, find_like, find_same, scan_images

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

    def class_images(self) -> np.ndarray:
        """Return in how many images each class is, ``(classes,)``."""
        good = self.split.labels >= 0
        pairs = np.unique(np.column_stack([self.split.rows, self.split.labels])[good], axis=0)
        return np.bincount(pairs[:, 1], minlength=len(self.split.classes))

    def numbers(self) -> dict[str, Any]:
        """Return the split's numbers, for a row of a table."""
        split, boxes = self.split, self.split.boxes
        sizes = self.sizes[~np.isnan(self.sizes).any(1)]
        middle = ' x '.join(f'{side:g}' for side in np.median(sizes, 0)) if len(sizes) else None
        return dict(
            split=split.name,
            images=len(split.files),
            boxes=None if boxes is None else len(boxes.xywh),
            ignored=None if boxes is None else int(boxes.ignored.sum()),
            labels=len(split.labels) if boxes is None else None,
            classes=len(split.classes),
            without=int((~split.annotated).sum()),
            size=middle,
        )


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
        return {part.split.name: count_levels(self.view, part.sides) for part in boxed}

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        splits = []
        for part in self.parts:
            source, counts = part.split.source, part.split.class_counts().tolist()
            images = part.class_images().tolist()
            places = dict(annotations=str(source.ann_file), folder=str(part.split.folder))
            triples = zip(part.split.classes, counts, images, strict=True)
            table = [dict(name=n, objects=c, images=p) for n, c, p in triples]
            splits.append(
                {**part.numbers(), **places, 'training': source.training, 'class_table': table}
            )
        return dict(
            findings=[finding.as_dict() for finding in self.findings.sorted()],
            counts={level: self.findings.count(level) for level in LEVELS},
            splits=splits,
            resize=self.view.describe(),
            boxes_by_level=self.levels(),
            images_read=self.decoded,
        )


def inspect_data(
    sources: Sequence[Source],
    findings: Findings | None = None,
    view: View | None = None,
    num_classes: int | None = None,
    decode: bool = True,
    workers: int = 0,
    progress: bool = False,
) -> DataReport:
    """Look for all that is wrong with the splits of a dataset.

    Args:
        sources: Where the splits are.
        findings: What was found already; gets what is found now.
        view: How the detector sees boxes; None for FCOS with MMDetection's usual resize.
        num_classes: Of the model's head; None where it is not known.
        decode: Whether to read every image; without it, corrupt ones, wrong sizes in COCO's files
            and copies are not found.
        workers: Processes that decode; 0 for this one.
        progress: Whether to show a bar on stderr.

    Raises:
        InputError: No folder is found for the images of any split.
    """
    findings, view = findings or Findings(), view or View()
    splits = read_data(sources, findings, num_classes)
    lost = [f for f in findings if f.code == 'images-not-found']
    if lost and len(lost) == len(splits):  # annotations alone, as in a training's work directory
        raise InputError(lost[0].message)
    _find_unused_files(splits, findings)
    scans = _scan(splits, decode, workers, progress)
    parts = []
    for split, scan in zip(splits, scans, strict=True):
        seen = np.where(scan.sizes, scan.sizes, np.nan)
        sizes = np.where(np.isnan(split.sizes), seen, split.sizes)
        sides = np.zeros((0, 2))
        if split.boxes is not None:
            usable = split.usable
            sides = view.resize(split.boxes.xywh[usable], sizes[split.rows[usable]])
            sides = sides[~np.isnan(sides).any(1)]
            again = find_duplicates(split, split.boxes).nonzero()[0]
            add = findings.about(split.name, split.source.ann_file)
            add('duplicate-box', again, split.name_object, len(split.rows))
        parts.append(Part(split, scan, sizes, sides))
    for part in parts:
        _check_images(part, findings)
        _find_unused_classes(part.split, findings)
    _find_similar_names(splits, findings)
    for part in parts:
        if not part.split.source.training:
            _find_overlap(part, [p for p in parts if p.split.source.training], findings)
    return DataReport(findings, parts, view, decode)


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
        files = sorted(name for name in rest if name.lower().endswith(SUFFIXES))
        unused[split] += [os.path.join(place, name) for name in files]
    for split, files in unused.items():
        findings.add(split.name, split.source.ann_file, 'unused-file', files)


def _scan(splits: Sequence[Split], decode: bool, workers: int, progress: bool) -> list[Scan]:
    """Read each image once, however many splits name it."""
    if not decode:
        return [Scan.empty(len(split.files)) for split in splits]
    number: dict[tuple[str, bool], int] = {}
    rows_of = []
    for split in splits:
        rows = np.full(len(split.files), -1)
        for i in np.flatnonzero(split.found).tolist():
            if i not in split.unreadable:  # a finding already
                key = split.path(i), split.source.detection
                rows[i] = number.setdefault(key, len(number))
        rows_of.append(rows)
    paths, detection = zip(*number, strict=True) if number else ((), ())
    scan = scan_images(paths, detection, workers, progress)
    return [scan.take(rows) for rows in rows_of]


def _check_images(part: Part, findings: Findings) -> None:
    """Compare the images with their annotations and each other."""
    split, scan, total = part.split, part.scan, len(part.split.files)
    add = findings.about(split.name, split.source.ann_file)
    add('undecodable-image', scan.errors, scan.errors.__getitem__, total)
    differs = (
        (scan.digests != 0) & ~np.isnan(split.sizes).any(1) & (split.sizes != scan.sizes).any(1)
    )
    unturned = differs & scan.turned & (split.sizes == scan.sizes[:, ::-1]).all(1)

    def describe(row: int) -> str:
        (width, height), (w, h) = split.sizes[row], scan.sizes[row]
        return f'{split.files[row]}: annotated {width:g} x {height:g}, it is {w} x {h}'

    add('size-differs', (differs & ~unturned).nonzero()[0], describe, total)
    add('exif-rotated', unturned.nonzero()[0], describe, total)
    name = split.files.__getitem__
    if split.source.kind == 'yolo':
        boxed = np.isin(np.arange(total), split.rows)
        add('exif-turned', (boxed & scan.turned & ~differs).nonzero()[0], name, total)
    add('blank-image', scan.blank.nonzero()[0], name, total)
    _find_copies(part, findings)


def _find_unused_classes(split: Split, findings: Findings) -> None:
    if not split.source.needs_truth or findings.has(split.name, *EXPLAINS_UNUSED):
        return
    counts = split.class_counts()
    if not counts.any() and findings.has_error(split.name):  # as where all rows are bad
        return
    unused = [
        name
        for name, n in zip(split.classes, counts, strict=True)
        if n == 0 and name not in split.absent
    ]
    add = functools.partial(findings.add, split.name, split.source.ann_file)
    add('unused-category', unused, repr, len(split.classes))


def _find_similar_names(splits: Sequence[Split], findings: Findings) -> None:
    """Find names that differ by case, spaces, hyphens or underscores alone; each group once."""
    told: set[str] = set()
    for split in splits:
        groups = defaultdict(list)
        for name in split.classes:
            groups[re.sub(r'[\s_-]+', '', name.casefold())].append(name)
        alike = [few(names) for names in groups.values() if len(names) > 1]
        fresh = [text for text in alike if text not in told]
        findings.add(split.name, split.source.ann_file, 'similar-classes', fresh)
        told |= set(alike)


def _find_copies(part: Part, findings: Findings) -> None:
    """Find images of a split with the same pixels in different files.

    Args:
        part: The split.
        findings: Gets them, those apart whose one label is another.
    """
    split, digests = part.split, np.where(part.scan.blank, 0, part.scan.digests)
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    first = first[inverse]
    again = ((digests != 0) & (first != np.arange(len(first)))).nonzero()[0]
    again = np.array([i for i in again if split.files[i] != split.files[first[i]]], np.int64)
    contradicts = np.zeros(len(again), bool)
    if split.source.kind in ONE_LABEL and not split.source.several:
        label_of = split.single_labels()
        contradicts = label_of[again] != label_of[first[again]]
    for code, rows in (
        ('duplicate-image', again[~contradicts]),
        ('contradicting-labels', again[contradicts]),
    ):
        findings.add(
            split.name,
            split.source.ann_file,
            code,
            rows,
            lambda i: f'{split.files[i]} = {split.files[first[i]]}',
            len(split.files),
        )


def _find_overlap(part: Part, others: Sequence[Part], findings: Findings) -> None:
    """Find the images of a split that are in training splits, too, or look like one of these.

    An image that was not read is compared by its file.

    Args:
        part: A split to measure on.
        others: The training splits.
        findings: Gets them.
    """
    if not others:
        return
    split, scan = part.split, part.scan
    files = [(other.split, row) for other in others for row in range(len(other.split.files))]
    digests = np.concatenate([other.scan.digests for other in others])
    same = find_same(np.where(scan.blank, 0, scan.digests), digests)
    unread = ((same < 0) & (scan.digests == 0)).nonzero()[0]
    if len(unread):
        row_of = {os.path.abspath(other.path(row)): i for i, (other, row) in enumerate(files)}
        same[unread] = [row_of.get(os.path.abspath(split.path(i)), -1) for i in unread]
    like = find_like(scan.thumbs, np.concatenate([other.scan.thumbs for other in others]))
    like[same >= 0] = -1

    def add(code: str, found: np.ndarray) -> None:
        def describe(row: int) -> str:
            other, place = files[found[row]]
            return f'{split.files[row]} = {other.files[place]} of {other.name}'

        rows = np.flatnonzero(found >= 0).tolist()
        findings.add(split.name, split.source.ann_file, code, rows, describe, len(split.files))

    add('overlap', same)
    add('near-copy', like)
