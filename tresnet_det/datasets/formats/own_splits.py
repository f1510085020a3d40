"""One's own data made ready for a config: converted where it must be, with a part to validate on.

Nothing is written into the data's folder. What has to be written, COCO's JSON or lists of labels,
appears whole or not at all in a folder of the caller's.
"""

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...errors import InputError, few
from ..classification import find_class_pictures
from .coco_content import check_annotations, check_categories, check_images, read_instances
from .folders import inner_folders
from .held_out import NAMES, SHARE, choose_held_out, describe_held_out, needs_held_out, write_whole
from .layouts import ROLES, Layout, find_pictures
from .multilabel_readers import read_csv, read_folders, read_rows
from .voc import voc_to_coco
from .yolo import read_yolo


@dataclass(frozen=True)
class ReadySplit:
    """A split as a config names it.

    Attributes:
        ann_file: COCO's JSON, a CSV or a list of labels; None for class folders.
        folder: Of the pictures.
        pictures: How many.
        objects: Boxes, or labels of pictures.
        empty: Pictures without any.
        written: Whether ``ann_file`` was made here.
    """

    ann_file: Path | None
    folder: Path
    pictures: int
    objects: int
    empty: int
    written: bool = False


@dataclass(frozen=True)
class OwnData:
    """Data ready to be trained on.

    Attributes:
        layout: As it was recognised.
        classes: Names in the order of the labels.
        splits: By ``train``, ``val`` and ``test``; what is not there is absent.
        notes: What was decided or passed over, a line each.
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

    Where there is none to validate on, a tenth of the training pictures becomes it, see
    :mod:`~tresnet_det.datasets.formats.held_out`: of the pictures with boxes and of
    those without, of those with a label, or of each class where a picture has one.

    Args:
        layout: Of :func:`find_layout`.
        task: As there.
        out_dir: Gets what has to be written; made only where that is anything.
        classes: Names in the order of the labels, such as a checkpoint's; the data must have no
            others. None takes the data's own: COCO's in their order, but for the empty category by
            which Roboflow names a project; YOLO's by number; VOC's and others' by name.
        testing: Whether only what is measured on matters: the test split, or else the validation.

    Raises:
        InputError: A file is wrong, a split is missing, or the classes do not fit.
    """
    if 'train' not in layout.splits and not (testing and layout.splits):
        raise InputError(
            f'{layout.root}: nothing in it is for training, there is {few(layout.splits)}: put '
            'train into the name of the part to learn from'
        )
    roles = [role for role in ROLES if role in layout.splits]
    if testing and classes:
        roles = [role for role in roles if role != 'train'] or roles
    if layout.kind in ('coco', 'voc', 'yolo'):
        data = _prepare_boxes(layout, roles, Path(out_dir), classes, task)
    elif task == 'multilabel':
        data = _prepare_labels(layout, roles, Path(out_dir), classes)
    else:
        data = _prepare_folders(layout, roles, Path(out_dir), classes)
    return replace(data, notes=[*layout.notes, *data.notes])


def _check_known(
    source: object, found: Sequence[str], classes: Sequence[str], who: str = 'the checkpoint'
) -> None:
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise InputError(
            f'{source}: has the classes {few(unknown)}, which {who} does not know; it knows '
            f'{few(classes)}'
        )


# ---------------------------------------------------------------------------------------------
# COCO, VOC, YOLO

Part = tuple[dict, Path, Path | None]  # content, folder of the pictures, and the file it is from


def _prepare_boxes(
    layout: Layout, roles: Sequence[str], out: Path, classes: Sequence[str] | None, task: str
) -> OwnData:
    read: dict[str, Callable] = dict(coco=_read_coco, voc=_read_voc, yolo=_read_yolo)
    parts, notes = read[layout.kind](layout, roles, classes)
    first = next(iter(parts.values()))[0]
    names = [category['name'] for category in first['categories']]
    if layout.kind == 'coco':
        dummy = _find_dummy([content for content, _, _ in parts.values()])
        if dummy is not None:
            names.remove(dummy)
            notes.append(f'the category {dummy!r} groups the others and has no boxes: left out')
        if classes:
            _check_known(next(iter(parts.values()))[2], names, classes)
    if needs_held_out(list(parts)):
        content, folder, _ = parts['train']
        train, val = _hold_out(layout, content)
        notes.append(describe_held_out(len(val['images']), len(content['images'])))
        parts |= {'train': (train, folder, None), 'val': (val, folder, None)}
        stems = NAMES
    else:
        stems = {}
    splits = {}
    for role in filter(parts.get, ROLES):
        content, folder, file = parts[role]
        if file is None:
            target = out / f'instances_{stems.get(role, role)}.json'
            write_whole(target, json.dumps(content, separators=(',', ':')))
        annotated = len({a['image_id'] for a in content['annotations']})
        count = len(content['images'])
        objects = len(content['annotations'])
        if task == 'multilabel':
            objects = len({(a['image_id'], a['category_id']) for a in content['annotations']})
        splits[role] = ReadySplit(
            file or target, folder, count, objects, count - annotated, file is None
        )
    has_masks = all(a.get('segmentation') for a in first['annotations'])
    unit = 'boxes' if task == 'detection' else 'labels'
    return OwnData(layout, tuple(classes or names), splits, notes, has_masks, unit)


