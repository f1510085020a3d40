"""mAP, precision, recall and F1 of multi-label classification.

The metric for MMEngine's Runner; what it computes is in :mod:`.label_measures`.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..errors import InputError, few
from .accuracy import stack_scores
from .label_measures import (
    PrecisionRecall,
    average_precisions,
    best_f1_thresholds,
    image_name,
    precision_recall,
    top_labels,
)
from .report import format_table


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
