"""Your own data made ready for a config by ``--data FOLDER``: what is held out, counted, written.

What has to be written, COCO's JSON or lists of labels, appears in a folder of the caller's, nothing
in the data's. One line says what is learnt from, the same in ``check_data.py``: :func:`summarize`.
"""

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, few
from ..files import replacing
from .data import check_left, describe_small, layout_sources, read_data
from .files import read_json
from .findings import Findings
from .kinds import CONVERTED, KINDS, OF_TASK
from .layouts import check_training
from .split import ROLES, Layout, Split

SHARE = 0.1  # of the training images that are held out
SEED = 0
NAMES = {'train': 'train_without_val', 'val': 'val_of_train'}  # of the files that hold the parts


@dataclass(frozen=True)
class Counts:
    """What matters of ``N`` images to a dataset's filter.

    Attributes:
        sides: ``(N,)``, the shorter side in pixels; NaN where it is not known.
        filled: ``(N,)``, whether anything is annotated of a class.
        objects: ``(N,)``, boxes or labels that are learnt.
    """

    sides: np.ndarray
    filled: np.ndarray
    objects: np.ndarray

    @property
    def num_images(self) -> int:
        """How many images there are."""
        return len(self.sides)

    @property
    def num_objects(self) -> int:
        """Boxes or labels that are learnt."""
        return int(self.objects.sum())

    @property
    def num_empty(self) -> int:
        """Images without any annotation of a class."""
        return int((~self.filled).sum())

    @classmethod
    def of(cls, split: Split, rows: np.ndarray, task: str) -> 'Counts':
        """Count the images of a split that have these numbers."""
        total, known = len(split.files), split.labels >= 0
        pairs = np.column_stack([split.rows, split.labels])[known]
        objects = split.rows[split.usable]
        if task != 'detection':  # a class counts once an image
            objects = np.unique(pairs, axis=0)[:, 0]
        filled = np.bincount(split.rows[known], minlength=total) > 0
        numbers = np.bincount(objects, minlength=total)
        return cls(split.sizes.min(1)[rows], filled[rows], numbers[rows])

    def kept(self, filter_cfg: Mapping) -> tuple[np.ndarray, list[str]]:
        """Return the numbers of the images that a dataset keeps, and a line for others.

        Args:
            filter_cfg: The dataset's, and its ``indices``, which count what the filter keeps.
        """
        least = filter_cfg.get('min_size') or 0
        small = self.sides < least
        empty = ~self.filled & bool(filter_cfg.get('filter_empty_gt')) & ~small
        lines = []
        if empty.any():
            lines.append(f'{empty.sum()} training images without objects are not trained on')
        if small.any():
            lines.append(describe_small(small.sum(), least))
        rows = np.flatnonzero(~small & ~empty)
        chosen, total = filter_cfg.get('indices'), len(rows)
        if isinstance(chosen, int):  # the first ones or, below 0, the last ones, as mmengine's
            chosen = slice(chosen) if chosen >= 0 else slice(chosen, None)
        if chosen is not None:
            try:
                rows = rows[chosen]
            except (IndexError, TypeError, ValueError) as error:
                raise InputError(f'indices of a dataset of {total} images: {error}') from error
            lines.append(f'indices choose {len(rows)} of {total} training images')
        return rows, lines


def summarize(
    parts: Mapping[str, Counts], classes: Sequence[str], task: str, filters: Mapping[str, Mapping]
) -> str:
    """Say in a line what is trained on and measured on.

    Args:
        parts: By role.
        classes: Their names.
        task: What for.
        filters: The ``filter_cfg`` of a dataset by role, where it has one.

    Raises:
        InputError: Nothing is left to train on.
    """
    texts = []
    for role, part in parts.items():
        kept, lines = part.kept(filters.get(role) or {})
        if role == 'train':
            check_left('data', len(kept), lines)
        of = '' if len(kept) == part.num_images else f' of {part.num_images}'
        what = 'boxes' if task == 'detection' else 'labels'
        texts.append(f'{role} {len(kept)}{of} images with {part.objects[kept].sum()} {what}')
    return f'data: {", ".join(texts)}; {len(classes)} classes: {few(classes, 20)}'


def plan_parts(splits: Mapping[str, Split], task: str) -> dict[str, tuple[Split, np.ndarray]]:
    """Return by role a split and the numbers of its images; validation out of training if need be.

    Args:
        splits: By role.
        task: What for.

    Raises:
        InputError: There are too few images to hold one out.
    """
    parts = {role: (split, np.arange(len(split.files))) for role, split in splits.items()}
    if 'train' in splits and 'val' not in splits:
        train, val = _divide(splits['train'], task)
        parts |= {'train': (splits['train'], train), 'val': (splits['train'], val)}
    return {role: parts[role] for role in ROLES if role in parts}


