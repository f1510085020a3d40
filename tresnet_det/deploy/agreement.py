"""How far two models' answers to the same images agree, boxes or arrays."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

Answer = Mapping[str, np.ndarray]

# What counts as the same.
MIN_IOU = 0.99
MAX_SCORE_DIFFERENCE = 1e-4
MAX_RELATIVE_DIFFERENCE = 1e-3  # of logits and feature maps, to their largest value


class BoxAgreement(NamedTuple):
    """How the boxes in some images agree.

    Attributes:
        same: Pairs of one class that agree: IoU above 0.99, scores within 1e-4.
        different: Boxes of either that have no such partner; those at the end of a full list, which
            another just as good may replace, do not count.
        least_iou: Of the pairs, 1 where there are none.
        score_difference: The largest of the pairs.
    """

    same: int
    different: int
    least_iou: float
    score_difference: float

    @property
    def is_same(self) -> bool:
        return self.different == 0

    def __str__(self) -> str:
        return (
            f'{self.same} boxes the same, {self.different} not; least IoU {self.least_iou:.6f}, '
            f'largest difference of scores {self.score_difference:.1e}'
        )


class ArrayAgreement(NamedTuple):
    """How arrays agree: their largest difference, and the largest absolute value expected."""

    difference: float
    size: float

    @property
    def is_same(self) -> bool:
        return self.difference <= MAX_RELATIVE_DIFFERENCE * self.size

    def __str__(self) -> str:
        return f'largest difference {self.difference:.1e}, of values up to {self.size:.3g}'


Agreement = BoxAgreement | ArrayAgreement


def compare(
    found: Sequence[Answer], expected: Sequence[Answer], max_per_img: int | None
) -> dict[str, Agreement]:
    """Compare answers to the same images, one answer per image.

    Args:
        found: Of a detector ``boxes`` ``(n, 4)``, ``scores`` and ``labels`` ``(n,)``; of others
            arrays by name.
        expected: Likewise.
        max_per_img: A detector's; None for others.

    Returns:
        The agreement over all images, by the name of what was compared.
    """
    pairs = list(zip(found, expected, strict=True))
    if max_per_img is not None:
        same, different, ious, differences = zip(
            *(_compare_boxes(*pair, max_per_img) for pair in pairs), strict=True
        )
        return {'boxes': BoxAgreement(sum(same), sum(different), min(ious), max(differences))}
    return {
        name: ArrayAgreement(
            # Other than max(), np.max() is NaN where one of them is.
            float(np.max([np.abs(f[name] - e[name]).max() for f, e in pairs])),
            float(np.max([np.abs(e[name]).max() for _, e in pairs])),
        )
        for name in expected[0]
    }


def _compare_boxes(found: Answer, expected: Answer, max_per_img: int) -> BoxAgreement:
    ious = box_iou(*(torch.from_numpy(a['boxes']).double() for a in (found, expected))).numpy()
    corners = found['boxes'][:, None], expected['boxes']
    ious[np.isnan(ious) & np.isclose(*corners, rtol=0, atol=0.01).all(2)] = 1  # without an area
    differences = np.abs(found['scores'][:, None] - expected['scores'].astype(float))
    pairs = (
        (found['labels'][:, None] == expected['labels'])
        & (ious > MIN_IOU)
        & (differences < MAX_SCORE_DIFFERENCE)
    )
    rows, columns = linear_sum_assignment(np.where(pairs, 1 - ious + differences, 1e3))
    is_pair = pairs[rows, columns]
    rows, columns = rows[is_pair], columns[is_pair]
    different = 0
    for answer, paired in ((found, rows), (expected, columns)):
        scores = np.delete(answer['scores'], paired)
        if len(answer['scores']) == max_per_img:
            scores = scores[~(scores <= answer['scores'].min() + MAX_SCORE_DIFFERENCE)]  # also NaN
        different += len(scores)
    least_iou = float(ious[rows, columns].min(initial=1))
    return BoxAgreement(
        len(rows), different, least_iou, float(differences[rows, columns].max(initial=0))
    )
