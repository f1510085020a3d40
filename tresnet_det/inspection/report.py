"""Everything that is wrong with the splits of a data set, before anything is trained on them.

`tresnet_det.datasets.checks` stops at the first fault, in a training's way; this goes on to the
last, reads every image, and compares the splits.
"""

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..datasets.formats.multilabel_readers import SUFFIXES
from ..errors import InputError
from .boxes import View, check_boxes, count_levels
from .classes import check_classes, check_similar_names, compare_classes
from .coco import read_coco_split
from .copies import find_copies, find_overlap
from .findings import ERROR, LEVELS, Findings
from .labels import read_csv_split, read_folders_split, read_list_split
from .part import Part
from .scan import Scan, scan_images
from .sources import NO_CLASS, Source, Split
from .voc import read_voc_split
from .yolo import read_yolo_split

READERS = {
    'coco': read_coco_split,
    'voc': read_voc_split,
    'yolo': read_yolo_split,
    'csv': read_csv_split,
    'list': read_list_split,
    'folders': read_folders_split,
}


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
            source, counts = part.split.source, part.class_counts().tolist()
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
    """Look for all that is wrong with the splits of a data set.

    Args:
        sources: Where the splits lie.
        findings: What was found already; gets what is found now.
        view: How the detector sees boxes; None for FCOS with MMDetection's usual resize.
        num_classes: Of the model's head; None where it is not known.
        decode: Whether to read every image; without it, broken ones, their real sizes and
            copies are not found.
        workers: Processes that decode; 0 for this one.
        progress: Whether to show a bar on stderr.

    Raises:
        InputError: No folder is found for the images of any split.
    """
    findings, view = findings or Findings(), view or View()
    read = (READERS[source.kind](source, findings) for source in sources)
    splits = _share_voc_classes([split for split in read if split is not None])
    lost = [f for f in findings.sorted() if f.code == 'images-not-found']
    if lost and len(lost) == len(splits):  # annotations alone, as in a training's work directory
        raise InputError(lost[0].examples[0])
    scans = _scan(splits, _locate(splits, findings), decode, workers, progress)
    parts = []
    for split, scan in zip(splits, scans, strict=True):
        sizes = np.where(
            np.isnan(split.sizes), np.where(scan.sizes, scan.sizes, np.nan), split.sizes
        )
        usable, sides = split.labels >= 0, np.zeros((0, 2))
        if split.boxes is not None:
            usable = check_boxes(split, split.boxes, sizes, findings)
            sides = view.resize(split.boxes.xywh[usable], sizes[split.rows[usable]])
            sides = sides[~np.isnan(sides).any(1)]
        parts.append(Part(split, scan, sizes, usable, sides))
    _check_usable(parts, findings)
    for part in parts:
        _check_images(part, findings)
        check_classes(part, num_classes, findings)
    check_similar_names(splits, findings)
    compare_classes(splits, findings)
    for part in parts:
        if not part.split.source.training:
            find_overlap(part, [p for p in parts if p.split.source.training], findings)
    return DataReport(findings, parts, view, decode)


def _share_voc_classes(splits: list[Split]) -> list[Split]:
    """Number VOC's classes by the names in all splits, as `voc_to_coco` does."""
    own = [s for s in splits if s.source.kind == 'voc' and s.source.classes is None]
    classes = tuple(sorted({name for split in own for name in split.classes}))
    number = {name: i for i, name in enumerate(classes)}
    shared = []
    for split in splits:
        if split in own:
            new = np.array([number[name] for name in split.classes] + [NO_CLASS], np.int64)
            split = replace(split, classes=classes, labels=new[split.labels])
        shared.append(split)
    return shared


def _locate(splits: list[Split], findings: Findings) -> list[np.ndarray]:
    """Return for each split ``(N,)``, whether an image is there; each folder is listed once."""
    listed: dict[str, set[str]] = {}  # by folder
    named: defaultdict[str, set[str]] = defaultdict(set)
    owner: dict[str, str] = {}
    found: list[np.ndarray] = []
    for split in splits:
        if split.source.kind == 'folders':  # listed already
            found.append(np.ones(len(split.files), bool))
            continue
        if not split.folder.is_dir():
            findings.add(split.name, 'missing-folder', [split.folder])
        if findings.has(split.name, 'missing-folder', 'images-not-found'):
            found.append(np.zeros(len(split.files), bool))
            continue
        pairs = [os.path.split(file) for file in split.files]
        for part, name in map(os.path.split, split.named):
            named[os.path.join(split.folder, part)].add(name)
        for place in {os.path.join(split.folder, part) for part, _ in pairs}:
            if place not in listed:
                listed[place] = set(os.listdir(place)) if os.path.isdir(place) else set()
                owner[place] = split.name
        there = {part: listed[os.path.join(split.folder, part)] for part, _ in pairs}
        found.append(np.array([name in there[part] for part, name in pairs], bool))
        lost = np.flatnonzero(~found[-1]).tolist()
        findings.add(split.name, 'missing-image', lost, _lost_namer(split, there), len(pairs))
    for place, names in listed.items():
        unused = sorted(n for n in names - named[place] if n.lower().endswith(SUFFIXES))
        findings.add(owner[place], 'unused-file', [os.path.join(place, name) for name in unused])
    return found


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


def _scan(
    splits: list[Split], there: list[np.ndarray], decode: bool, workers: int, progress: bool
) -> list[Scan]:
    """Read each image once, however many splits name it."""
    if not decode:
        return [Scan.empty(len(split.files)) for split in splits]
    number: dict[tuple[str, bool], int] = {}
    rows_of = []
    for split, found in zip(splits, there, strict=True):
        rows = np.full(len(split.files), -1)
        for i in np.flatnonzero(found).tolist():
            key = split.path(i), split.source.detection
            rows[i] = number.setdefault(key, len(number))
        rows_of.append(rows)
    paths, detection = zip(*number, strict=True) if number else ((), ())
    scan = scan_images(paths, detection, workers, progress)
    return [scan.take(rows) for rows in rows_of]


def _check_usable(parts: list[Part], findings: Findings) -> None:
    """Hold that there is something to learn, and to measure on; a part of several may lack it."""
    training = [part for part in parts if part.split.source.training]
    groups = [training] + [[part] for part in parts if not part.split.source.training]
    for group in groups:
        wanting = [part for part in group if part.split.source.needs_truth]
        if not wanting or any(part.usable.any() for part in group):
            continue
        if not any(findings.has_error(part.split.name) for part in group):
            split = wanting[0].split
            findings.add(split.name, 'nothing-to-learn', [split.source.ann_file])


def _check_images(part: Part, findings: Findings) -> None:
    """Hold the images against their annotations and each other."""
    split, scan, total = part.split, part.scan, len(part.split.files)
    add = functools.partial(findings.add, split.name)
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
    if split.source.kind == 'yolo':
        boxed = np.isin(np.arange(total), split.rows)
        turned = boxed & scan.turned & ~differs
        add('exif-turned', turned.nonzero()[0], split.files.__getitem__, total)
    add('blank-image', scan.blank.nonzero()[0], split.files.__getitem__, total)
    find_copies(part, findings)
    silent = ~split.annotated if split.lacking is None else ~split.annotated & ~split.lacking
    if split.source.needs_truth and not findings.has(split.name, 'nothing-to-learn'):
        add('no-annotation', silent.nonzero()[0], split.files.__getitem__, total)
