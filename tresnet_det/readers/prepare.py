"""Your own data made ready for a config: converted where it must be, with a part to validate on.

Nothing is written into the data's folder. What has to be written, COCO's JSON or lists of labels,
appears whole or not at all in a folder of the caller's.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import replacing
from .coco import read_json
from .data import read_data
from .findings import Findings
from .layouts import OF_TASK, ROLES, Layout, check_training, layout_sources
from .split import Split

SHARE = 0.1  # of the training images
SEED = 0
NAMES = {'train': 'train_without_val', 'val': 'val_of_train'}  # of the files that hold the parts
ORIGINS = {'voc': 'Pascal VOC', 'yolo': 'YOLO'}


@dataclass(frozen=True)
class ReadySplit:
    """A split as a config names it.

    Attributes:
        ann_file: COCO's JSON, a CSV or a list of labels; None for class folders.
        folder: Of the images.
        images: How many.
        objects: Boxes, or labels of images.
        empty: Images without any.
        written: Whether ``ann_file`` was made here.
    """

    ann_file: Path | None
    folder: Path
    images: int
    objects: int
    empty: int
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
    """Make the splits of a layout ready.

    Where there is none to validate on, a tenth of the training images becomes it, see
    :func:`choose_held_out`: of the images with boxes and of those without, of those
    with a label, or of each class where an image has one.

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
    findings, out = Findings(strict=True), Path(out_dir)
    if not (testing and layout.splits):
        check_training(layout, findings)
    roles = [role for role in ROLES if role in layout.splits]
    if testing and classes:
        roles = [role for role in roles if role != 'train'] or roles
    sources = layout_sources(layout, roles, task)
    if classes:
        known = tuple(classes)
        sources = [replace(s, classes=known, known_by='the checkpoint') for s in sources]
    read = {split.name: split for split in read_data(sources, findings)}
    first = next(iter(read.values()))
    notes = [f.message for f in findings if f.code == 'left-out']
    parts, rows = dict(read), dict[str, np.ndarray]()  # what is held out, by images
    if 'train' in read and 'val' not in read:
        train, val = _divide(layout, read['train'], task)
        notes.append(
            f'no validation split: {len(val)} of the {len(train) + len(val)} training images are '
            f'held out for it (a tenth, by the SHA-256 of {SEED}/NAME) and not trained on'
        )
        parts |= {'val': read['train']}
        rows = {'train': train, 'val': val}
    if task == 'detection' or layout.kind in ORIGINS:  # datasets of labels warn themselves
        notes += findings.warnings()
    boxes = layout.kind in OF_TASK['detection']
    write = _write_coco if boxes else _write_labels
    ids = {
        path: i for i, path in enumerate(sorted({p for s in read.values() for p in _paths(s)}), 1)
    }
    splits = {}
    for role in filter(parts.__contains__, ROLES):
        split = parts[role]
        chosen = rows.get(role, np.arange(len(split.files)))
        file = split.source.ann_file if layout.kind in ('coco', 'csv') else None
        written = role in rows or layout.kind in ORIGINS
        if written:
            stem = NAMES[role] if role in rows else role
            file = write(split, chosen, out / stem, ids)
        objects = np.isin(split.rows, chosen)
        pairs = np.column_stack([split.rows, split.labels])[objects]
        count = len(pairs) if task == 'detection' else len(np.unique(pairs, axis=0))
        filled = len(np.unique(pairs[:, 0]))
        splits[role] = ReadySplit(
            file, split.folder, len(chosen), count, len(chosen) - filled, written
        )
    unit = 'boxes' if task == 'detection' else 'labels'
    return OwnData(layout, first.classes, splits, [*layout.notes, *notes], first.has_masks, unit)


def _paths(split: Split) -> list[str]:
    return [split.path(row) for row in range(len(split.files))]


