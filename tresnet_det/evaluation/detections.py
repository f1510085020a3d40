"""Objects of a COCO file and of a results file as flat arrays in the order of COCO's evaluation."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from ..errors import InputError, few, shown
from ..files import write_whole
from ..readers.coco import LIMIT, read_coco
from ..readers.files import read_json
from ..readers.findings import Findings, without
from ..readers.masks import find_mask_fault
from ..readers.split import Source
from .labels import check_score

SHARE = 0.05  # of the boxes of good results, fewer leave their images
STRANGE = 0.5  # of the boxes: where more leave their images, they are of others
SLACK = 2.0  # pixels by which rounding lets a box leave its image


@dataclass(frozen=True)
class Images:
    """What is measured: images and categories, each by ascending id.

    Attributes:
        ids: Of the images.
        names: ``file_name`` of each.
        sizes: ``(images, 2)``, width and height; NaN where the file has none.
        category_ids: Of the categories.
        classes: Name of each category.
        all_categories: Ids of the file's categories, also of those that are not measured.
    """

    ids: tuple[Any, ...]
    names: tuple[str, ...]
    sizes: np.ndarray
    category_ids: tuple[Any, ...]
    classes: tuple[str, ...]
    all_categories: tuple[Any, ...]


@dataclass(frozen=True)
class Objects:
    """Objects image by image: ground truth as in the file, detections by descending score.

    Attributes:
        image: ``(N,)``, the number of the image.
        label: ``(N,)``, the number of the category.
        boxes: ``(N, 4)``: left, top, width and height in pixels.
        score: ``(N,)`` in [0, 1]; of ground truth 1.
        crowd: ``(N,)``, whether COCO ignores it; of detections False.
        area: ``(N,)`` in square pixels, by which COCO tells sizes apart.
        row: ``(N,)``, its place in the file.
        bounds: ``(images + 1,)``: image n has those from ``bounds[n]`` up to ``bounds[n + 1]``.
        masks: A run-length code of each, where masks are compared and not boxes; else None.
    """

    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    score: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    row: np.ndarray
    bounds: np.ndarray
    masks: Sequence[dict] | None = None

    def __len__(self) -> int:
        return len(self.image)

    def of_image(self, number: int) -> slice:
        """Return where the objects of an image are."""
        return slice(self.bounds[number], self.bounds[number + 1])

    def shapes(self, part: slice | np.ndarray) -> Any:
        """Return what pycocotools compares of some objects: their boxes, or their masks."""
        if self.masks is None:
            return self.boxes[part]
        return [self.masks[n] for n in np.arange(len(self))[part]]


def overlaps(
    found: Objects, dets: slice | np.ndarray, truth: Objects, objects: slice | np.ndarray
) -> np.ndarray:
    """Return COCO's IoU of some detections and objects, ``(detections, objects)``."""
    crowd = truth.crowd[objects].astype(np.uint8)
    ious = coco.iou(found.shapes(dets), truth.shapes(objects), crowd)
    return np.reshape(ious, (len(found.score[dets]), len(crowd)))  # [] where one has none


def read_truth(
    path: str | Path, classes: Sequence[str] | None = None, masks: bool = False
) -> tuple[Images, Objects]:
    """Read a COCO instances file.

    Args:
        path: The file.
        classes: Those to measure; None for all of the file.
        masks: Whether masks are compared.

    Raises:
        InputError: It is none, has a fault that check_data.py calls an error, or lacks a class.
    """
    path = Path(path)
    source = Source('ground truth', 'coco', path, path.parent, training=False, detection=True)
    read_coco(source, Findings(strict=True))  # all that is used below is there, and sound
    content = read_json(path)
    entries = sorted(content['images'], key=_by_id)
    names = [category['name'] for category in content['categories']]
    unknown = without(classes or (), names)
    if unknown:
        raise InputError(f'{path}: has no class {few(unknown)}; it has {few(names, 20)}')
    categories = sorted(
        (c for c in content['categories'] if c['name'] in (classes or names)), key=_by_id
    )
    sizes = [[entry.get(side) or math.nan for side in ('width', 'height')] for entry in entries]
    images = Images(
        tuple(entry['id'] for entry in entries),
        tuple(entry['file_name'] for entry in entries),
        np.array(sizes, float).reshape(-1, 2),
        tuple(category['id'] for category in categories),
        tuple(category['name'] for category in categories),
        tuple(sorted(category['id'] for category in content['categories'])),
    )
    known = set(images.category_ids)
    chosen = [(n, r) for n, r in enumerate(content['annotations']) if r['category_id'] in known]
    places, rows = [n for n, _ in chosen], [row for _, row in chosen]
    crowd = np.array([bool(row.get('iscrowd')) for row in rows], bool)
    area = np.array([row['area'] for row in rows], float)
    image = np.array(_look_up(rows, 'image_id', images.ids), int)
    where = [f'{path}: annotations[{n}]' for n in places] if masks else []
    codes = _codes(where, rows, image, images) if masks else None
    return images, _sort(rows, image, places, images, np.ones(len(rows)), crowd, area, codes)


