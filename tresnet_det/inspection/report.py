"""Everything that is wrong with the splits of a data set, before anything is trained on them.

`tresnet_det.datasets.checks` stops at the first fault, in a training's way; this goes on to the
last, reads every picture, and compares the splits.
"""

import functools
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..datasets.classification_checks import are_number_names
from ..datasets.formats.multilabel_readers import SUFFIXES
from ..errors import InputError, few
from .boxes import View, check_boxes, count_levels
from .detection import NO_CLASS, read_coco_split, read_voc_split
from .findings import ERROR, LEVELS, Findings
from .labels import read_csv_split, read_folders_split, read_list_split
from .scan import Scan, find_like, find_same, scan_pictures
from .sources import Source, Split
from .yolo import read_yolo_split

READERS = {
    'coco': read_coco_split,
    'voc': read_voc_split,
    'yolo': read_yolo_split,
    'csv': read_csv_split,
    'list': read_list_split,
    'folders': read_folders_split,
}
ONE_LABEL = ('list', 'folders')
# A class without example is no news where these were found.
EXPLAINS_UNUSED = ('no-known-class', 'duplicate-category', 'nothing-to-learn')


@dataclass
class Part:
    """A split and what was found out about it.

    Attributes:
        split: As it was read.
        scan: Of its ``N`` pictures.
        sizes: ``(N, 2)``, width and height as annotated or else as read; NaN where neither is.
        usable: ``(M,)``, whether an object is learnt.
        sides: ``(K, 2)``, width and height of the usable boxes after the resize.
    """

    split: Split
    scan: Scan
    sizes: np.ndarray
    usable: np.ndarray
    sides: np.ndarray

    def class_counts(self) -> np.ndarray:
        """Return how many objects each class has, ``(classes,)``."""
        labels = self.split.labels
        return np.bincount(labels[labels >= 0], minlength=len(self.split.classes))

    def class_pictures(self) -> np.ndarray:
        """Return in how many pictures each class is, ``(classes,)``."""
        good = self.split.labels >= 0
        pairs = np.unique(np.column_stack([self.split.rows, self.split.labels])[good], axis=0)
        return np.bincount(pairs[:, 1], minlength=len(self.split.classes))

    def numbers(self) -> dict:
        """Return the split's numbers, for a row of a table."""
        split, detection = self.split, self.split.boxes is not None
        sizes = self.sizes[~np.isnan(self.sizes).any(1)]
        middle = ' x '.join(f'{side:g}' for side in np.median(sizes, 0)) if len(sizes) else None
        return dict(
            split=split.name,
            pictures=len(split.files),
            boxes=len(split.boxes) if detection else None,
            ignored=int(split.ignored.sum()) if detection else None,
            labels=None if detection else len(split.labels),
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
        decoded: Whether the pictures were read.
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

    def as_dict(self) -> dict:
        """Return all of it for JSON."""
        splits = []
        for part in self.parts:
            source, counts = part.split.source, part.class_counts().tolist()
            pictures = part.class_pictures().tolist()
            places = dict(annotations=str(source.ann_file), folder=str(part.split.folder))
            triples = zip(part.split.classes, counts, pictures, strict=True)
            table = [dict(name=n, objects=c, pictures=p) for n, c, p in triples]
            splits.append(
                {**part.numbers(), **places, 'training': source.training, 'class_table': table}
            )
        return dict(
            findings=[finding.as_dict() for finding in self.findings.sorted()],
            counts={level: self.findings.count(level) for level in LEVELS},
            splits=splits,
            resize=self.view.describe(),
            boxes_by_level=self.levels(),
            pictures_read=self.decoded,
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
        findings: What was found already.
        view: How the detector sees boxes; None for FCOS with MMDetection's usual resize.
        num_classes: Of the model's head; None where it is not known.
        decode: Whether to read every picture; without it, broken ones, their real sizes and
            copies are not found.
        workers: Processes that decode; 0 for this one.
        progress: Whether to show a bar on stderr.

    Raises:
        InputError: No folder is found for the pictures of any split.
    """
    findings, view = findings or Findings(), view or View()
    splits = [READERS[source.kind](source, findings) for source in sources]
    splits = _share_voc_classes([split for split in splits if split is not None])
    lost = [f for f in findings.sorted() if f.code == 'pictures-not-found']
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
            usable = check_boxes(split, sizes, findings)
            sides = view.resize(split.boxes[usable], sizes[split.rows[usable]])
            sides = sides[~np.isnan(sides).any(1)]
        parts.append(Part(split, scan, sizes, usable, sides))
    _check_usable(parts, findings)
    for part in parts:
        _check_pictures(part, findings)
        _check_classes(part, num_classes, findings)
    _check_similar_names(splits, findings)
    _compare_classes(splits, findings)
    for part in parts:
        if not part.split.source.training:
            _find_overlap(part, [p for p in parts if p.split.source.training], findings)
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
    """Return for each split ``(N,)``, whether a picture is there; each folder is listed once."""
    listed, named, owner, found = {}, defaultdict(set), {}, []
    for split in splits:
        if split.source.kind == 'folders':  # listed already
            found.append(np.ones(len(split.files), bool))
            continue
        if not split.folder.is_dir():
            findings.add(split.name, 'missing-folder', [split.folder])
        if findings.has(split.name, 'missing-folder', 'pictures-not-found'):
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
        hint = functools.cache(lambda part, there=there: {n.casefold(): n for n in there[part]})

        def describe(row: int, split=split, pairs=pairs, hint=hint) -> str:
            close = hint(pairs[row][0]).get(pairs[row][1].casefold())
            return split.files[row] + (f' (there is {close})' if close else '')

        lost = (~found[-1]).nonzero()[0]
        findings.add(split.name, 'missing-picture', lost, describe, len(pairs))
    for place, names in listed.items():
        unused = sorted(n for n in names - named[place] if n.lower().endswith(SUFFIXES))
        findings.add(owner[place], 'unused-file', [os.path.join(place, name) for name in unused])
    return found


def _scan(
    splits: list[Split], there: list[np.ndarray], decode: bool, workers: int, progress: bool
) -> list[Scan]:
    """Read each picture once, however many splits name it."""
    if not decode:
        return [Scan.empty(len(split.files)) for split in splits]
    number, rows_of = {}, []
    for split, found in zip(splits, there, strict=True):
        rows = np.full(len(split.files), -1)
        for i in found.nonzero()[0]:
            key = split.path(i), split.source.detection
            rows[i] = number.setdefault(key, len(number))
        rows_of.append(rows)
    paths, detection = zip(*number, strict=True) if number else ((), ())
    scan = scan_pictures(paths, detection, workers, progress)
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


def _check_pictures(part: Part, findings: Findings) -> None:
    """Hold the pictures against their annotations and each other."""
    split, scan, total = part.split, part.scan, len(part.split.files)
    add = functools.partial(findings.add, split.name)
    add('undecodable-picture', scan.errors, scan.errors.get, total)
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
    add('blank-picture', scan.blank.nonzero()[0], split.files.__getitem__, total)
    _find_copies(part, findings)
    silent = ~split.annotated if split.lacking is None else ~split.annotated & ~split.lacking
    if split.source.needs_truth and not findings.has(split.name, 'nothing-to-learn'):
        add('no-annotation', silent.nonzero()[0], split.files.__getitem__, total)


def _find_copies(part: Part, findings: Findings) -> None:
    """Find pictures of a split with the same pixels in different files."""
    split, digests = part.split, np.where(part.scan.blank, 0, part.scan.digests)
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    first = first[inverse]
    again = ((digests != 0) & (first != np.arange(len(first)))).nonzero()[0]
    again = np.array([i for i in again if split.files[i] != split.files[first[i]]], np.int64)
    contradicts = np.zeros(len(again), bool)
    if split.source.kind in ONE_LABEL:
        label_of = np.full(len(split.files), NO_CLASS)
        label_of[split.rows] = split.labels
        contradicts = label_of[again] != label_of[first[again]]
    for code, rows in (
        ('duplicate-picture', again[~contradicts]),
        ('contradicting-labels', again[contradicts]),
    ):
        findings.add(
            split.name,
            code,
            rows,
            lambda i: f'{split.files[i]} = {split.files[first[i]]}',
            len(split.files),
        )


def _check_classes(part: Part, num_classes: int | None, findings: Findings) -> None:
    """Hold the classes against the head and their examples."""
    split = part.split
    count = len(split.classes)
    fits = (
        count <= num_classes
        if num_classes and are_number_names(split.classes)
        else count == num_classes
    )
    if num_classes is not None and not fits:
        text = f'num_classes is {num_classes}, the data has {count} classes ({few(split.classes)})'
        findings.add(split.name, 'num-classes', [text])
    if not split.source.needs_truth or findings.has(split.name, *EXPLAINS_UNUSED):
        return
    if split.source.kind in ONE_LABEL and count < 2:
        findings.add(split.name, 'single-class', [few(split.classes)])
    counts = part.class_counts()
    if not counts.any() and findings.has_error(split.name):  # as where all rows are bad
        return
    unused = [
        name
        for name, n in zip(split.classes, counts, strict=True)
        if n == 0 and name not in split.absent
    ]
    findings.add(split.name, 'unused-category', unused, repr, count)


def _check_similar_names(splits: list[Split], findings: Findings) -> None:
    told = set()
    for split in splits:
        groups = defaultdict(list)
        for name in split.classes:
            groups[re.sub(r'[\s_-]+', '', name.casefold())].append(name)
        alike = [few(names) for names in groups.values() if len(names) > 1]
        findings.add(split.name, 'similar-classes', [text for text in alike if text not in told])
        told |= set(alike)


def _compare_classes(splits: list[Split], findings: Findings) -> None:
    """Hold the classes of all splits against those of the first training split."""
    first = next((split for split in splits if split.source.training), None)
    for split in splits:
        if first is None or split.classes == first.classes or not split.source.needs_truth:
            continue
        if are_number_names(split.classes) and are_number_names(first.classes):
            continue
        more = [name for name in split.classes if name not in set(first.classes)]
        lacks = [name for name in first.classes if name not in set(split.classes)]
        words = [f'{first.name} lacks {few(more)}'] * bool(more)
        words += [f'{split.name} lacks {few(lacks)}'] * bool(lacks)
        text = ', '.join(words) or 'they are in another order'
        findings.add(split.name, 'classes-differ', [text])


def _find_overlap(part: Part, others: list[Part], findings: Findings) -> None:
    """Find the pictures of a split that are in training splits, too."""
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
    for code, found in (('overlap', same), ('near-copy', like)):

        def describe(row: int, found=found) -> str:
            other, place = files[found[row]]
            return f'{split.files[row]} = {other.files[place]} of {other.name}'

        findings.add(split.name, code, (found >= 0).nonzero()[0], describe, len(split.files))
