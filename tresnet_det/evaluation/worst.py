"""The worst images of a detector, drawn with ground truth and predictions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .detections import Images, Objects
from .draw import draw_sides, save_sheet
from .matching import IOU, NONE, Matches
from .pages import draw_each
from .report import format_threshold
from .verdicts import PREDICTIONS, TRUTH, Verdict
from .verdicts import Objects as Drawn

_SIDES = {TRUTH, PREDICTIONS}


def draw_worst(
    images: Images,
    truth: Objects,
    found: Objects,
    matches: Matches,
    threshold: float,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    out_path: Path,
) -> tuple[list[tuple[np.ndarray, str]], list[str]]:
    """Draw images next to each other, and all of them as a sheet.

    Args:
        images: What was looked at.
        truth: Ground truth.
        found: Detections.
        matches: Of these.
        threshold: The least score of what is drawn.
        rows: Of the images, with ``id``, ``right``, ``wrong`` and ``missed``.
        folder: Of the images.
        out_path: The sheet to write.

    Returns:
        Each image, ``(H, W, 3)`` of uint8, and what stands beneath it; and why others are not
        drawn.
    """
    number = {id_: n for n, id_ in enumerate(images.ids)}
    counts = Counter[Verdict]()

    def draw(row: Mapping[str, Any]) -> tuple[np.ndarray, str]:
        n = number[row['id']]
        objects = np.arange(len(truth))[truth.of_image(n)]
        dets = np.arange(len(found))[found.of_image(n)]
        dets = dets[(found.score[dets] >= threshold) & matches.counted[dets]]
        hit = {int(object_) for object_ in matches.taken[0, dets] if object_ != NONE}
        of_truth = [
            Verdict.UNKNOWN if truth.crowd[g] else Verdict.RIGHT if g in hit else Verdict.MISSED
            for g in objects.tolist()
        ]
        of_found = [
            Verdict.UNKNOWN
            if matches.ignored[0, d]
            else Verdict.RIGHT
            if matches.right[0, 0, d]
            else Verdict.WRONG
            for d in dets.tolist()
        ]
        judged = [
            (TRUTH, _take(truth, objects, [None] * len(objects)), of_truth),
            (PREDICTIONS, _take(found, dets, found.score[dets].tolist()), of_found),
        ]
        tile = draw_sides(folder / images.names[n], judged, images.classes)
        counts.update(of_truth)
        counts.update(verdict for verdict in of_found if verdict is Verdict.WRONG)
        words = ', '.join(f'{row[key]} {key}' for key in ('right', 'wrong', 'missed'))
        return tile, f'{images.names[n]}: {words}'

    tiles, failures = draw_each(rows, draw)
    note = f', IoU {IOU:g} or more'
    if threshold <= 1:
        note = f', score {format_threshold(threshold)} or more{note}'
    if tiles:
        save_sheet([tile for tile, _ in tiles], out_path, _SIDES, note, counts)
    return tiles, failures


def _take(objects: Objects, rows: np.ndarray, scores: Sequence[float | None]) -> Drawn:
    boxes = objects.boxes[rows].copy()
    boxes[:, 2:] += boxes[:, :2]
    masks = () if objects.masks is None else objects.shapes(rows)
    return Drawn(boxes, objects.label[rows], scores, masks)
