"""Metrics of matched detections: average precision, curves, thresholds, confusion, errors.

All are of COCO's own matches (:mod:`.matching`), so that none disagrees with another.
"""

from typing import Any, NamedTuple

import numpy as np

from .detections import Objects, overlaps
from .matching import NONE, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
THRESHOLDS = np.linspace(0.0, 1.0, 101)  # of a score
BACKGROUND_IOU = 0.1  # below it a detection has nothing to do with an object, after TIDE
ERRORS = ('classification', 'localization', 'both', 'duplicate', 'background', 'missed')


class Points(NamedTuple):
    """Detections that count, by descending score: what average precision is made of."""

    label: np.ndarray
    score: np.ndarray
    right: np.ndarray


def points(found: Objects, matches: Matches, t: int = 0, area: int = 0) -> Points:
    """Return the detections that count at the threshold of overlap number ``t``."""
    kept = matches.order[matches.counts[area, t, matches.order]]
    return Points(found.label[kept], found.score[kept], matches.right[area, t, kept])


def count_objects(truth: Objects, classes: int) -> np.ndarray:
    """Return the objects of each class; crowds do not count."""
    return np.bincount(truth.label[~truth.crowd], minlength=classes)


def average_precisions(of: Points, objects: np.ndarray) -> np.ndarray:
    """Return each class's area under precision over recall, ``(classes,)``; see below."""
    return precision_at_recalls(of, objects).mean(1)


def precision_at_recalls(of: Points, objects: np.ndarray) -> np.ndarray:
    """Return the best precision of each class at each of COCO's 101 recalls, or a higher one.

    Args:
        of: The detections.
        objects: ``(classes,)``.

    Returns:
        ``(classes, 101)`` in [0, 1]; NaN for a class without objects.
    """
    values = np.full((len(objects), len(RECALLS)), np.nan)
    order = np.argsort(of.label, kind='stable')
    right = of.right[order]
    bounds = np.searchsorted(of.label[order], np.arange(len(objects) + 1))
    for label in np.flatnonzero(objects):
        hits = np.cumsum(right[bounds[label] : bounds[label + 1]])
        precision = hits / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]  # the best at this recall or more
        place = np.searchsorted(hits / objects[label], RECALLS, side='left')
        values[label] = np.r_[precision, 0.0][np.minimum(place, len(hits))]
    return values