def _divide(split: Split, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which images are trained on, and which are held out."""
    rows, labels = np.arange(len(split.files)), split.single_labels()
    filled = np.isin(rows, split.rows[split.labels >= 0] if split.boxes is None else split.rows)
    if split.source.kind == 'folders' and task == 'classification':
        groups = [np.flatnonzero(labels == label) for label in range(len(split.classes))]
        for name, group in zip(split.classes, groups, strict=True):
            if len(group) < 2:
                raise InputError(
                    f'{split.folder / name}: its one image cannot be both for training and '
                    'validation: add images, or a val/ folder'
                )
    elif filled.sum() < 2:
        raise InputError(
            f'{split.source.ann_file}: {filled.sum()} image with boxes or labels is too few to '
            'hold one out to validate on: add images, or a validation split'
        )
    else:
        groups = [rows[filled]]
        # Of those without, a tenth too where these are boxes, and that is an image.
        if split.source.kind in OF_TASK['detection'] and (~filled).sum() * SHARE >= 1:
            groups.append(rows[~filled])
    files = split.files
    val = [group[sorted(choose_held_out([files[row] for row in group]))] for group in groups]
    held_out = np.sort(np.concatenate(val))
    return np.setdiff1d(rows, held_out), held_out


def choose_held_out(names: Sequence[str]) -> set[int]:
    """Return which of the images are held out: a tenth of them, at least one.

    It is those whose names come first by the SHA-256 of ``0/NAME``: the same in every run and on
    every machine, and little changed by images that are added.
    """

    def key(index: int) -> bytes:
        return hashlib.sha256(os.fsencode(f'{SEED}/{names[index]}')).digest()

    count = min(len(names), max(1, round(len(names) * SHARE)))
    return set(sorted(range(len(names)), key=key)[:count])


@dataclass(frozen=True)
class ReadySplit:
    """A split as a config names it.

    Attributes:
        ann_file: COCO's JSON, a CSV or a list of labels; None for class folders.
        folder: Of the images.
        counts: Of its images.
        written: Whether ``ann_file`` was made here.
    """

    ann_file: Path | None
    folder: Path
    counts: Counts
    written: bool = False


@dataclass(frozen=True)
class OwnData:
    """Data ready to be trained on.

    Attributes:
        layout: As it was recognised.
        classes: Names in the order of the labels.
        splits: By ``train``, ``val`` and ``test``; those that exist.
        notes: What was decided, skipped or doubtful, a line each.
        has_masks: Whether its objects have outlines, not only boxes.
        unit: What its objects are called.
    """

    layout: Layout
    classes: tuple[str, ...]
    splits: dict[str, ReadySplit]
    notes: list[str] = field(default_factory=list)
    has_masks: bool = False
    unit: str = 'labels'


def prepare_splits(
    layout: Layout,
    task: str,
    out_dir: str | os.PathLike,
    classes: Sequence[str] | None = None,
    testing: bool = False,
) -> OwnData:
    """Make the splits of a layout ready for a config: converted where they must be.

    Where there is none to validate on, a tenth of the training images becomes it: of the images
    with boxes and of those without, of those with a label, or of each class where an image has one.

    Args:
        layout: Of :func:`find_layout`.
        task: As there.
        out_dir: Gets what has to be written; made only where that is anything.
        classes: Names in the order of the labels, such as a checkpoint's; the data must have no
            others. None takes the data's own: COCO's in their order, but for the empty category by
            which Roboflow names a project; YOLO's by number; VOC's and others' by name.
        testing: Whether only what is measured on matters: the test split, or else the validation.

    Raises:
        InputError: The first error in the data, or the classes do not fit.
    """
    findings = Findings(strict=True)
    if not (testing and layout.splits):
        check_training(layout, findings)
    roles = [role for role in ROLES if role in layout.splits]
    if testing and classes:
        roles = [role for role in roles if role != 'train'] or roles
    sources = layout_sources(layout, roles, task)
    if classes:
        known = tuple(classes)
        sources = [replace(s, classes=known, known_by='the checkpoint') for s in sources]
    read = {split.name: split for split in read_data(sources, findings, headers=math.inf)}
    first = next(iter(read.values()))
    codes = ('left-out', 'filled-in') if layout.kind == 'folders' else ('left-out',)
    notes = [line for f in findings if f.code in codes for line in f.examples]
    parts = plan_parts(read, task)
    divided = parts.keys() > read.keys()
    if divided:
        val, total = len(parts['val'][1]), len(read['train'].files)
        notes.append(
            f'no validation split: {val} of the {total} training images are held out for it '
            f'(a tenth, by the SHA-256 of {SEED}/NAME) and not trained on'
        )
        held, rows = parts['val']
        measured = {*held.labels[np.isin(held.rows, rows)].tolist()}
        absent = [name for label, name in enumerate(first.classes) if label not in measured]
        if absent:
            notes.append(f'classes in no held-out image, so not measured: {few(absent)}')
    if task == 'detection' or layout.kind in CONVERTED:  # datasets of labels warn themselves
        notes += findings.warnings()
    ids = number_images(read.values())
    splits = {}
    for role, (split, chosen) in parts.items():
        cut = divided and role in NAMES
        file = split.source.ann_file if layout.kind in ('coco', 'csv') else None
        written = cut or layout.kind in CONVERTED or split.changed
        if written:
            stem = NAMES[role] if cut else role
            file = _write(split, chosen, Path(out_dir, stem), ids)
        splits[role] = ReadySplit(file, split.folder, Counts.of(split, chosen, task), written)
    unit = 'boxes' if task == 'detection' else 'labels'
    return OwnData(layout, first.classes, splits, [*layout.notes, *notes], first.has_masks, unit)


def number_images(splits: Iterable[Split]) -> dict[str, int]:
    """Return a number for each image by its path, the same in all splits."""
    paths = {split.path(row) for split in splits for row in range(len(split.files))}
    return {path: number for number, path in enumerate(sorted(paths), 1)}


def _write(split: Split, chosen: np.ndarray, stem: Path, ids: Mapping[str, int]) -> Path:
    """Write some images of a split, as COCO's JSON or as labels; return the file."""
    if split.source.kind not in OF_TASK['detection']:
        target = stem.with_name(stem.name + ('.csv' if split.source.several else '.txt'))
        write_text(target, to_labels(split, chosen))
        return target
    coco = split.source.kind == 'coco'
    more = read_json(split.source.ann_file, True)['annotations'] if coco else ()
    content = to_coco(split, chosen, ids, more)
    target = stem.with_name(f'instances_{stem.name}.json')
    write_text(target, json.dumps(content, separators=(',', ':')))
    return target


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all; several processes may write the same at once.

    Raises:
        InputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding='utf-8', errors='surrogateescape')
    except OSError as error:
        raise InputError(f'{path} cannot be written: {error.strerror or error}') from error


