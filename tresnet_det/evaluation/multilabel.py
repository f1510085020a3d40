"""mAP, precision, recall and F1 of multi-label classification.

The metrics of the multi-label literature (ML-GCN, arXiv 1904.03582; ASL, arXiv 2009.14119), as
pure functions on arrays, and the metric for MMEngine's Runner. Throughout, scores are
``(N, classes)``, higher for more likely; labels are ``(N, classes)`` with 1 for present, 0
for absent and -1 for unknown, which counts neither for nor against anything.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..errors import InputError, few
from .accuracy import check_not_nan, image_name, stack_scores
from .report import format_table


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the average precision of each class, ``(classes,)``, in [0, 1].

    By scikit-learn's ``average_precision_score``: the sum over the distinct scores, from the
    highest, of the precision down to it times the gain in recall; equal scores count as one step.
    Other than there, images whose label is unknown are excluded from a class, a class without a
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


@METRICS.register_module()
class MultiLabelMetric(BaseMetric):
    """mAP, and precision, recall and F1 by class and overall, as fractions from 0 to 1.

    ``multilabel/mAP`` is the mean of :func:`average_precisions` over the classes that are known to
    be there in an image; the log lists the others. ``CP``, ``CR``, ``CF1``, ``OP``, ``OR`` and
    ``OF1`` are those of :func:`precision_recall` where the labels with a score above ``threshold``
    are predicted; with ``_top3`` (``multilabel/CF1_top3``), where the three labels with the highest
    scores are, in each image, whatever the scores. A table of the classes goes to the log.

    Args:
        threshold: A label is predicted above it.
        best_thresholds: Add to the table each class's own threshold with the best F1, and that F1.
            They are chosen on the images that they are measured on: optimistic as results, good
            as thresholds for later images.
        **kwargs: MMEngine's ``collect_device``, ``prefix`` and ``collect_dir``.

    Attributes:
        per_class: After an evaluation, on the main process, a dict for each class: ``name``,
            ``AP``, ``positives``, ``precision``, ``recall`` and, with ``best_thresholds``,
            ``best_threshold`` and ``best_F1``; None where it is not defined.
    """

    default_prefix = 'multilabel'

    def __init__(
        self, threshold: float = 0.5, best_thresholds: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold
        self.best_thresholds = best_thresholds
        self.per_class: list[dict[str, Any]] = []

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Keep the scores and labels of each image.

        Args:
            data_batch: Not looked at.
            data_samples: Dicts with ``gt_label`` and ``pred_score``, ``(classes,)`` each, and
                ``img_path``.

        Raises:
            InputError: A score is NaN, or the labels are not 1, 0 or -1 for each score.
        """
        scores, labels = stack_scores(data_samples)
        if labels.shape != scores.shape:
            raise InputError(
                f'{image_name(data_samples, 0)}: the model gives {scores.shape[1]} scores and '
                f'gt_label has the shape {labels.shape[1:]}: set num_classes of the head to the '
                'number of classes, or use AccuracyMetric for single-label data'
            )
        bad = np.argwhere(~np.isin(labels, (1, 0, -1)))
        if len(bad):
            row, column = bad[0]
            raise InputError(
                f'{image_name(data_samples, row)}: its label of class {column} is '
                f'{labels[row, column]}; it must be 1, 0 or -1 for unknown'
            )
        self.results += zip(scores, labels.astype(np.int8), strict=True)

    def compute_metrics(self, results: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Return the 13 metrics of all images.

        Args:
            results: Scores and labels of each, ``(classes,)``.

        Raises:
            InputError: There is no image, or no label is there in any.
        """
        if not results:
            raise InputError('No image was evaluated: the dataset is empty.')
        scores, labels = (np.stack(part) for part in zip(*results, strict=True))
        if not (labels == 1).any():
            raise InputError(
                f'No label is there in any of {len(labels)} images, so that nothing can be '
                'measured: check the annotation file and metainfo.classes'
            )
        precisions = average_precisions(scores, labels)
        # As the scores are held: 0.3 in float32 is above 0.3.
        by_threshold = precision_recall(scores > np.float32(self.threshold), labels)
        by_rank = precision_recall(top_labels(scores), labels)
        self._tabulate(scores, labels, precisions, by_threshold)
        top3 = {f'{key}_top3': value for key, value in by_rank.metrics.items()}
        return {'mAP': float(np.nanmean(precisions)), **by_threshold.metrics, **top3}

    def _tabulate(
        self,
        scores: np.ndarray,
        labels: np.ndarray,
        precisions: np.ndarray,
        by_threshold: PrecisionRecall,
    ) -> None:
        names = (self.dataset_meta or {}).get('classes') or range(len(precisions))
        if len(names) != len(precisions):
            raise InputError(
                f'the dataset has {len(names)} classes and the model {len(precisions)}: set '
                'num_classes of the head'
            )
        columns = {
            'AP': precisions,
            'positives': (labels == 1).sum(0),
            'precision': by_threshold.precision,
            'recall': by_threshold.recall,
        }
        if self.best_thresholds:
            found = best_f1_thresholds(scores, labels)
            columns |= dict(zip(('best_threshold', 'best_F1'), found, strict=True))
        lists = {key: values.tolist() for key, values in columns.items()}
        self.per_class = [
            {'name': str(name)}
            | {key: None if np.isnan(v[i]) else v[i] for key, v in lists.items()}
            for i, name in enumerate(names)
        ]
        print_log(f'\n{format_table(self.per_class)}', 'current')
        absent = [row['name'] for row in self.per_class if not row['positives']]
        if absent:
            print_log(
                f'{len(absent)} of {len(names)} classes are there in no image and excluded from '
                f'mAP, CP and CR: {few(absent, 20)}',
                'current',
                logging.WARNING,
            )