class Curve(NamedTuple):
    """Counts and rates of the detections whose score is at least a threshold.

    Precision is 1 where nothing is detected; recall NaN and F1 0 where there is no object.
    """

    threshold: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        found = self.right + self.wrong
        return np.where(found > 0, self.right / np.maximum(found, 1), 1.0)

    @property
    def recall(self) -> np.ndarray:
        objects = self.right + self.missed
        return np.where(objects > 0, self.right / np.maximum(objects, 1), np.nan)

    @property
    def f1(self) -> np.ndarray:
        return 2 * self.right / np.maximum(2 * self.right + self.wrong + self.missed, 1)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return a row of a table for each threshold, with the name of the class."""
        keys = 'score', 'right', 'wrong', 'missed', 'precision', 'recall', 'F1'
        columns = *self, self.precision, self.recall, self.f1
        rows = zip(*(values.tolist() for values in columns), strict=True)
        return [{'class': name, **dict(zip(keys, row, strict=True))} for row in rows]


def curve(of: Points, objects: int, thresholds: np.ndarray = THRESHOLDS) -> Curve:
    """Return the counts at each threshold.

    Args:
        of: The detections of one class, or of all.
        objects: How many there are to find.
        thresholds: Of the score.
    """
    place = np.searchsorted(-of.score, -np.asarray(thresholds), side='right')
    hits = np.r_[0, np.cumsum(of.right)][place]
    return Curve(np.asarray(thresholds), hits, place - hits, objects - hits)


def of_class(of: Points, label: int) -> Points:
    """Return the detections of one class."""
    return Points(*(array[of.label == label] for array in of))


def choose_threshold(
    of: Points, objects: int, precision: float | None = None, recall: float | None = None
) -> float | None:
    """Return the score from which on detections are taken: that of the best F1.

    Args:
        of: The detections of one class, or of all.
        objects: How many there are to find.
        precision: Wanted at least: then the highest recall with it.
        recall: Wanted at least: then the highest precision with it.

    Returns:
        One of the scores, of equally good ones the highest; None where none does.
    """
    all_of = curve(of, objects, np.unique(of.score)[::-1])
    value = all_of.f1
    if precision is not None:
        value = np.where(all_of.precision >= precision, all_of.recall, np.nan)
    elif recall is not None:
        value = np.where(all_of.recall >= recall, all_of.precision, np.nan)
    if not objects or not (value > 0).any():
        return None
    return float(all_of.threshold[np.nanargmax(value)])


def confusion_matrix(
    truth: Objects, found: Objects, matches: Matches, classes: int, thresholds: np.ndarray
) -> np.ndarray:
    """Return how often an object of a class (row) was taken for one of another (column).

    Right detections are COCO's. What they leave is matched once more across classes, by the same
    rule, and what is left then is background: ``[-1, n]`` for detections of nothing, ``[n, -1]``
    for objects that were missed. Rows sum to the objects, columns to the detections that count.

    Args:
        truth: Ground truth.
        found: Detections.
        matches: Of these; the first threshold of overlap counts.
        classes: How many.
        thresholds: ``(classes,)``, the least score of each.

    Returns:
        ``(classes + 1, classes + 1)``, the last row and column of the background.
    """
    matrix = np.zeros((classes + 1, classes + 1), int)
    kept = matches.counts[0, 0] & (found.score >= thresholds[found.label])
    right = kept & matches.right[0, 0]
    free = ~truth.crowd
    free[matches.taken[0, right]] = False
    np.add.at(matrix, (found.label[right], found.label[right]), 1)
    wrong = np.flatnonzero(kept & ~right)
    for number in np.unique(found.image[wrong]):
        dets = wrong[found.image[wrong] == number]  # by descending score
        objects = np.flatnonzero(free[truth.of_image(number)]) + truth.bounds[number]
        ious = overlaps(found, dets, truth, objects)
        near = (ious >= matches.iou_thrs[0]).any(1)
        np.add.at(matrix, (classes, found.label[dets[~near]]), 1)
        ious = ious[near]
        for det, row in zip(dets[near], ious, strict=True):
            best = int(row.argmax())
            if row[best] >= matches.iou_thrs[0]:
                matrix[truth.label[objects[best]], found.label[det]] += 1
                free[objects[best]] = False
                ious[:, best] = 0
            else:
                matrix[classes, found.label[det]] += 1
    np.add.at(matrix, (truth.label[free], classes), 1)
    return matrix


class Errors(NamedTuple):
    """What is wrong, after TIDE (Bolya et al., ECCV 2020).

    Attributes:
        kind: ``(D,)``, the number in `ERRORS` of each wrong detection; `NONE` of others.
        target: ``(D,)``, the object that a localization or classification error is near; `NONE`
            of others.
        cost: Of each of `ERRORS`, the AP50 that a model without it would gain, in [0, 1].
    """

    kind: np.ndarray
    target: np.ndarray
    cost: dict[str, float]

    def counts(self, truth: Objects, matches: Matches, shown: np.ndarray) -> dict[str, int]:
        """Return how often each occurs among the detections that are shown, ``(D,)``."""
        kinds = np.bincount(self.kind[shown & (self.kind >= 0)], minlength=len(ERRORS))
        missed = find_missed(truth, matches, np.where(shown, self.target, NONE), shown)
        return {**dict(zip(ERRORS, kinds.tolist(), strict=True)), 'missed': int(missed.sum())}


def find_missed(
    truth: Objects, matches: Matches, target: np.ndarray, shown: np.ndarray
) -> np.ndarray:
    """Return ``(G,)``, whether no detection that is shown finds an object, nor nearly.

    Args:
        truth: Ground truth.
        matches: Of the detections.
        target: ``(D,)``, as of :class:`Errors`.
        shown: ``(D,)``, the detections that count.
    """
    missed = ~truth.crowd
    for objects in (matches.taken[0, shown], target):
        missed[objects[objects != NONE]] = False
    return missed


def find_errors(truth: Objects, found: Objects, matches: Matches, classes: int) -> Errors:
    """Name the error of each wrong detection and what each kind of error costs.

    The overlap with an object that a wrong detection has decides, in this order: from
    `BACKGROUND_IOU` to the threshold with its class, *localization*; above with another class,
    *classification*; above with its class, found already, *duplicate*; below `BACKGROUND_IOU` with
    all, *background*; else *both*, of the first two. An object that is not found, and that no
    localization or classification error is near, is *missed*.

    Repaired, a localization or classification error is right where it is the highest score on an
    object that is not found, and gone elsewhere; other detections are gone, missed objects do not
    count. A class that loses all its objects so is in no mean, as in tidecv; where no class is
    left, the AP is 1. The costs do not add up: repaired alone, each leaves the others.
    """
    iou_thr, overlap = matches.iou_thrs[0], matches.overlap
    wrong = matches.counts[0, 0] & ~matches.right[0, 0]
    same, used, other = overlap.T
    tests = (
        ('localization', (same >= BACKGROUND_IOU) & (same <= iou_thr)),
        ('classification', other >= iou_thr),
        ('duplicate', used >= iou_thr),
        ('background', overlap.max(1, initial=0) <= BACKGROUND_IOU),
        ('both', np.ones(len(found), bool)),
    )
    codes = [ERRORS.index(name) for name, _ in tests]
    kind = np.where(wrong, np.select([test for _, test in tests], codes, NONE), NONE)

    target = np.full(len(found), NONE)
    for name, column in (('localization', 0), ('classification', 2)):
        chosen = kind == ERRORS.index(name)
        target[chosen] = matches.near[chosen, column]
    free = ~truth.crowd
    free[matches.taken[0, matches.taken[0] != NONE]] = False
    near = np.flatnonzero(target != NONE)
    near = near[free[target[near]]]
    first = near[np.unique(target[near], return_index=True)[1]]  # the highest score comes first
    repaired = np.zeros(len(found), bool)
    repaired[first] = True
    missed = find_missed(truth, matches, target, np.ones(len(found), bool))

    objects = count_objects(truth, classes)
    before = _mean(average_precisions(points(found, matches), objects))
    cost = {}
    for code, name in enumerate(ERRORS):
        is_it, left = kind == code, objects
        if name == 'missed':
            left = objects - np.bincount(truth.label[missed], minlength=classes)
        of = _repair(truth, found, matches, is_it, repaired & is_it, target)
        cost[name] = _mean(average_precisions(of, left)) - before
    return Errors(kind, target, cost)


def _mean(precisions: np.ndarray) -> float:
    """Return the mean over the classes with objects, 1 without any: nothing is wrong."""
    return 1.0 if np.isnan(precisions).all() else float(np.nanmean(precisions))


def _repair(
    truth: Objects,
    found: Objects,
    matches: Matches,
    is_it: np.ndarray,
    repaired: np.ndarray,
    target: np.ndarray,
) -> Points:
    """Return the detections with some made right, and of their object's class, and others gone."""
    stays = matches.counts[0, 0] & (~is_it | repaired)
    kept = matches.order[stays[matches.order]]
    label = found.label.copy()
    label[repaired] = truth.label[target[repaired]]
    right = matches.right[0, 0] | repaired
    return Points(label[kept], found.score[kept], right[kept])


