"""Compare predictions with ground truth: is each object or class right, wrong or missed?"""

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco

from .matching import IOU, NONE, match_image

TRUTH, PREDICTIONS = 'ground truth', 'predictions'
TOP = 3  # classes of a single-label image that are judged


class Verdict(Enum):
    """What is right, wrong, missed or unknown, each with the sign that is drawn."""

    RIGHT = '\N{CHECK MARK}'
    WRONG = '\N{BALLOT X}'
    MISSED = '\N{WHITE CIRCLE}'
    UNKNOWN = '?'  # counts neither for nor against
    OTHER = ' '  # of single-label classification: a class below the top one
    PLAIN = ''  # without ground truth


class Objects(NamedTuple):
    """The objects of an image, by descending score; None for ground truth."""

    boxes: np.ndarray  # (N, 4), x1 y1 x2 y2
    labels: np.ndarray  # (N,)
    scores: Sequence[float | None]
    masks: Sequence[dict] = ()  # or N run-length codes of pycocotools


def judge_objects(sample: Any, score_thr: float) -> list[tuple[str, Objects, list[Verdict]]]:
    """Return what to draw side by side: what it is, the objects and a verdict on each."""
    truth = _read_objects(sample.get('gt_instances'))
    found = _read_objects(sample.get('pred_instances'), score_thr)
    if truth is None or found is None:
        sides = (TRUTH, truth), (PREDICTIONS, found)
        return [(what, side, [Verdict.PLAIN] * len(side.boxes)) for what, side in sides if side]
    right, taken = match_objects(found, truth)
    return [
        (TRUTH, truth, [Verdict.RIGHT if hit else Verdict.MISSED for hit in taken]),
        (PREDICTIONS, found, [Verdict.RIGHT if hit else Verdict.WRONG for hit in right]),
    ]


def _read_objects(instances: Any, score_thr: float = 0.0) -> Objects | None:
    """Read an ``InstanceData``, None where it has no boxes."""
    if instances is None or 'bboxes' not in instances:
        return None
    boxes = instances.bboxes.cpu().numpy().reshape(-1, 4)
    labels = instances.labels.cpu().numpy()
    if 'scores' not in instances:
        return Objects(boxes, labels, [None] * len(boxes))
    scores = instances.scores.cpu().numpy()
    order = np.argsort(-scores, kind='stable')
    order = order[scores[order] >= score_thr]
    return Objects(boxes[order], labels[order], scores[order].tolist())


def match_objects(found: Objects, truth: Objects, iou_thr: float = IOU) -> tuple[list, list]:
    """Match predictions with ground-truth objects of their class, as COCO's evaluation does.

    The best score takes an object first, and each object is taken once.

    Returns:
        Whether each prediction is right, and whether each object is found.
    """
    sides = [np.array(side.boxes, float).reshape(-1, 4) for side in (found, truth)]
    for boxes in sides:
        boxes[:, 2:] -= boxes[:, :2]
    count, plain = len(sides[1]), np.zeros(len(sides[1]), bool)
    overlap = np.reshape(coco.iou(*sides, plain.astype(np.uint8)), (len(sides[0]), count))
    overlap = np.where(np.asarray(found.labels)[:, None] == np.asarray(truth.labels), overlap, -1)
    if not overlap.size:
        return [False] * len(sides[0]), [False] * count
    (numbers,) = match_image(overlap, plain, plain[None], np.array([[iou_thr]]))
    return (numbers != NONE).tolist(), np.isin(np.arange(count), numbers).tolist()


def judge_classes(
    scores: np.ndarray, truth: np.ndarray | None, multi_label: bool, threshold: Any = 0.5
) -> list[tuple[Verdict, int]]:
    """Judge the predicted classes of an image, then the missed ones, each by descending score.

    Args:
        scores: ``(classes,)`` of float32; of equal ones, the lower class comes first.
        truth: The class; with ``multi_label``, ``(classes,)`` with 1 for present, 0 for absent,
            -1 for unknown. None without ground truth.
        multi_label: Whether classes above the threshold are predicted, not the top ones.
        threshold: Of all classes, or ``(classes,)``; in the precision of the scores: 0.3 in float32
            is above 0.3.
    """
    order = np.argsort(-scores, kind='stable')
    if not multi_label:
        first = Verdict.PLAIN if truth is None else Verdict.WRONG
        top = enumerate(order[:TOP].tolist())
        return [
            (Verdict.RIGHT if n == truth else Verdict.OTHER if rank else first, n)
            for rank, n in top
        ]
    above = (scores > np.asarray(threshold, np.float32))[order]
    predicted, others = order[above].tolist(), order[~above].tolist()
    if truth is None:
        return [(Verdict.PLAIN, n) for n in predicted]
    verdicts = {1: Verdict.RIGHT, 0: Verdict.WRONG, -1: Verdict.UNKNOWN}
    judged = [(verdicts[int(truth[n])], n) for n in predicted]
    return judged + [(Verdict.MISSED, n) for n in others if truth[n] == 1]
