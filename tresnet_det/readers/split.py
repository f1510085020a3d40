"""What a folder of data is (`Layout`), where a split is (`Source`), what was read (`Split`)."""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import InputError, few
from .findings import Add, Findings, without

T = TypeVar('T')

NO_CLASS = -1  # in place of a class number
ROLES = ('train', 'val', 'test')
# In this order: test-dev is a test, and trainval is no train.
ROLE_WORDS = {
    'test': ('test', 'testing'),
    'trainval': ('trainval',),
    'val': ('val', 'valid', 'validation', 'minival', 'dev', 'eval'),
    'train': ('train', 'training'),
}


def role_of(name: str) -> str | None:
    """Return what a part of data is for by its name, such as ``instances_val2017``.

    Returns:
        A key of `ROLE_WORDS`; None where the name says nothing.
    """
    words = set(re.split('[^a-z]+', name.lower()))
    if words & {*ROLE_WORDS['val']} and words & {*ROLE_WORDS['train']}:
        return 'trainval'
    return next((role for role, known in ROLE_WORDS.items() if words & {*known}), None)


def assign_roles(parts: Sequence[tuple[str, T]], where: Path) -> tuple[dict[str, T], list[str]]:
    """Give each role its part.

    A part for both training and validation is for training where there is neither; so is the only
    one whose name is of no role, where there is none for training.

    Args:
        parts: Names and what they name.
        where: For messages.

    Returns:
        The parts by role, and a line for each that was skipped.

    Raises:
        InputError: Several could be for one role.
    """
    by_role: dict[str | None, list[tuple[str, T]]] = {}
    for name, item in parts:
        by_role.setdefault(role_of(name), []).append((name, item))
    spare = by_role.pop('trainval', [])
    if not by_role.keys() & {'train', 'val'}:  # it holds both
        by_role.setdefault('train', []).extend(spare)
    others = by_role.pop(None, [])
    if not by_role.get('train'):
        by_role['train'], others = others, []
    splits = {}
    for role in ROLES:
        candidates = by_role.get(role) or []
        if len(candidates) > 1:
            raise InputError(
                f'{where}: {few(name for name, _ in candidates)} could all be for {role}: keep '
                'one, and put train, val or test into the names'
            )
        if candidates:
            splits[role] = candidates[0][1]
    return splits, [f'{name} is skipped: its name is of no split' for name, _ in others]


