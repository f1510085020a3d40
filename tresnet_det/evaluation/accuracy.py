"""Top-1 and top-5 accuracy of single-label classification."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from ..errors import InputError
from .label_measures import check_not_nan, find_ranks, image_name
from .labels import Labels, relative

TOP = (1, 5)


@METRICS.register_module()
class AccuracyMetric(BaseMetric):
    """Top-1 and top-5 accuracy, in percent from 0 to 100, as the field prints it.

    ``accuracy/top1`` and ``accuracy/top5`` are the shares of images whose class is among the one
    or the five with the highest scores. Of equal scores, the lower class number comes first. With
    five classes or fewer, ``top5`` is 100.

    Args:
        **kwargs: MMEngine's ``collect_device``, ``prefix`` and ``collect_dir``.

    Attributes:
        per_class: After an evaluation, on the main process, a dict for each class that images have:
            ``name``, ``top1`` in percent of them, and ``images``.
    """

    default_prefix = 'accuracy'

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.per_class: list[dict[str, Any]] = []

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Keep the rank of each image's class.

        Args:
            data_batch: Not looked at.
            data_samples: Dicts with ``gt_label``, a class number, ``pred_score``, ``(classes,)``,
                and ``img_path``.

        Raises:
            InputError: A score is NaN, or a label is no class of the model.
        """
        scores, labels = stack_scores(data_samples)
        labels = labels.reshape(len(labels), -1)
        if labels.shape[1] != 1:
            raise InputError(
                'AccuracyMetric takes one class number an image and got '
                f'{labels.shape[1]} labels: use MultiLabelMetric'
            )
        labels = labels[:, 0].astype(np.int64)
        bad = ((labels < 0) | (labels >= scores.shape[1])).nonzero()[0]
        if len(bad):
            raise InputError(
                f'{image_name(data_samples, bad[0])}: its label {labels[bad[0]]} is none of the '
                f"model's {scores.shape[1]} classes: set num_classes of the head"
            )
        self.results += zip(find_ranks(scores, labels).tolist(), labels.tolist(), strict=True)

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """Return ``top1`` and ``top5`` in percent.

        Args:
            results: The rank, from 0, of each image's class, and the class.

        Raises:
            InputError: There are none.
        """
        if not results:
            raise InputError('No image was evaluated: the dataset is empty.')
        ranks, labels = np.array(results).T
        names = (self.dataset_meta or {}).get('classes') or range(labels.max() + 1)
        self.per_class = [
            dict(
                name=str(names[label]),
                top1=100 * float((ranks[labels == label] == 0).mean()),
                images=int((labels == label).sum()),
            )
            for label in np.unique(labels)
        ]
        return {f'top{k}': 100 * float((ranks < k).mean()) for k in TOP}


class KeepScores(BaseMetric):
    """Measure nothing and keep what a classifier was measured on, for a report.

    Args:
        several: Whether an image may have any number of labels.

    Attributes:
        kept: After an evaluation, on the main process: the `Labels`, without a common folder.
        folder: That folder.
    """

    default_prefix = 'kept'  # of no metric; mmengine warns of none

    def __init__(self, several: bool) -> None:
        super().__init__()
        self.several = several
        self.kept: Labels | None = None
        self.folder = ''

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Keep name, scores and labels of each image."""
        scores, labels = stack_scores(data_samples)
        paths = [str(image_name(data_samples, n)) for n in range(len(data_samples))]
        self.results += zip(paths, scores, labels, strict=True)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return nothing; see :attr:`kept`."""
        paths, scores, labels = zip(*results, strict=True)
        classes = tuple(map(str, (self.dataset_meta or {}).get('classes') or range(len(scores[0]))))
        truth = np.stack(labels).astype(np.int8) if self.several else np.zeros(0)
        if not self.several:
            truth = np.eye(len(classes), dtype=np.int8)[np.reshape(labels, -1).astype(int)]
        names, self.folder = relative(paths)
        self.kept = Labels(names, classes, truth, np.stack(scores).astype(float), self.several)
        return {}


def stack_scores(data_samples: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores, ``(N, classes)`` of float32, and the labels, of a batch of predictions.

    Raises:
        InputError: A score is NaN.
    """
    # One transfer for all, where they are on a GPU.
    stacked = torch.stack([torch.as_tensor(sample['pred_score']) for sample in data_samples])
    labels = torch.stack([torch.as_tensor(sample['gt_label']) for sample in data_samples])
    scores = stacked.detach().float().cpu().numpy()
    check_not_nan(scores, data_samples)
    return scores, labels.cpu().numpy()