def _divide(layout: Layout, split: Split, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which images are trained on, and which are held out."""
    rows, labels = np.arange(len(split.files)), split.single_labels()
    filled = np.isin(rows, split.rows[split.labels >= 0] if split.boxes is None else split.rows)
    if layout.kind == 'folders' and task == 'classification':
        groups = [np.flatnonzero(labels == label) for label in range(len(split.classes))]
        for name, group in zip(split.classes, groups, strict=True):
            if len(group) < 2:
                raise InputError(
                    f'{split.folder / name}: its one image cannot be both for training and '
                    'validation: add images, or a val/ folder'
                )
    elif filled.sum() < 2:
        raise InputError(
            f'{layout.root}: {filled.sum()} image with boxes or labels is too few to hold one out '
            'to validate on: add images, or a validation split'
        )
    else:
        groups = [rows[filled]]
        # Of those without, a tenth too where these are boxes, and that is an image.
        if layout.kind in OF_TASK['detection'] and (~filled).sum() * SHARE >= 1:
            groups.append(rows[~filled])
    files = split.files
    val = [group[sorted(choose_held_out([files[row] for row in group]))] for group in groups]
    held_out = np.sort(np.concatenate(val))
    return np.setdiff1d(rows, held_out), held_out


def _write_coco(split: Split, chosen: np.ndarray, path: Path, ids: Mapping[str, int]) -> Path:
    if split.source.kind == 'coco':  # all of it, also what a split does not hold
        content = read_json(split.source.ann_file)
        images = [content['images'][row] for row in chosen]
        kept = {image['id'] for image in images}
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
        content['images'] = images
    else:
        content = to_coco(split, chosen, ids)
    target = path.with_name(f'instances_{path.name}.json')
    write_text(target, json.dumps(content, separators=(',', ':')))
    return target


def to_coco(split: Split, chosen: np.ndarray, ids: Mapping[str, int]) -> dict[str, Any]:
    """Return boxes as the content of a COCO instances file.

    Args:
        split: With boxes that lie within their images.
        chosen: Which of its images.
        ids: Of the images, by their path: an image has one in all splits.
    """
    boxes = split.boxes
    assert boxes is not None  # of this kind of split
    image_ids = [ids[split.path(row)] for row in range(len(split.files))]
    sizes = split.sizes.astype(int).tolist()
    kept = np.flatnonzero(np.isin(split.rows, chosen)).tolist()
    numbers = [[int(v) if v.is_integer() else v for v in box] for box in boxes.xywh.tolist()]
    areas = [int(v) if v.is_integer() else v for v in boxes.areas.tolist()]
    name = split.source.ann_file.stem if split.source.kind == 'voc' else split.name
    return {
        'info': {'description': f'Converted from {ORIGINS[split.source.kind]}, split {name}'},
        'images': [
            dict(id=image_ids[i], file_name=split.files[i], width=sizes[i][0], height=sizes[i][1])
            for i in chosen.tolist()
        ],
        'annotations': [
            dict(
                id=number,  # from 1: COCO's API takes 0 for "not found"
                image_id=image_ids[split.rows[i]],
                category_id=int(split.labels[i]) + 1,
                bbox=numbers[i],
                area=areas[i],
                iscrowd=int(boxes.ignored[i]),
            )
            for number, i in enumerate(kept, 1)
        ],
        'categories': [dict(id=i, name=name) for i, name in enumerate(split.classes, 1)],
    }


def _write_labels(split: Split, chosen: np.ndarray, path: Path, ids: Mapping[str, int]) -> Path:
    names, classes = [split.files[row] for row in chosen], split.classes
    text = io.StringIO()
    if split.source.several:
        writer = csv.writer(text, lineterminator='\n')
        writer.writerow(['file', *classes])
        writer.writerows([n, *row] for n, row in zip(names, split.matrix()[chosen], strict=True))
    else:
        # Numbers, or names where a number would be taken for one.
        by_name = any(name.isdecimal() for name in classes)
        if by_name and any(len(name.split()) > 1 for name in classes):
            raise InputError(
                f'{split.folder}: class folders with numbers for names and others with spaces '
                'cannot be told apart: rename them, or make a val/ folder'
            )
        numbers = split.single_labels()[chosen].tolist()
        text.writelines(
            f'{name} {classes[number] if by_name else number}\n'
            for name, number in zip(names, numbers, strict=True)
        )
    target = path.with_name(path.name + ('.csv' if split.source.several else '.txt'))
    write_text(target, text.getvalue())
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


def choose_held_out(names: Sequence[str]) -> set[int]:
    """Return which of the images are held out: a tenth of them, at least one.

    It is those whose names come first by the SHA-256 of ``0/NAME``: the same in every run and on
    every machine, and little changed by images that are added.
    """

    def key(index: int) -> bytes:
        return hashlib.sha256(os.fsencode(f'{SEED}/{names[index]}')).digest()

    count = min(len(names), max(1, round(len(names) * SHARE)))
    return set(sorted(range(len(names)), key=key)[:count])