class Calibration(NamedTuple):
    """Whether a score is the share of right detections at it.

    Attributes:
        edges: ``(bins + 1,)``, of the scores.
        found: ``(bins,)``, detections.
        score: ``(bins,)``, their mean score; NaN where there is none.
        right: ``(bins,)``, the share of right ones; NaN where there is none.
        error: Expected calibration error: the mean of the difference over all detections.
    """

    edges: np.ndarray
    found: np.ndarray
    score: np.ndarray
    right: np.ndarray
    error: float

    def rows(self) -> list[dict[str, Any]]:
        """Return a row of a table for each bin."""
        keys = 'from', 'to', 'predictions', 'mean score', 'right'
        columns = self.edges[:-1], self.edges[1:], self.found, self.score, self.right
        rows = zip(*(values.tolist() for values in columns), strict=True)
        return [dict(zip(keys, row, strict=True)) for row in rows]


def calibration(score: np.ndarray, right: np.ndarray, bins: int = 10) -> Calibration:
    """Compare scores with how often they are right, in bins of equal width.

    Args:
        score: ``(N,)`` in [0, 1].
        right: ``(N,)``.
        bins: How many; each has its lower edge, the last both.
    """
    place = np.minimum((score * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid='ignore'):
        means = np.bincount(place, score, bins) / count, np.bincount(place, right, bins) / count
    error = np.nansum(count * abs(means[0] - means[1])) / max(len(score), 1)
    return Calibration(np.linspace(0, 1, bins + 1), count, *means, float(error))
