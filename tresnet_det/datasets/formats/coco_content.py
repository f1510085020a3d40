"""Checks of what a COCO instances file says, each a function that names the first fault in a line.

`tresnet_det.datasets.checks` calls them in order; the file is read once.
"""

import json
import numbers
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, MissingFileError, few, shown

ID_TYPES = (numbers.Real, str)
LIMIT = 1e18  # of numbers: what is beyond it is a fault, and NaN is not below it
SLACK = 1.0  # pixels: COCO's own boxes pass the border by rounding


def read_instances(ann_file: Path, needs_annotations: bool = True, test_mode: bool = True) -> dict:
    """Read an instances file whose entries have the keys that MMDetection and pycocotools need.

    Args:
        ann_file: Instances JSON.
        needs_annotations: False accepts a file without annotations, such as test-dev's.
        test_mode: False accepts training data: without ``iscrowd``, and with an empty list of
            annotations.

    Returns:
        The content; a list of annotations that is not needed and not there is empty.

    Raises:
        MissingFileError: It is not there.
        InputError: It is no valid JSON, no instances file, or an entry lacks a key.
    """
    content = read_json(ann_file)
    if not needs_annotations and isinstance(content, dict):
        content.setdefault('annotations', [])
    for key in ('images', 'annotations', 'categories'):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise InputError(
                f'{ann_file}: no COCO instances file, it has no list {key!r} of entries; wanted is '
                'one like instances_train2017.json (captions and image_info files are others)'
            )
        if not entries and (key != 'annotations' or (needs_annotations and test_mode)):
            raise InputError(f'{ann_file}: the list {key!r} is empty, nothing to learn or measure')
    _check_keys(ann_file, content['categories'], 'categories', ('id', 'name'))
    _check_keys(ann_file, content['images'], 'images', ('id', 'file_name', 'width', 'height'))
    keys: tuple[str, ...] = ('id', 'image_id', 'category_id', 'bbox', 'area')
    if needs_annotations and test_mode:  # only COCO's evaluation cannot do without it
        keys += ('iscrowd',)
    _check_keys(ann_file, content['annotations'], 'annotations', keys)
    return content


def read_json(ann_file: Path) -> Any:
    """Read a JSON file as pycocotools will.

    Raises:
        MissingFileError: It is not there.
        InputError: It cannot be read, or is none.
    """
    try:
        # Not as bytes, whose encoding json would guess: pycocotools takes UTF-8 and nothing else.
        return json.loads(ann_file.read_bytes().decode())
    except json.JSONDecodeError as error:
        if error.doc.startswith('\ufeff'):
            raise InputError(
                f'{ann_file}: begins with a byte order mark, which pycocotools does not take: '
                'save it as UTF-8 without'
            ) from None
        raise InputError(
            f'{ann_file}: no valid JSON at line {error.lineno} column {error.colno} (character '
            f'{error.pos} of {len(error.doc)}): {error.msg}; cut short? copy or download it again'
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f'{ann_file}: no text at byte {error.start}, so no JSON: save it as UTF-8'
        ) from None
    except (RecursionError, ValueError):  # a thousand brackets, an integer of 5000 digits
        raise InputError(
            f'{ann_file}: nested too deep, or with a number too long, for an instances file: '
            'export it anew'
        ) from None
    except FileNotFoundError:
        raise MissingFileError(f'annotation file {ann_file} is not there') from None
    except OSError as error:
        raise InputError(f'{ann_file}: cannot be read ({error.strerror or error})') from error


def _check_keys(ann_file: Path, entries: list[dict], what: str, keys: tuple[str, ...]) -> None:
    wanted = set(keys)
    for index, entry in enumerate(entries):
        if not wanted <= entry.keys():
            missing = [key for key in keys if key not in entry]
            count = sum(not wanted <= entry.keys() for entry in entries)
            raise InputError(
                f'{ann_file}: {count} of {len(entries)} {what} lack a key, the first is '
                f'{what}[{index}] (id {shown(entry.get("id"))}) without {few(missing)}; '
                'MMDetection and pycocotools need it'
            )