def read_results(path: str | Path, images: Images, rows: Any = None) -> Objects:
    """Read a COCO results file of boxes or masks.

    Args:
        path: The file.
        images: What was looked at.
        rows: What is in the file, where it was read before.

    Raises:
        InputError: It does not belong to the ground truth; the line names the likely mistake.
    """
    path = Path(path)
    rows = read_json(path) if rows is None else rows
    if not isinstance(rows, list):
        hint = ': it is an annotation file' * (isinstance(rows, dict) and 'annotations' in rows)
        raise InputError(
            f'{path}: no results file{hint}; expected is a list of image_id, category_id, bbox '
            '(left, top, width, height in pixels) or segmentation, and score'
        )
    key = 'segmentation' if has_masks(rows) else 'bbox'
    _check_rows(path, rows, key)
    image = _known(path, rows, 'image_id', images.ids, 'results of another dataset?')
    hint = 'labels from 0 in place of category ids?'
    _known(path, rows, 'category_id', images.all_categories, hint)
    codes, places = None, list(range(len(rows)))
    if key == 'bbox':
        _check_boxes(path, _boxes(rows), images.sizes[image])
    if images.category_ids != images.all_categories:
        known = set(images.category_ids)
        places = [n for n, row in enumerate(rows) if row['category_id'] in known]
        rows, image = [rows[n] for n in places], image[places]
    if key == 'segmentation':
        codes = _codes([f'{path}: row {n}' for n in places], rows, image, images)
    score = np.array([row['score'] for row in rows], float)
    return _sort(rows, image, places, images, score, np.zeros(len(rows), bool), None, codes)


def write_images(path: Path, images: Images) -> None:
    """Write which images and classes the numbers in a results file are, as ``predict.py`` does."""
    entries = [dict(id=id_, file_name=n) for id_, n in zip(images.ids, images.names, strict=True)]
    pairs = zip(images.category_ids, images.classes, strict=True)
    categories = [dict(id=id_, name=name) for id_, name in pairs]
    content = dict(images=entries, categories=categories, annotations=[])
    write_whole(path, (json.dumps(content) + '\n').encode())


def has_masks(rows: Any) -> bool:
    """Whether the rows of a results file are masks, by the first; MMDetection's have boxes, too."""
    first = rows[0] if isinstance(rows, list) and rows else None
    return isinstance(first, dict) and 'segmentation' in first


def _check_rows(path: Path, rows: Sequence[Any], key: str) -> None:
    """Refuse the first row that is none; half a million good ones are looked at as arrays."""
    try:
        shapes = np.array([row[key] for row in rows]) if key == 'bbox' else np.zeros((len(rows), 4))
        scores = np.array([row['score'] for row in rows])
        ids = {type(row[key]) for row in rows for key in ('image_id', 'category_id')}
        good = key == 'bbox' or all(isinstance(row[key], dict | list) for row in rows)
    except (KeyError, TypeError, ValueError):
        good = False
    else:
        numbers = not rows or all(array.dtype.kind in 'iuf' for array in (shapes, scores))
        good = good and numbers and ids <= {int, float, str}
        good = good and (not rows or shapes.shape == (len(rows), 4)) and scores.ndim == 1
        good = good and bool((abs(shapes) < LIMIT).all() and ((scores >= 0) & (scores <= 1)).all())
    if not good:
        for n, row in enumerate(rows):
            _check_row(f'{path}: row {n}', row, key)


def _check_row(where: str, row: Any, key: str) -> None:
    if not isinstance(row, dict):
        raise InputError(f'{where} must be a dict, got {shown(row)}')
    lacking = [name for name in ('image_id', 'category_id', key, 'score') if name not in row]
    if lacking:
        raise InputError(f'{where} has no {" and no ".join(lacking)}')
    for name in ('image_id', 'category_id'):
        if type(row[name]) not in (int, float, str):
            raise InputError(f'{where}: {name} {shown(row[name])} is no id')
    shape = row[key]
    if key == 'bbox' and not (
        isinstance(shape, list) and len(shape) == 4 and all(map(_is_number, shape))
    ):
        raise InputError(f'{where}: bbox {shown(shape)} is not four finite numbers')
    if key != 'bbox' and not isinstance(shape, dict | list):
        raise InputError(f'{where}: segmentation {shown(shape)} is no mask')
    check_score(where, row['score'])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LIMIT


