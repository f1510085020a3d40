"""What a training reads of a split that was read: COCO's JSON, or labels as CSV or as a list."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .split import ORIGINS, Split


def objects_of(split: Split, chosen: np.ndarray) -> np.ndarray:
    """Return the numbers of the objects in some images, by the images' numbers."""
    return np.flatnonzero(np.isin(split.rows, chosen) & (split.labels >= 0))


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
    kept = objects_of(split, chosen).tolist()
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
        'info': {'description': f'Converted from {ORIGINS.get(kind, "COCO")}, split {name}'},
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
        writer = csv.writer(text, lineterminator='\n')
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