def check_categories(ann_file: str | Path, content: dict, classes: list[str]) -> list[str]:
    """Hold the file's categories against the class names.

    MMDetection numbers the labels by the *file's* order of those categories that are in
    ``classes``; where that order is another one, labels and names part without a word.

    Args:
        ann_file: Named in messages.
        content: Of `read_instances`.
        classes: Names in the order of the labels.

    Returns:
        Warnings: classes without a category at the end of the order, categories that are no class.

    Raises:
        InputError: No class is found, an order differs, a name or id is there twice, or an
            annotation is of no category.
    """
    check_category_names(ann_file, content['categories'])
    names = [category['name'] for category in content['categories']]
    found = [name for name in names if name in set(classes)]
    if not found:
        raise InputError(
            f'{ann_file}: none of the classes is in it; the config has {few(classes)}, the file '
            f'has {few(names)}: set metainfo.classes (or --data-root for other data)'
        )
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise InputError(f'{ann_file}: has the categories {few(twice)} more than once')
    missing = [name for name in classes if name not in set(names)]
    if found != classes[: len(found)]:
        at = next(i for i, (a, b) in enumerate(zip(found, classes, strict=False)) if a != b)
        raise InputError(
            f'{ann_file}: label {at} is {found[at]!r} by its order of categories (MMDetection '
            f'follows that) and {classes[at]!r} by metainfo.classes'
            + (f' (the file lacks {few(missing)})' if missing else '')
            + ': give both the same names in the same order'
        )
    warnings = []
    if missing:
        warnings.append(
            f'{ann_file}: has no category for {len(missing)} of {len(classes)} classes '
            f'({few(missing)}); they can be neither learnt nor measured on it'
        )
    unused = {c['id']: c['name'] for c in content['categories'] if c['name'] not in set(classes)}
    if unused:
        count = sum(a['category_id'] in unused for a in content['annotations'])
        warnings.append(
            f'{ann_file}: {count} annotations of {len(unused)} categories that are no classes of '
            f'the config ({few(unused.values())}) are left out'
        )
    known = {category['id'] for category in content['categories']}
    check_references(ann_file, content['annotations'], 'category_id', known)
    return warnings


def check_category_names(ann_file: str | Path, categories: list[dict]) -> None:
    """Hold that categories have texts for names, and ids that are unique.

    Raises:
        InputError: They have not.
    """
    odd = [c['name'] for c in categories if not is_text(c['name'])]
    if odd:
        raise InputError(f'{ann_file}: a category has the name {shown(odd[0])}; it must be text')
    _check_unique(ann_file, [category['id'] for category in categories], 'categories')


def is_text(value: object) -> bool:
    """Whether a value is text that can be written into another file."""
    return isinstance(value, str) and not any('\ud800' <= c <= '\udfff' for c in value)


def check_images(ann_file: Path, images: list[dict]) -> None:
    """Hold that image ids are unique, names text and sides positive.

    Raises:
        InputError: They are not.
    """
    _check_unique(ann_file, [image['id'] for image in images], 'images')
    for image in images:
        if not isinstance(image['file_name'], str) or '\0' in image['file_name']:
            raise InputError(
                f'{ann_file}: image id {shown(image["id"])} has the file_name '
                f'{shown(image["file_name"])}; it must be text'
            )
        sides = (image['width'], image['height'])
        if not all(isinstance(side, (int, float)) and 0 < side < LIMIT for side in sides):
            raise InputError(
                f'{ann_file}: image id {shown(image["id"])} has width {shown(sides[0])} and height '
                f'{shown(sides[1])}; both must be numbers above 0'
            )


def check_annotations(ann_file: Path, images: list[dict], annotations: list[dict]) -> list[str]:
    """Hold the annotations against the images and look for boxes that training would drop.

    Args:
        ann_file: Named in messages.
        images: The file's, checked already.
        annotations: At least one.

    Raises:
        InputError: An annotation id is there twice, an image is not, a box is no box, or a crowd
            neither 0 nor 1.
    """
    ids = [annotation['id'] for annotation in annotations]
    _check_unique(ann_file, ids, 'annotations')
    row = {image['id']: index for index, image in enumerate(images)}
    check_references(ann_file, annotations, 'image_id', row.keys())
    at = np.fromiter((row[a['image_id']] for a in annotations), np.int64, len(annotations))
    sizes = np.array([(image['width'], image['height']) for image in images], np.float64)[at]
    crowds = [a for a in annotations if a.get('iscrowd', 0) not in (0, 1)]
    if crowds:
        raise InputError(
            f'{ann_file}: annotation id {shown(crowds[0]["id"])} has the iscrowd '
            f'{shown(crowds[0]["iscrowd"])}; it must be 0 or 1'
        )
    warnings = _check_boxes(ann_file, annotations, sizes)
    if 0 in ids:
        warnings.append(
            f'{ann_file}: an annotation has the id 0, which pycocotools takes for "not found" in '
            'evaluation: number annotations from 1'
        )
    empty = len(images) - len(np.unique(at))
    if empty:
        warnings.append(
            f'{ann_file}: {empty} of {len(images)} images have no annotation (training leaves '
            'them out where filter_empty_gt is set; evaluation counts what is found on them)'
        )
    return warnings


