"""Which detection is which object: COCO's rule, and what is near those that are none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .detections import Images, Objects, overlaps

MAX_DETS = 100  # of a class in an image
IOU = 0.5  # overlap from which a detection is right, of all that is explained
IOU_THRS = tuple(np.linspace(0.5, 0.95, 10).tolist())  # COCO's, over which mAP is the mean
NONE = -1  # in place of an object's number
# Bounds of the area of what is measured, in square pixels, both included.
AREAS = {'all': (0, 1e10), 'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, 1e10)}


@dataclass(frozen=True)
class Matches:
    """COCO's matches of detections and ground truth.

    Of an image and class, the highest score takes first: the free object of the highest overlap,
    of equal ones the last, and a crowd, or an object of an area that is not measured, where there
    is none. What a threshold of the score leaves keeps its matches, since those below came later.

    Attributes:
        iou_thrs: ``T`` thresholds of the overlap, the first of them `IOU`.
        order: ``(D,)``, the detections by descending score; of equal ones by image and file.
        rank: ``(D,)``, the place of a detection among those of its class and image, from 0.
        counted: ``(D,)``, whether that is among the first ``max_dets``.
        taken: ``(T, D)``, the object of each detection, or `NONE`, without limits of area.
        ignored: ``(T, D)``, whether that is a crowd: the detection is neither right nor wrong.
        right: ``(A, T, D)``, whether a detection is right, for each of `AREAS`.
        counts: ``(A, T, D)``, whether it is right or wrong there.
        near: ``(D, 3)``, the objects of the highest overlap: of the detection's class, of its
            class and found by another one, of another class; crowds are none.
        overlap: ``(D, 3)``, with these; 0 without.
    """

    iou_thrs: tuple[float, ...]
    order: np.ndarray
    rank: np.ndarray
    counted: np.ndarray
    taken: np.ndarray
    ignored: np.ndarray
    right: np.ndarray
    counts: np.ndarray
    near: np.ndarray
    overlap: np.ndarray


def match(
    images: Images,
    truth: Objects,
    found: Objects,
    iou_thrs: Sequence[float] = (IOU,),
    max_dets: int = MAX_DETS,
) -> Matches:
    """Match all images; `Matches.near` and `Matches.overlap` are by the first of the thresholds."""
    areas, thrs, total = len(AREAS), len(iou_thrs), len(found)
    rank = _rank(found)
    counted = rank < max_dets
    taken = np.full((areas * thrs, total), NONE, np.int32)
    ignored = np.repeat(_outside(found.area), thrs, 0)  # for those that take no object
    near, overlap = np.full((total, 3), NONE), np.zeros((total, 3))
    enough = np.tile(np.minimum(iou_thrs, 1 - 1e-10), areas)[:, None]  # as COCO's
    outside = np.repeat(_outside(truth.area) | truth.crowd, thrs, 0)
    for number in range(len(images.ids)):
        of_truth, of_found = truth.of_image(number), found.of_image(number)
        first, crowd = of_truth.start, truth.crowd[of_truth]
        if of_truth.stop == first or of_found.stop == of_found.start:
            continue
        ious = overlaps(found, of_found, truth, of_truth)
        same = found.label[of_found, None] == truth.label[of_truth]
        usable = np.where(counted[of_found, None] & same, ious, -1.0)
        numbers = match_image(usable, crowd, outside[:, of_truth], enough)
        hit = numbers != NONE
        taken[:, of_found][hit] = first + numbers[hit]
        rows = np.arange(len(enough))[:, None]
        ignored[:, of_found][hit] = outside[rows, first + numbers][hit]
        used = np.isin(np.arange(len(crowd)), numbers[0])
        for column, which in enumerate((same, same & used, ~same)):
            ious_of = np.where(which & ~crowd, ious, 0.0)
            best = ious_of.argmax(1)
            overlap[of_found, column] = ious_of[np.arange(len(best)), best]
            near[of_found, column] = np.where(overlap[of_found, column] > 0, first + best, NONE)
    counts = (counted & ~ignored).reshape(areas, thrs, total)
    right = (taken != NONE).reshape(areas, thrs, total) & counts
    order = np.argsort(-found.score, kind='stable')
    found_at = tuple(iou_thrs), order, rank, counted, taken[:thrs], ignored[:thrs]
    return Matches(*found_at, right, counts, near, overlap)


def _outside(area: np.ndarray) -> np.ndarray:
    low, high = np.array(list(AREAS.values())).T[..., None]
    return (area < low) | (area > high)


def _rank(found: Objects) -> np.ndarray:
    """Return the place of each detection among those of its image and class, from 0."""
    order = np.lexsort((np.arange(len(found)), found.label, found.image))
    keys = np.stack((found.image, found.label))[:, order]
    new = np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(0)][: len(order)]
    starts = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order)) - starts
    return rank


def match_image(
    ious: np.ndarray, crowd: np.ndarray, ignored: np.ndarray, enough: np.ndarray
) -> np.ndarray:
    """Match the detections and objects of an image by ``R`` rules at once.

    Args:
        ious: ``(detections, objects)``, the overlap where the classes agree, below 0 elsewhere;
            detections by descending score.
        crowd: ``(objects,)``, which any number of detections can take.
        ignored: ``(R, objects)``, which are taken only where no other one can be; crowds are.
        enough: ``(R, 1)``, the least overlap.

    Returns:
        ``(R, detections)``, the object of each, or `NONE`.
    """
    taken = np.full((len(enough), len(ious)), NONE, np.int32)
    free = np.ones(ignored.shape, bool)
    last, rows = len(crowd) - 1, np.arange(len(enough))
    for n in np.flatnonzero((ious >= enough.min()).any(1)):
        usable = (ious[n] >= enough) & free
        # What is not ignored comes first, whatever its overlap.
        worth = np.where(usable, ious[n] + 2.0 * ~ignored, -1.0)
        best = last - worth[:, ::-1].argmax(1)
        hit = usable[rows, best]
        taken[hit, n] = best[hit]
        free[rows[hit], best[hit]] = crowd[best[hit]]
    return taken
