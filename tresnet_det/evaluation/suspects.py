"""Labels that are probably wrong, by what a model predicts of its images.

Boxes: a prediction speaks against the data where what it says is not labelled, and the best
prediction that agrees with the label speaks for it. Each counts by its score over the usual one,
the median of right predictions of its class, and 1 at most, so that it does not matter how high a
detector's scores are; :data:`SURE` is the least difference that is shown.

Labels of images: scores become probabilities by one logistic curve, fitted to the labels as they
are, since those of a multi-label loss are none; :data:`SURE_LABEL` is the least probability of a
mistake that is shown. cleanlab finds no more of them (docs/evaluation.md), and so is not needed.

Ideas, but no code, are from ObjectLab (Tkachenko et al., 2023: overlooked, swapped and badly
located boxes) and confident learning (Northcutt et al., 2021: each class's own usual scores).
"""

from typing import NamedTuple

import numpy as np

from .detections import Objects, overlaps
from .labels import Labels
from .matching import IOU, Matches
from .measures import BACKGROUND_IOU

SURE = 0.5  # from 0 to 1, as sure as a usual right prediction without anything for the label
SURE_LABEL = 0.95  # probability that a label of an image is wrong
FEWEST = 10  # right predictions, from which on a class has a usual score of its own
MISSING, WRONG_CLASS, BADLY_PLACED = 'missing box', 'wrong class', 'badly placed'
MISSING_LABEL, WRONG_LABEL = 'missing label', 'wrong label'


class Suspect(NamedTuple):
    """A label that is probably wrong.

    Attributes:
        kind: What is probably wrong with it.
        suspicion: How much speaks against it, in (0, 1]; see the module.
        image: Number of the image.
        labelled: Number of the class that it has; None where something is missing.
        predicted: Number of the class that it probably has; None where a label should go.
        score: Of the prediction; of a label that should go, its own.
        object: Number of the ground truth's object; None where it is missing, or no box.
        found: Number of the detection; None where it is no box.
        iou: Of both.
    """

    kind: str
    suspicion: float
    image: int
    labelled: int | None
    predicted: int | None
    score: float
    object: int | None = None
    found: int | None = None
    iou: float | None = None


def find_boxes(truth: Objects, found: Objects, matches: Matches) -> list[Suspect]:
    """Find boxes that are probably missing, of another class or elsewhere, most suspicious first.

    A *missing box* is a wrong prediction that overlaps no object by `BACKGROUND_IOU`; of those that
    overlap each other by `IOU`, whatever their class, the highest score. A *wrong class* has a
    prediction of another class on it, by `IOU`, that is right nowhere; a *badly placed* box one of
    its own class that overlaps it by less than `IOU`, but not less than `BACKGROUND_IOU`.

    Args:
        truth: Ground truth; crowds are never suspected, nor are predictions in them.
        found: Detections of the same images.
        matches: Of both, with `IOU` as the first threshold.
    """
    sure = np.minimum(found.score / _usual_scores(found, matches), 1)
    (same, _, other), (own, _, rival) = matches.overlap.T, matches.near.T
    support = np.zeros(len(truth))
    np.maximum.at(support, own[same >= IOU], sure[same >= IOU])
    wrong = matches.counts[0, 0] & ~matches.right[0, 0] & (same < IOU)
    order = np.argsort(-sure, kind='stable')
    suspects = []

    def suspect(kind: str, d: int, margin: float, iou: float, g: int | None = None) -> None:
        label, score = None if g is None else int(truth.label[g]), float(found.score[d])
        of = int(found.image[d]), label, int(found.label[d])
        suspects.append(Suspect(kind, float(margin), *of, score, g, d, float(iou)))

    for kind, which, objects, overlap in (
        (WRONG_CLASS, wrong & (other >= IOU), rival, other),
        (BADLY_PLACED, wrong & (same >= BACKGROUND_IOU) & (other < IOU), own, same),
    ):
        dets = order[which[order]]
        dets = dets[np.unique(objects[dets], return_index=True)[1]]  # the most confident of each
        for d, g in zip(dets.tolist(), objects[dets].tolist(), strict=True):
            suspect(kind, d, sure[d] - support[g], overlap[d], g)
    highest = np.maximum(same, other)
    apart = wrong & (highest < BACKGROUND_IOU)
    for d in _best_of_each_place(found, order[apart[order]]):
        suspect(MISSING, d, sure[d], highest[d])
    return _sort(suspects)


def _sort(suspects: list[Suspect]) -> list[Suspect]:
    """Return what is suspected at all; of equal ones, a higher score comes first."""
    chosen = (s for s in suspects if s.suspicion > 0)
    return sorted(chosen, key=lambda s: (-s.suspicion, -s.score))


def _usual_scores(found: Objects, matches: Matches) -> np.ndarray:
    """Return for each detection the median score of right ones of its class, ``(D,)``.

    A class with fewer than `FEWEST` has that of all; without any right one it is 1.
    """
    right = matches.right[0, 0]
    usual = np.full(len(found), np.median(found.score[right]) if right.any() else 1.0)
    for label in np.unique(found.label[right]):
        scores = found.score[right & (found.label == label)]
        if len(scores) >= FEWEST:
            usual[found.label == label] = np.median(scores)
    return np.maximum(usual, np.finfo(float).tiny)


def _best_of_each_place(found: Objects, dets: np.ndarray) -> list[int]:
    """Return of detections, by descending score, those that overlap none before them by `IOU`."""
    kept = []
    dets = dets[np.argsort(found.image[dets], kind='stable')]
    for inside in np.split(dets, np.flatnonzero(np.diff(found.image[dets])) + 1):
        near = overlaps(found, inside, found, inside) >= IOU
        chosen: list[int] = []
        for n in range(len(inside)):
            if not near[n, chosen].any():
                chosen.append(n)
        kept += inside[chosen].tolist()
    return kept


def find_labels(labels: Labels) -> list[Suspect]:
    """Find labels of images that are probably wrong or missing, most suspicious first.

    Of single-label images, a *wrong class* is one that another class has a higher score than; its
    doubt is what its own score lacks to 1.
    """
    truth, scores, suspects = labels.truth, labels.scores, []
    if not labels.several:
        own, best = truth.argmax(1), scores.argmax(1)
        for n in np.flatnonzero(own != best).tolist():
            label, top = int(own[n]), int(best[n])
            doubt = 1 - float(scores[n, label])
            suspects.append(Suspect(WRONG_CLASS, doubt, n, label, top, float(scores[n, top])))
        return _sort(suspects)
    chance = _find_chances(scores, truth)
    doubts = np.where(truth == 1, 1 - chance, np.where(truth == 0, chance, 0))
    for n, c in np.argwhere(doubts > 0.5).tolist():
        labelled, predicted = (c, None) if truth[n, c] == 1 else (None, c)
        kind, score = MISSING_LABEL if labelled is None else WRONG_LABEL, float(scores[n, c])
        suspects.append(Suspect(kind, float(doubts[n, c]), n, labelled, predicted, score))
    return _sort(suspects)


def _find_chances(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return how probably each label is there, ``(N, classes)``, after Platt (1999)."""
    from sklearn.linear_model import LogisticRegression  # takes a while to import

    known = truth >= 0
    if len(np.unique(truth[known])) < 2:
        return np.full(scores.shape, 0.5)
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    logits = np.log(clipped / (1 - clipped))
    curve = LogisticRegression().fit(logits[known, None], truth[known])
    return curve.predict_proba(logits.reshape(-1, 1))[:, 1].reshape(scores.shape)