def _check_unique(ann_file: str | Path, ids: list, what: str) -> None:
    odd = [key for key in ids if not isinstance(key, ID_TYPES)]
    if odd:
        raise InputError(f'{ann_file}: {what} have an id that is no number: {shown(odd[0])}')
    if len(set(ids)) == len(ids):
        return
    twice = [key for key, count in Counter(ids).items() if count > 1]
    raise InputError(
        f'{ann_file}: {len(twice)} ids of {what} occur more than once, the first is '
        f'{shown(twice[0])}; number them anew (files merged by hand?)'
    )


def check_references(
    ann_file: str | Path, annotations: list[dict], key: str, known: Container
) -> None:
    """Hold that each annotation refers to something that is there.

    Args:
        ann_file: Named in messages.
        annotations: With an ``id`` each.
        key: ``'image_id'`` or ``'category_id'``.
        known: The ids that are there.

    Raises:
        InputError: One does not.
    """
    # the type is asked first: a list in place of an id cannot be looked up
    lost = [a for a in annotations if not isinstance(a[key], ID_TYPES) or a[key] not in known]
    if lost:
        article = 'an' if key == 'image_id' else 'a'
        raise InputError(
            f'{ann_file}: {len(lost)} of {len(annotations)} annotations refer to {article} {key} '
            f'that is not there, the first is annotation id {shown(lost[0]["id"])} with {key} '
            f'{shown(lost[0][key])}: add what it refers to, or drop them'
        )


def _check_boxes(ann_file: Path, annotations: list[dict], sizes: np.ndarray) -> list[str]:
    """Look for boxes that MMDetection drops or clips.

    Args:
        ann_file: Named in messages.
        annotations: ``N`` entries.
        sizes: Width and height of each annotation's image in pixels, ``(N, 2)``.
    """
    boxes = _number_array(ann_file, annotations, 'bbox', 4)
    area = _number_array(ann_file, annotations, 'area', 1)[:, 0]
    start, extent = boxes[:, :2], boxes[:, 2:]
    inside = np.minimum(start + extent, sizes) - np.maximum(start, 0)
    flat = (extent < 1).any(1) | (area <= 0)
    outside = ~flat & (inside <= 0).any(1)
    partly = ~flat & ~outside & (inside < extent - SLACK).any(1)
    warnings = []
    for bad, what in (
        (flat, 'have no area or a side below one pixel: they are left out'),
        (outside, 'lie outside their image: they are left out'),
        (partly, 'lie partly outside their image: they are clipped'),
    ):
        if bad.any():
            first = annotations[int(bad.argmax())]
            warnings.append(
                f'{ann_file}: {int(bad.sum())} of {len(annotations)} boxes {what}; the first is '
                f'annotation id {shown(first["id"])} on image id {shown(first["image_id"])}'
            )
    return warnings


def _number_array(ann_file: Path, annotations: list[dict], key: str, count: int) -> np.ndarray:
    """Return the values under ``key`` as finite float ``(N, count)``, or name the first odd one."""
    values = [a[key] if count > 1 else [a[key]] for a in annotations]
    try:
        array = np.array(values)  # of no given type, which would convert text without a word
        if array.shape == (len(values), count) and array.dtype.kind in 'iuf':
            array = array.astype(np.float64)
            if (np.abs(array) < LIMIT).all():
                return array
    except (ValueError, TypeError, OverflowError):
        pass
    first = next(a for a, v in zip(annotations, values, strict=True) if not are_numbers(v, count))
    wanted = 'four numbers [x, y, width, height]' if key == 'bbox' else 'a number'
    raise InputError(
        f'{ann_file}: annotation id {shown(first["id"])} has the {key} {shown(first[key])}; '
        f'it must be {wanted}'
    )


def are_numbers(values: object, count: int) -> bool:
    """Whether a value is a list of so many finite numbers, between minus and plus `LIMIT`."""
    if not isinstance(values, list) or len(values) != count:
        return False
    return all(type(v) in (int, float) and abs(v) < LIMIT for v in values)
