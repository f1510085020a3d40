"""One's own data with boxes made ready: COCO's JSON, Pascal VOC, YOLO's label files."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import InputError
from .coco_content import check_annotations, check_categories, check_images, read_instances
from .held_out import NAMES, SHARE, choose_held_out, describe_held_out, needs_held_out, write_text
from .image_folders import find_images
from .layouts import Layout
from .ready import OwnData, ReadySplit, check_known
from .roles import ROLES
from .voc import voc_to_coco
from .yolo import read_yolo

Content = dict[str, Any]  # of a COCO instances file


class Part(NamedTuple):
    """A split as it was read.

    Attributes:
        content: COCO's.
        folder: Of the images.
        file: That has this very content; None where it is to be written.
    """

    content: Content
    folder: Path
    file: Path | None = None


Read = tuple[dict[str, Part], list[str]]  # by role, and what was passed over


def prepare_boxes(
    layout: Layout, roles: Sequence[str], out: Path, classes: Sequence[str] | None, task: str
) -> OwnData:
    """Make boxes ready, or for multi-label training the categories that each image has.

    Args:
        layout: COCO's, VOC's or YOLO's.
        roles: Those of its splits that are wanted, at least one.
        out: Gets the instances files that have to be written.
        classes: Names in the order of the labels; None for the data's own.
        task: ``'detection'`` or ``'multilabel'``.

    Raises:
        InputError: As of `prepare_splits`.
    """
    read: dict[str, Callable[[Layout, Sequence[str], Sequence[str] | None], Read]] = dict(
        coco=_read_coco, voc=_read_voc, yolo=_read_yolo
    )
    parts, notes = read[layout.kind](layout, roles, classes)
    first = next(iter(parts.values()))
    names = [category['name'] for category in first.content['categories']]
    if layout.kind == 'coco':
        dummy = _find_dummy([part.content for part in parts.values()])
        if dummy is not None:
            names.remove(dummy)
            notes.append(f'the category {dummy!r} groups the others and has no boxes: left out')
        if classes:
            check_known(first.file, names, classes)
    if needs_held_out(list(parts)):
        content, folder, _ = parts['train']
        train, val = _hold_out(layout, content)
        notes.append(describe_held_out(len(val['images']), len(content['images'])))
        parts |= {'train': Part(train, folder), 'val': Part(val, folder)}
        stems = NAMES
    else:
        stems = {}
    splits = {}
    for role in filter(parts.__contains__, ROLES):
        content, folder, source = parts[role]
        file = source or out / f'instances_{stems.get(role, role)}.json'
        if source is None:
            write_text(file, json.dumps(content, separators=(',', ':')))
        annotated = len({a['image_id'] for a in content['annotations']})
        count = len(content['images'])
        objects = len(content['annotations'])
        if task == 'multilabel':
            objects = len({(a['image_id'], a['category_id']) for a in content['annotations']})
        splits[role] = ReadySplit(file, folder, count, objects, count - annotated, source is None)
    has_masks = all(a.get('segmentation') for a in first.content['annotations'])
    unit = 'boxes' if task == 'detection' else 'labels'
    return OwnData(layout, tuple(classes or names), splits, notes, has_masks, unit)


def _read_coco(layout: Layout, roles: Sequence[str], classes: Sequence[str] | None) -> Read:
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
        parts[role] = Part(content, find_images(layout.root, names, file, role), file)
    return parts, notes


def _read_voc(layout: Layout, roles: Sequence[str], classes: Sequence[str] | None) -> Read:
    names = {role: layout.splits[role].stem for role in roles}
    with tempfile.TemporaryDirectory() as temp:
        result = voc_to_coco(layout.root, temp, list(names.values()), classes)
        parts = {
            role: Part(
                json.loads(result['splits'][name]['file'].read_bytes()), layout.root / 'JPEGImages'
            )
            for role, name in names.items()
        }
    return parts, result['warnings']


def _read_yolo(layout: Layout, roles: Sequence[str], classes: Sequence[str] | None) -> Read:
    assert layout.yolo is not None  # of this kind
    if classes:
        check_known(layout.sign, layout.yolo.names, classes)
    read, warnings = read_yolo(layout.yolo, roles, classes)
    return {role: Part(content, folder) for role, (content, folder) in read.items()}, warnings


def _find_dummy(contents: Sequence[Content]) -> str | None:
    """Return the category that is the others' supercategory and that no object has."""
    categories = contents[0]['categories']
    groups = [category.get('supercategory') for category in categories]
    named = [c for c in categories if c['name'] in groups and c.get('supercategory') == 'none']
    if len(named) != 1 or len(categories) < 2:
        return None
    used = {a['category_id'] for content in contents for a in content['annotations']}
    return None if named[0]['id'] in used else named[0]['name']


def _hold_out(layout: Layout, content: Content) -> tuple[Content, Content]:
    """Part the content of an instances file in what is trained on and what is kept apart."""
    annotated = {a['image_id'] for a in content['annotations']}
    images = content['images']
    filled = [image for image in images if image['id'] in annotated]
    empty = [image for image in images if image['id'] not in annotated]
    if len(filled) < 2:
        raise InputError(
            f'{layout.root}: {len(filled)} image with boxes is too few to keep one apart to '
            'validate on: add images, or a validation split'
        )
    chosen = set()
    for group in (filled, empty):
        if group is filled or len(group) * SHARE >= 1:
            held = choose_held_out([str(image['file_name']) for image in group])
            chosen |= {group[i]['id'] for i in held}

    def part(held: bool) -> Content:
        return content | {
            'images': [image for image in images if (image['id'] in chosen) == held],
            'annotations': [a for a in content['annotations'] if (a['image_id'] in chosen) == held],
        }

    return part(False), part(True)