def to_coco(
    split: Split, chosen: np.ndarray, ids: Mapping[str, int], more: Sequence[Mapping] = ()
) -> dict[str, Any]:
    """Return boxes as the content of a COCO instances file.

    Args:
        split: With boxes that lie within their images.
        chosen: Which of its images.
        ids: Of the images, by their path: an image has one in all splits.
        more: The annotations of the COCO file that it is from, whose other keys stay, and, without
            boxes, these too.
    """
    boxes, kind = split.boxes, split.source.kind
    image_ids = [ids[split.path(row)] for row in range(len(split.files))]
    sizes = split.sizes.astype(int).tolist()
    kept = np.flatnonzero(np.isin(split.rows, chosen) & (split.labels >= 0)).tolist()
    keys: list[dict[str, Any]] = [{} for _ in split.rows]
    if boxes is not None:
        numbers = np.column_stack([boxes.xywh, boxes.areas]).tolist()
        numbers = [[int(v) if v.is_integer() else v for v in row] for row in numbers]
        keys = [
            dict(bbox=row[:4], area=row[4], iscrowd=int(ignored))
            for row, ignored in zip(numbers, boxes.ignored, strict=True)
        ]
    if split.entries is not None:
        own = [more[i] for i in split.entries]
        # Of COCO's two ways to ignore a box, evaluation knows the first alone.
        keys = [
            {**old, **new, 'iscrowd': old.get('iscrowd') or 0}
            for old, new in zip(own, keys, strict=True)
        ]
    name = split.source.ann_file.stem if kind == 'voc' else split.name
    return {
        'info': {'description': f'Converted from {KINDS[kind]}, split {name}'},
        'images': [
            dict(id=image_ids[i], file_name=split.files[i], width=sizes[i][0], height=sizes[i][1])
            for i in chosen.tolist()
        ],
        'annotations': [
            {
                **keys[i],
                'id': number,  # from 1: COCO's API takes 0 for "not found"
                'image_id': image_ids[split.rows[i]],
                'category_id': int(split.labels[i]) + 1,
            }
            for number, i in enumerate(kept, 1)
        ],
        'categories': [dict(id=i, name=name) for i, name in enumerate(split.classes, 1)],
    }


def to_labels(split: Split, chosen: np.ndarray) -> str:
    """Return the labels of some images as a CSV file, or as a list where each has one.

    Raises:
        InputError: A list cannot have these names of classes.
    """
    files, classes = [split.files[row] for row in chosen], split.classes
    if split.source.several:
        text = io.StringIO()
        writer = csv.writer(text)  # whose line ends have it quote both \r and \n
        writer.writerow(['file', *classes])
        writer.writerows([n, *row] for n, row in zip(files, split.matrix()[chosen], strict=True))
        return text.getvalue()
    # Numbers, or names where a number would be taken for one.
    by_name = any(name.isdecimal() for name in classes)
    if by_name and any(len(name.split()) > 1 for name in classes):
        raise InputError(
            f'{split.folder}: class folders with numbers for names and others with spaces '
            'cannot be told apart: rename them, or make a val/ folder'
        )
    labels = split.single_labels()[chosen].tolist()
    pairs = zip(files, [classes[i] if by_name else i for i in labels], strict=True)
    return ''.join(f'{file} {label}\n' for file, label in pairs)
