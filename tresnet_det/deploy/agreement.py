"""How far two models' answers to the same images agree, boxes or arrays."""

import math
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
MAX_IOU_DIFFERENCE = 1e-4  # to the threshold of NMS, where a last digit decides
MAX_RELATIVE_DIFFERENCE = 1e-3  # of logits and feature maps, to their largest value


class BoxAgreement(NamedTuple):
    """How the boxes in some images agree.

    Attributes:
        same: Pairs of one class that agree: IoU above 0.99, scores within 1e-4.
        different: Boxes of either that have no such partner, but for what a last digit decides:
            whether a box still has a place in a full list, or is suppressed by one that it overlaps
            by just the threshold, and by its absence or presence others.
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
    found: Sequence[Answer],
    expected: Sequence[Answer],
    max_per_img: int | None,
    iou_threshold: float = math.inf,
) -> dict[str, Agreement]:
    """Compare answers to the same images, one answer per image.

    Args:
        found: Of a detector ``boxes`` ``(n, 4)``, ``scores`` and ``labels`` ``(n,)``; of others
            arrays by name.
        expected: Likewise.
        max_per_img: A detector's; None for others.
        iou_threshold: Of its NMS.

    Returns:
        The agreement over all images, by the name of what was compared.
    """
    pairs = list(zip(found, expected, strict=True))
    if max_per_img is not None:
        same, different, ious, differences = zip(
            *(_compare_boxes(*pair, max_per_img, iou_threshold) for pair in pairs), strict=True
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


def _compare_boxes(
    found: Answer, expected: Answer, max_per_img: int, iou_threshold: float
) -> BoxAgreement:
    ious = box_iou(*(torch.from_numpy(a['boxes']).double() for a in (found, expected))).numpy()
    corners = found['boxes'][:, None], expected['boxes']
    ious[np.isnan(ious) & np.isclose(*corners, rtol=0, atol=0.01).all(2)] = 1  # without an area
    differences = np.abs(found['scores'][:, None] - expected['scores'].astype(float))
    one_class = found['labels'][:, None] == expected['labels']
    pairs = one_class & (ious > MIN_IOU) & (differences < MAX_SCORE_DIFFERENCE)
    rows, columns = linear_sum_assignment(np.where(pairs, 1 - ious + differences, 1e3))
    is_pair = pairs[rows, columns]
    rows, columns = rows[is_pair], columns[is_pair]
    alone = []
    for answer, other, paired in ((found, expected, rows), (expected, found, columns)):
        is_alone = ~np.isin(np.arange(len(answer['scores'])), paired)
        if len(other['scores']) == max_per_img:
            last = other['scores'].min() + MAX_SCORE_DIFFERENCE
            is_alone &= ~(answer['scores'] <= last)  # also NaN
        alone.append(is_alone)
    different = _count_unexplained(np.where(one_class, ious, 0), alone[0], alone[1], iou_threshold)
    least_iou = float(ious[rows, columns].min(initial=1))
    return BoxAgreement(
        len(rows), different, least_iou, float(differences[rows, columns].max(initial=0))
    )


def _count_unexplained(
    ious: np.ndarray, rows: np.ndarray, columns: np.ndarray, iou_threshold: float
) -> int:
    """Return how many boxes without a partner are not explained by NMS.

    It explains why an answer lacks a box: one of that answer overlaps it by just the threshold, or
    by more, and is lacking itself, so explained, in the box's answer.

    Args:
        ious: ``(N, M)``, of the boxes of two answers, 0 between classes.
        rows: ``(N,)``, which boxes of the one have no partner.
        columns: ``(M,)``, which of the other.
        iou_threshold: Of NMS, which suppresses what overlaps by more: nothing from 1 on.
    """
    at_limit = (np.abs(ious - iou_threshold) < MAX_IOU_DIFFERENCE) & (iou_threshold < 1)
    above = ious > iou_threshold
    count, before = int(rows.sum() + columns.sum()), -1
    rows_left, columns_left = rows & ~at_limit.any(1), columns & ~at_limit.any(0)
    while count != before:
        rows_left &= ~above[:, columns & ~columns_left].any(1)
        columns_left &= ~above[rows & ~rows_left].any(0)
        count, before = int(rows_left.sum() + columns_left.sum()), count
    return count