def _known(
    path: Path, rows: Sequence[Mapping[str, Any]], key: str, ids: Sequence[Any], hint: str
) -> np.ndarray:
    """Return the number of each row's id; refuse ids that the ground truth has not."""
    numbers = _look_up(rows, key, ids)
    unknown = {row[key] for row, number in zip(rows, numbers, strict=True) if number is None}
    if unknown:
        if {str(value) for value in unknown} <= {str(value) for value in ids}:
            hint = 'text in one file, and numbers in the other?'
        raise InputError(
            f'{path}: {numbers.count(None)} of {len(rows)} rows have a {key} that the ground truth '
            f'has not ({few(map(str, unknown), 3)}): {hint}'
        )
    return np.array(numbers, int)


def _check_boxes(path: Path, boxes: np.ndarray, sizes: np.ndarray) -> None:
    """Refuse relative boxes, and corners in place of sizes."""
    if not len(boxes):
        return
    if boxes.max() <= 1.5:  # pixels
        raise InputError(
            f'{path}: no number of a bbox is above 1.5: are they relative? Give left, top, width '
            'and height in pixels'
        )
    if (boxes[:, 2:] < 0).any():
        row = int((boxes[:, 2:] < 0).any(1).argmax())
        raise InputError(f'{path}: row {row}: bbox {boxes[row].tolist()} has a negative size')
    out = (boxes[:, :2] + boxes[:, 2:] > sizes + SLACK).any(1)  # unknown sizes are NaN: never
    as_corners = (boxes[:, 2:] >= boxes[:, :2]).all() and (boxes[:, 2:] <= sizes + SLACK).all()
    if out.mean() > SHARE and as_corners:
        raise InputError(
            f'{path}: {out.sum()} of {len(boxes)} boxes leave their images, and none would as two '
            'corners: give width and height in place of right and bottom'
        )
    if out.mean() > STRANGE:
        raise InputError(
            f'{path}: {out.sum()} of {len(boxes)} boxes leave their images: are they of resized '
            'images, or of another dataset?'
        )


def _codes(
    where: Sequence[str], rows: Sequence[Mapping], image: np.ndarray, images: Images
) -> list[dict]:
    """Return the mask of each row as a run-length code of its image's size."""
    codes = []
    for place, row, number in zip(where, rows, image.tolist(), strict=True):
        shape = row.get('segmentation')
        if np.isnan(images.sizes[number]).any():
            name = images.names[number]
            raise InputError(f'{place}: a mask needs the size of its image {name!r}, not known')
        width, height = map(int, images.sizes[number])
        fault = find_mask_fault(shape, width, height)
        if fault or not shape:
            fault = fault or 'is missing'
            raise InputError(f'{place}: the mask of an object {fault}')
        if isinstance(shape, list):
            shape = coco.merge(coco.frPyObjects(shape, height, width))
        elif isinstance(shape['counts'], list):
            shape = coco.frPyObjects(shape, height, width)
        codes.append(shape)
    return codes


def _by_id(entry: Mapping[str, Any]) -> tuple[bool, Any]:
    return isinstance(entry['id'], str), entry['id']


def _look_up(rows: Sequence[Mapping[str, Any]], key: str, ids: Sequence[Any]) -> list[int | None]:
    numbers = {value: number for number, value in enumerate(ids)}
    return [numbers.get(row[key]) for row in rows]


def _boxes(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return np.array([row['bbox'] for row in rows], float).reshape(-1, 4)


def _sort(
    rows: Sequence[Mapping[str, Any]],
    image: np.ndarray,
    places: Sequence[int],
    images: Images,
    score: np.ndarray,
    crowd: np.ndarray,
    area: np.ndarray | None,
    codes: list[dict] | None,
) -> Objects:
    """Return the rows image by image, by descending score; areas that are None are the shapes'."""
    label = np.array(_look_up(rows, 'category_id', images.category_ids), int)
    order = np.lexsort((-score, image))
    boxes = _boxes(rows) if codes is None else np.reshape(coco.toBbox(codes), (-1, 4))
    if area is None:
        area = boxes[:, 2] * boxes[:, 3]
        if codes is not None:  # one by one: given more than 255, pycocotools overflows
            area = np.array([coco.area(code) for code in codes], float)
    bounds = np.searchsorted(image[order], np.arange(len(images.ids) + 1))
    return Objects(
        image[order],
        label[order],
        boxes[order],
        score[order],
        crowd[order],
        area[order],
        np.array(places, int)[order],
        bounds,
        None if codes is None else [codes[n] for n in order],
    )
