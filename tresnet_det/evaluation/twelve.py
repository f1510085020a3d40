"""COCO's twelve metrics, and those of each class, from matches or from pycocotools' arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .detections import Images, Objects
from .matching import AREAS, Matches
from .measures import average_precisions, count_objects, points
from .report import COUNTS, summarize

# Positions in `IOU_THRS`.
COCO_IOUS = {'0.50:0.95': slice(None), '0.50': slice(0, 1), '0.75': slice(5, 6)}
BY_CLASS = {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75', 'AR100': 'AR@100'}
BY_SIZE = {'AP_s': 'mAP_s', 'AP_m': 'mAP_m', 'AP_l': 'mAP_l'}


def find_rates(
    truth: Objects,
    found: Objects,
    matches: Matches,
    classes: int,
    counts: tuple[int, ...] = COUNTS,
) -> tuple[np.ndarray, np.ndarray]:
    """Return average precision and recall; NaN where there is no ground truth.

    Returns:
        ``(T, classes, areas)``, and ``(T, classes, areas, len(counts))``, in [0, 1].
    """
    shape = len(matches.iou_thrs), classes, len(AREAS)
    precision, recall = np.full(shape, np.nan), np.full((*shape, len(counts)), np.nan)
    for a, (low, high) in enumerate(AREAS.values()):
        inside = (truth.area >= low) & (truth.area <= high)
        objects = np.bincount(truth.label[inside & ~truth.crowd], minlength=classes)
        for t in range(len(matches.iou_thrs)):
            precision[t, :, a] = average_precisions(points(found, matches, t, a), objects)
            for m, count in enumerate(counts):
                hits = matches.right[a, t] & (matches.rank < count)
                share = np.bincount(found.label[hits], minlength=classes) / np.maximum(objects, 1)
                recall[t, :, a, m] = np.where(objects > 0, share, np.nan)
    return precision, recall


def summarize_classes(
    precision: np.ndarray,
    recall: np.ndarray,
    iou_thrs: Mapping[str, Any],
    images: Images,
    truth: Objects,
) -> list[dict[str, Any]]:
    """Return a row for each class: its metrics, None without ground truth, and its objects."""
    rows = []
    counts = count_objects(truth, len(images.classes))
    for k, name in enumerate(images.classes):
        part = slice(k, k + 1)
        found = summarize(precision[:, part], recall[:, part], iou_thrs)
        row: dict[str, Any] = {'name': name, 'iou_type': 'segm' if truth.masks else 'bbox'}
        for column, key in (BY_CLASS | BY_SIZE).items():
            row[column] = None if found[key] == -1 else found[key]
        rows.append({**row, 'num_gt': int(counts[k])})
    return rows
