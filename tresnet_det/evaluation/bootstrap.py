"""How sure a metric is: its interval when images are drawn again, and that of a difference.

Of ``N`` images, ``N`` are drawn with replacement, and the metric is computed of these, many times
over; 1.96 standard deviations of it at either side are the interval (Efron and Tibshirani, 1993,
chapter 12). What is drawn is the image, with all its objects and detections: those of an image are
not independent of each other. Not by percentiles: a draw has fewer different images, whose average
precision is higher, since COCO's takes the best precision at a recall or more.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .detections import Objects
from .matching import Matches
from .measures import RECALLS

DRAWS, FEWEST_DRAWS = 200, 100
WORK = 50_000_000  # detections, times draws: beyond it there are fewer draws
DEVIATIONS, CONFIDENCE = 1.96, 0.95

Measure = Callable[[np.ndarray], float]  # from how often each image was drawn


class Interval(NamedTuple):
    """A metric, and the bounds between which it is with a `CONFIDENCE` of 95 %.

    Attributes:
        value: Of all images, each once; NaN where nothing can be measured.
        low: The lower bound; NaN where there are too few images.
        high: The upper bound.
    """

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        """Return it for a JSON file."""
        return {**self._asdict(), 'confidence': CONFIDENCE}


def as_entries(intervals: Sequence[Interval]) -> dict[str, dict[str, Any]]:
    """Return what :func:`find_intervals` found by name, for a JSON file."""
    keys = ('interval',) if len(intervals) == 1 else ('compared with', 'interval', 'difference')
    return {key: found.as_dict() for key, found in zip(keys, intervals, strict=True)}


def find_intervals(
    measures: Sequence[Measure], images: int, size: int, seed: int = 0
) -> list[Interval]:
    """Return the interval of each metric, and of two also that of the second less the first.

    Args:
        measures: One or two in [0, 1], which get the same draws.
        images: How many there are; of one, nothing can be drawn and the bounds are NaN.
        size: How many detections there are, by which the number of draws is chosen.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    draws = int(np.clip(WORK // max(size, 1), FEWEST_DRAWS, DRAWS))
    values = np.empty((draws, len(measures)))
    for draw in values:
        weights = np.bincount(rng.integers(images, size=images), minlength=images)
        draw[:] = [measure(weights) for measure in measures]
    once = np.array([measure(np.ones(images, int)) for measure in measures])
    if len(measures) == 2:
        values = np.c_[values, values[:, 1] - values[:, 0]]
        once = np.r_[once, once[1] - once[0]]
    drawn = values[~np.isnan(values).any(1)]
    margin = DEVIATIONS * drawn.std(0, ddof=1) if images > 1 and len(drawn) > 1 else once * np.nan
    least = [0, 0, -1][: len(once)]  # of metrics, and of a difference
    bounds = once, np.maximum(once - margin, least), np.minimum(once + margin, 1)
    return [Interval(*map(float, row)) for row in zip(*bounds, strict=True)]


def mean_precision(
    truth: Objects, found: Objects, matches: Matches, classes: int, used: Sequence[int]
) -> Measure:
    """Return what computes mAP of drawn images.

    Args:
        truth: Ground truth.
        found: Detections.
        matches: Of these.
        classes: How many.
        used: The thresholds of overlap, by number, over which mAP is the mean.
    """
    order = matches.order[np.argsort(found.label[matches.order], kind='stable')]
    real = np.flatnonzero(~truth.crowd)
    owner, of_class = truth.image[real], truth.label[real]
    rows = []  # of each threshold: images of those that count, classes and places of the right ones
    for t in used:
        kept = order[matches.counts[0, t, order]]
        hits = np.flatnonzero(matches.right[0, t, kept])
        starts = np.searchsorted(found.label[kept], np.arange(classes))
        labels = found.label[kept[hits]]
        image = found.image[kept].astype(np.int32)
        rows.append((image, hits, image[hits], labels, starts))

    def measure(weights: np.ndarray) -> float:
        objects = np.bincount(of_class, weights[owner], classes).astype(int)
        there = objects > 0
        if not there.any():
            return np.nan
        weights = weights.astype(np.int32)
        values = [_average(weights, objects, *row)[there].mean() for row in rows]
        return float(np.mean(values))

    return measure


def _average(
    weights: np.ndarray,
    objects: np.ndarray,
    image: np.ndarray,
    hits: np.ndarray,
    hit_image: np.ndarray,
    labels: np.ndarray,
    starts: np.ndarray,
) -> np.ndarray:
    """Return each class's average precision, of all classes at once: a class stands after another.

    Precision changes only where a detection is right, so the others are counted and no more. What
    is added by class keeps the classes apart where one array is searched for all.
    """
    if not len(hits):
        return np.zeros(len(objects))
    taken = np.r_[0, np.cumsum(weights[image], dtype=np.int32)]
    right = np.r_[0, np.cumsum(weights[hit_image])]
    ends = np.searchsorted(labels, np.arange(len(objects) + 1))
    right = right[1:] - right[ends[labels]]
    taken = taken[hits + 1] - taken[starts[labels]]
    precision = right / np.maximum(taken, 1) - 2.0 * labels
    best = np.maximum.accumulate(precision[::-1])[::-1] + 2.0 * labels
    # The fewest right ones that make a recall, by the division that COCO compares.
    count = np.maximum(objects, 1)[:, None]
    needed = np.ceil(RECALLS * count)
    needed -= (needed - 1) / count >= RECALLS
    needed += needed / count < RECALLS
    base = np.r_[0, np.cumsum(objects + 1)]
    place = np.searchsorted(right + base[labels], needed + base[:-1, None], side='left')
    place = np.maximum(place, ends[:-1, None])
    there = place < ends[1:, None]
    return np.where(there, best[np.minimum(place, len(best) - 1)], 0.0).mean(1)