@dataclass(frozen=True)
class Layout:
    """What a folder of data was recognised as; nothing but its lists has been read.

    Attributes:
        kind: Of the layout, as a `Source` has it.
        root: The folder that has the layout: the given one, or one below it.
        splits: Of ``train``, ``val`` and ``test`` those that exist: a JSON, VOC's list of
            images, a CSV or a folder; of YOLO the first of its `places`.
        sign: The file or folder that it was recognised by; of YOLO what names the classes.
        notes: What was passed over, a line each.
        names: Of YOLO's classes, by number.
        places: Of YOLO's splits, each as folders of images or text files that list them.
        faults: Why it cannot be trained on, though it was recognised.
    """

    kind: str
    root: Path
    splits: dict[str, Path]
    sign: Path
    notes: list[str] = field(default_factory=list)
    names: tuple[str, ...] = ()
    places: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    faults: list[InputError] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A split of a dataset, not yet read.

    Attributes:
        name: Of the split, unique in a report.
        kind: ``'coco'``, ``'voc'``, ``'yolo'``, ``'csv'``, ``'list'`` (``NAME LABEL``) or
            ``'folders'``.
        ann_file: What is read; the list of images for VOC, what names the classes for YOLO, the
            folder itself for class folders.
        folder: Of the images, or one above theirs.
        training: Whether it is learnt from, and not measured on.
        detection: Whether its boxes are what is learnt.
        several: Whether an image of class folders may have several labels.
        classes: Names in the order of the labels; None takes them from the data.
        own: Whether classes that are None follow the data's first split, not each its own.
        known_by: Who knows the classes, where the data must have no other.
        needs_truth: False where predictions are only written down.
        search: Whether the images are looked for below ``folder``, by their names.
        role: ``'train'``, ``'val'`` or ``'test'`` in the layout, whatever it is taken for.
        xml_folder: Of VOC's XML files; with the kind ``'voc'`` alone.
        names: Of YOLO's classes, by number.
        places: Of YOLO's images: folders, or text files that list them.
        optional: Whether it is skipped where it has no annotations.
        filter_cfg: Of MMDetection's dataset, by which it drops images.
        fills_in: Whether a training reads a copy, in which what lacks can be filled in.
    """

    name: str
    kind: str
    ann_file: Path
    folder: Path
    training: bool = True
    detection: bool = False
    several: bool = False
    classes: tuple[str, ...] | None = None
    own: bool = False
    known_by: str = ''
    needs_truth: bool = True
    search: bool = False
    role: str = 'train'
    xml_folder: Path | None = None
    names: tuple[str, ...] = ()
    places: tuple[Path, ...] = ()
    optional: bool = False
    filter_cfg: Mapping = field(default_factory=dict)
    fills_in: bool = False

    def about(self, findings: Findings) -> Add:
        """Return what adds a finding about this split."""
        return findings.about(self.name, self.ann_file)

    def find_unknown(self, names: Sequence[str]) -> list[str]:
        """Return a line where some names are none of the classes, and only these may occur."""
        unknown = without(names, self.classes or names)
        if not self.known_by or not unknown:
            return []
        text = f'which {self.known_by} does not know; it knows {few(self.classes or ())}'
        return [f'{self.ann_file}: has the classes {few(unknown)}, {text}']


@dataclass
class Boxes:
    """The boxes of ``M`` objects.

    Attributes:
        xywh: ``(M, 4)``: left, top, width and height in pixels of the image.
        areas: ``(M,)`` in square pixels, NaN where nothing is said.
        ignored: ``(M,)``, whether it is a crowd, or difficult, and so not learnt.
    """

    xywh: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray

    def take(self, rows: np.ndarray) -> 'Boxes':
        """Return the boxes of some objects."""
        return Boxes(self.xywh[rows], self.areas[rows], self.ignored[rows])


@dataclass(eq=False)
class Split:
    """A split that has been read: ``N`` images, ``M`` objects (boxes, or labels of images).

    Attributes:
        source: Where it is from.
        folder: Of the images.
        classes: Names in the order of the labels.
        files: ``N`` files, relative to ``folder``.
        rows: ``(M,)``, the image of each object.
        labels: ``(M,)``, class numbers; `NO_CLASS` for what is no class.
        name_object: Says of an object where it is.
        annotated: ``(N,)``, whether anything is said of an image, good or bad.
        sizes: ``(N, 2)``, width and height in pixels as annotated; NaN where nothing is said.
        named: All files that the annotations name, also those of entries that are no good.
        unknown: ``(K, 2)``, image and class where a label is unknown, -1 in a CSV.
        absent: Classes that the data has no place for, as a category or a folder.
        lacking: ``(N,)``, whether an image lacks the label file of its own; with YOLO's.
        boxes: Of the objects; None for labels of images.
        unreadable: Images whose header was found to be none.
        has_masks: Whether all objects have outlines.
        masks: Image, place and segmentation of objects whose image has no size in the annotations.
        entries: ``(M,)``, where the objects are in the list of a COCO file; with COCO's.
        fractions: Whether its boxes are fractions of the images, whose sizes are not known yet.
        changed: Whether it differs from its file, so that a training needs a copy.
        group: The category that groups the others, by which Roboflow names a project.
        found: ``(N,)``, whether an image is in its folder.
        usable: ``(M,)``, whether training learns an object.
    """

    source: Source
    folder: Path
    classes: tuple[str, ...]
    files: list[str]
    rows: np.ndarray
    labels: np.ndarray
    name_object: Callable[[int], str]
    annotated: np.ndarray
    sizes: np.ndarray
    named: Collection[str]
    unknown: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    absent: frozenset[str] = frozenset()
    lacking: np.ndarray | None = None
    boxes: Boxes | None = None
    unreadable: Collection[int] = ()
    has_masks: bool = False
    masks: Sequence[tuple[int, str, Any]] = ()
    entries: np.ndarray | None = None
    fractions: bool = False
    changed: bool = False
    group: str | None = None
    found: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    usable: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def name(self) -> str:
        """Its source's."""
        return self.source.name

    def about(self, findings: Findings) -> Add:
        """Return what adds a finding about this split."""
        return self.source.about(findings)

    def path(self, row: int) -> str:
        """Return an image's file."""
        return os.path.join(self.folder, self.files[row])

    def take(self, kept: np.ndarray) -> 'Split':
        """Return the split with some of its objects, by their numbers."""
        return replace(
            self,
            rows=self.rows[kept],
            labels=self.labels[kept],
            name_object=lambda i: self.name_object(kept[i]),
            boxes=self.boxes and self.boxes.take(kept),
            entries=None if self.entries is None else self.entries[kept],
        )

    def renumber(self, classes: tuple[str, ...]) -> 'Split':
        """Return the split with other classes, by their names."""
        number = {name: i for i, name in enumerate(classes)}
        new = [number.get(name, NO_CLASS) for name in self.classes]
        return replace(self, classes=classes, labels=np.array([*new, NO_CLASS])[self.labels])

    def class_counts(self) -> np.ndarray:
        """Return how many objects each class has, ``(classes,)``."""
        return np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))

    def single_labels(self) -> np.ndarray:
        """Return the class number of each image, ``(N,)``; `NO_CLASS` where it has none."""
        numbers = np.full(len(self.files), NO_CLASS, np.int64)
        numbers[self.rows] = self.labels
        return numbers

    def matrix(self) -> np.ndarray:
        """Return the labels of each image, ``(N, classes)`` of int8.

        1 where a class is there, 0 where it is not, -1 where that is unknown.
        """
        labels = np.zeros((len(self.files), len(self.classes)), np.int8)
        labels[self.unknown[:, 0], self.unknown[:, 1]] = -1
        known = self.labels >= 0
        labels[self.rows[known], self.labels[known]] = 1
        return labels
