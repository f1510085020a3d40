"""Metrics of classification as pure functions on arrays, without PyTorch.

Those of several labels are of the multi-label literature (ML-GCN, arXiv 1904.03582; ASL, arXiv
2009.14119). Throughout, scores are ``(N, classes)``, higher for more likely; labels are
``(N, classes)`` with 1 for present, 0 for absent and -1 for unknown, which counts neither for nor
against anything.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import InputError


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the average precision of each class, ``(classes,)``, in [0, 1].

    By scikit-learn's ``average_precision_score``: the sum over the distinct scores, from the
    highest, of the precision down to it times the gain in recall; equal scores count as one step.
    Unlike there, images whose label is unknown are excluded from a class, a class without a
    positive label is NaN instead of 0, and an infinite score is a score.

    Raises:
        InputError: A score is NaN.
    """
    from sklearn.metrics import average_precision_score  # takes a while to import

    check_not_nan(scores)
    scores = np.nan_to_num(scores.astype(np.float64))
    found = np.full(scores.shape[1], np.nan)
    for column in np.flatnonzero((labels == 1).any(0)):
        known = labels[:, column] >= 0
        found[column] = average_precision_score(labels[known, column] == 1, scores[known, column])
    return found


def best_f1_thresholds(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the threshold of each class that gives the best F1 on these very images.

    A label is predicted where its score is above the threshold, which is halfway between two
    scores, or just below the lowest, in float32 too; of equally good ones, the highest. By hand:
    scikit-learn's ``precision_recall_curve`` gives no counts, and an F1 of its rounded precision
    and recall would break ties by chance.

    Returns:
        The thresholds, and the F1 there, ``(classes,)`` each; NaN for a class that is known to be
        there in no image.

    Raises:
        InputError: A score is NaN.
    """
    check_not_nan(scores)
    thresholds, f1 = np.full((2, scores.shape[1]), np.nan)
    for column, (values, hits, taken) in _curves(scores, labels):
        candidates = 2 * hits / (taken + hits[-1])
        at = int(candidates.argmax())
        f1[column] = candidates[at]
        if at + 1 < len(values):
            thresholds[column] = (values[at] + values[at + 1]) / 2
        else:  # all are taken: below the lowest score, also where both are rounded to float32
            thresholds[column] = np.nextafter(np.float32(values[at]), np.float32(-np.inf))
    return thresholds, f1


def _curves(scores: np.ndarray, labels: np.ndarray) -> Iterator[tuple]:
    """Yield, for each class that is there in an image, its number and its curve.

    A curve has, for each distinct score from the highest: the score, how many of the images
    taken down to it have the label, and how many are taken.
    """
    for column in np.flatnonzero((labels == 1).any(0)):
        known = labels[:, column] >= 0
        values = scores[known, column].astype(np.float64)
        order = np.argsort(-values)
        values, there = values[order], labels[known, column][order] == 1
        last = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # of equal scores
        yield column, (values[last], np.cumsum(there)[last], last + 1)


def top_labels(scores: np.ndarray, k: int = 3) -> np.ndarray:
    """Return a mask of the ``k`` highest scores of each image, ``(N, classes)`` of bool.

    All classes where there are no more than ``k``; of equal scores, the lower class number.
    """
    best = np.argsort(-scores, axis=1, kind='stable')[:, :k]
    mask = np.zeros(scores.shape, bool)
    np.put_along_axis(mask, best, True, axis=1)
    return mask


class PrecisionRecall(NamedTuple):
    """Precision, recall and F1 of predicted labels, in [0, 1].

    Attributes:
        precision: Of each class, ``(classes,)``: 0 where it was never predicted.
        recall: Of each class, ``(classes,)``: NaN where it is known to be there in no image.
        metrics: ``CP``, ``CR``, ``CF1``, the means over the classes and the F1 of both means, and
            ``OP``, ``OR``, ``OF1``, of all labels together.
    """

    precision: np.ndarray
    recall: np.ndarray
    metrics: dict[str, float]


def precision_recall(predicted: np.ndarray, labels: np.ndarray) -> PrecisionRecall:
    """Compare predicted labels with the ground truth.

    scikit-learn's ``precision_score`` and ``recall_score`` agree where every label is known and
    there are two classes or more; they take no unknown labels, and one class for a binary task.

    CP and CR are means over the classes that are known to be there in an image, those of the mAP:
    a recall of others is not defined, and a precision of 0 would say nothing on the model. What is
    predicted of the others counts in OP, and so in OF1. ``CF1 = 2 CP CR / (CP + CR)``, not the mean
    of F1s. Without anything predicted, or anything there, a metric is 0.

    Args:
        predicted: ``(N, classes)`` of bool.
        labels: ``(N, classes)``.
    """
    hits = (predicted & (labels == 1)).sum(0)
    taken = (predicted & (labels >= 0)).sum(0)
    there = (labels == 1).sum(0)
    precision = hits / np.maximum(taken, 1)
    recall = np.where(there > 0, hits / np.maximum(there, 1), np.nan)
    measured = np.flatnonzero(there)
    count = max(len(measured), 1)
    pairs = {
        'C': (precision[measured].sum() / count, recall[measured].sum() / count),
        'O': (hits.sum() / max(taken.sum(), 1), hits.sum() / max(there.sum(), 1)),
    }
    metrics: dict[str, float] = {}
    for kind, (p, r) in pairs.items():
        f1 = 2 * p * r / (p + r) if p + r > 0 else 0.0
        metrics |= {f'{kind}P': float(p), f'{kind}R': float(r), f'{kind}F1': float(f1)}
    return PrecisionRecall(precision, recall, metrics)


def find_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many classes come before the right one, ``(N,)``.

    Args:
        scores: ``(N, classes)``.
        labels: Class numbers, ``(N,)``.
    """
    own = np.take_along_axis(scores, labels[:, None], 1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(1)


def check_not_nan(scores: np.ndarray, data_samples: Sequence[dict] | None = None) -> None:
    """Check that no score is NaN, which would be sorted somewhere without a word.

    Args:
        scores: ``(N, classes)``.
        data_samples: Those of the images, whose ``img_path`` the message names.

    Raises:
        InputError: One is.
    """
    row, column = np.nonzero(np.isnan(scores))
    if len(row):
        raise InputError(
            f'{image_name(data_samples, row[0])}: its score of class {column[0]} is NaN (NaN in '
            f'{len(set(row.tolist()))} of {len(scores)} images): the weights or the image are '
            'corrupt'
        )


def image_name(data_samples: Sequence[dict] | None, index: int) -> str:
    """Return the file of an image, or its number where that is not known."""
    path = data_samples[index].get('img_path') if data_samples else None
    return path or f'image {index}'