def _read_coco(
    layout: Layout, roles: Sequence[str], classes: object
) -> tuple[dict[str, Part], list[str]]:
    parts, notes = {}, []
    for role in roles:
        file = layout.splits[role]
        may_lack = role == 'test' and len(roles) > 1
        content = read_instances(file, not may_lack, test_mode=role != 'train')
        if not content['annotations'] and may_lack:
            notes.append(f'{file} is left out: it has no annotations')
            continue
        check_images(file, content['images'])
        check_categories(file, content, [entry['name'] for entry in content['categories']])
        if content['annotations']:  # what it warns of, the loaders' checks say again
            check_annotations(file, content['images'], content['annotations'])
        names = [image['file_name'] for image in content['images']]
        parts[role] = content, find_pictures(layout.root, names, file, role), file
    return parts, notes


def _read_voc(
    layout: Layout, roles: Sequence[str], classes: Sequence[str] | None
) -> tuple[dict[str, Part], list[str]]:
    names = {role: layout.splits[role].stem for role in roles}
    with tempfile.TemporaryDirectory() as temp:
        result = voc_to_coco(layout.root, temp, list(names.values()), classes)
        parts = {
            role: (
                json.loads(result['splits'][name]['file'].read_bytes()),
                layout.root / 'JPEGImages',
                None,
            )
            for role, name in names.items()
        }
    return parts, result['warnings']


def _read_yolo(
    layout: Layout, roles: Sequence[str], classes: Sequence[str] | None
) -> tuple[dict[str, Part], list[str]]:
    if classes:
        _check_known(layout.sign, layout.yolo.names, classes)
    read, warnings = read_yolo(layout.yolo, roles, classes)
    return {role: (content, folder, None) for role, (content, folder) in read.items()}, warnings


def _find_dummy(contents: Sequence[dict]) -> str | None:
    """Return the category that is the others' supercategory and that no object has."""
    categories = contents[0]['categories']
    groups = [category.get('supercategory') for category in categories]
    named = [c for c in categories if c['name'] in groups and c.get('supercategory') == 'none']
    if len(named) != 1 or len(categories) < 2:
        return None
    used = {a['category_id'] for content in contents for a in content['annotations']}
    return None if named[0]['id'] in used else named[0]['name']


def _hold_out(layout: Layout, content: dict) -> tuple[dict, dict]:
    """Part the content of an instances file in two."""
    annotated = {a['image_id'] for a in content['annotations']}
    images = content['images']
    groups = ([i for i in images if i['id'] in annotated], [])
    groups[1].extend(i for i in images if i['id'] not in annotated)
    if len(groups[0]) < 2:
        raise InputError(
            f'{layout.root}: {len(groups[0])} picture with boxes is too few to keep one apart to '
            'validate on: add pictures, or a validation split'
        )
    chosen = set()
    for number, group in enumerate(groups):
        if number == 0 or len(group) * SHARE >= 1:
            held = choose_held_out([str(image['file_name']) for image in group])
            chosen |= {group[i]['id'] for i in held}
    return tuple(
        content
        | {
            'images': [image for image in images if (image['id'] in chosen) == held],
            'annotations': [a for a in content['annotations'] if (a['image_id'] in chosen) == held],
        }
        for held in (False, True)
    )


# ---------------------------------------------------------------------------------------------
# CSV and class folders


def _prepare_labels(
    layout: Layout, roles: Sequence[str], out: Path, classes: Sequence[str] | None
) -> OwnData:
    """Several labels a picture, out of CSV files or class folders."""
    splits, notes, read = {}, [], {}
    who = 'the training data' if classes is None else 'the checkpoint'
    for role in roles:
        source = layout.splits[role]
        if layout.kind == 'csv':
            folder = find_pictures(layout.root, _first_column(source), source, role)
            names, labels, found = read_csv(source, folder, classes)
        else:
            folder = source
            _check_folders(folder, classes, who)
            names, labels, found = read_folders(folder, classes)
        classes = classes or found
        read[role] = names, labels, folder
    if needs_held_out(roles):
        names, labels, folder = read['train']
        good = (labels == 1).any(1).nonzero()[0]
        if len(good) < 2:
            raise InputError(
                f'{layout.root}: {len(good)} picture with a label is too few to keep one apart'
            )
        held = good[sorted(choose_held_out([names[i] for i in good]))]
        notes.append(describe_held_out(len(held), len(names)))
        others = np.setdiff1d(np.arange(len(names)), held)
        for role, rows in (('train', others), ('val', held)):
            part = [names[i] for i in rows]
            file = out / f'{NAMES[role]}.csv'
            write_whole(file, _as_csv(part, labels[rows], classes))
            splits[role] = _count_labels(file, folder, labels[rows], True)
    for role in roles:
        if role not in splits:
            _, labels, folder = read[role]
            file = layout.splits[role] if layout.kind == 'csv' else None
            splits[role] = _count_labels(file, folder, labels, False)
    return OwnData(layout, tuple(classes), splits, notes)


def _count_labels(file: Path | None, folder: Path, labels: np.ndarray, written: bool) -> ReadySplit:
    known = labels == 1
    return ReadySplit(
        file, folder, len(labels), int(known.sum()), int((~known.any(1)).sum()), written
    )


def _first_column(file: Path) -> list[str]:
    """Return the pictures that a CSV names; what is wrong with its rows, its reader says later."""
    names = [row[0].strip() for _, row in read_rows(file)[1:]]
    if not names:
        raise InputError(f'{file}: no picture after the header: write one on each row')
    return names


def _as_csv(names: Sequence[str], labels: np.ndarray, classes: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['file', *classes])
    writer.writerows([name, *map(int, row)] for name, row in zip(names, labels, strict=True))
    return text.getvalue()


def _check_folders(folder: Path, classes: Sequence[str] | None, who: str) -> None:
    """Hold that a folder has class folders of known classes only."""
    if classes is not None:
        _check_known(folder, inner_folders(folder), classes, who)


def _prepare_folders(
    layout: Layout, roles: Sequence[str], out: Path, classes: Sequence[str] | None
) -> OwnData:
    """One label a picture, out of class folders."""
    splits, notes = {}, []
    who = 'the training data' if classes is None else 'the checkpoint'
    for role in roles:
        folder = layout.splits[role]
        _check_folders(folder, classes, who)
        names, labels, classes = find_class_pictures(folder, classes)
        if len(classes) < 2:
            raise InputError(
                f'{folder}: one class folder, {classes[0]!r}, leaves nothing to tell: add another'
            )
        splits[role] = ReadySplit(None, folder, len(names), len(names), 0)
        if role == 'train' and needs_held_out(roles):
            train, val = _hold_out_of_folders(folder, names, labels, classes)
            notes.append(describe_held_out(len(val), len(names)))
            for part, rows in (('train', train), ('val', val)):
                file = out / f'{NAMES[part]}.txt'
                write_whole(file, _as_list(folder, names, labels, rows, classes))
                splits[part] = ReadySplit(file, folder, len(rows), len(rows), 0, True)
    return OwnData(layout, tuple(classes), splits, notes)


def _hold_out_of_folders(
    folder: Path, names: Sequence[str], labels: Sequence[int], classes: Sequence[str]
) -> tuple[list[int], list[int]]:
    val = set()
    for number, name in enumerate(classes):
        rows = [i for i, label in enumerate(labels) if label == number]
        if len(rows) < 2:
            raise InputError(
                f'{folder / name}: its one picture cannot be both for training and validation: add '
                'pictures, or a val/ folder'
            )
        val |= {rows[i] for i in choose_held_out([names[row] for row in rows])}
    return [i for i in range(len(names)) if i not in val], sorted(val)


def _as_list(
    folder: Path,
    names: Sequence[str],
    labels: Sequence[int],
    rows: Sequence[int],
    classes: Sequence[str],
) -> str:
    """Write ``NAME LABEL`` lines: numbers, or names where a number would be taken for one."""
    by_name = any(name.isdecimal() for name in classes)
    if by_name and any(len(name.split()) > 1 for name in classes):
        raise InputError(
            f'{folder}: class folders with numbers for names and others with spaces cannot be '
            'parted: rename them, or make a val/ folder'
        )
    said = [classes[label] if by_name else str(label) for label in labels]
    return ''.join(f'{names[i]} {said[i]}\n' for i in rows)
