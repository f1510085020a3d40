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
    pairs = (
        (found['labels'][:, None] == expected['labels'])
        & (ious > MIN_IOU)
        & (differences < MAX_SCORE_DIFFERENCE)
    )
    rows, columns = linear_sum_assignment(np.where(pairs, 1 - ious + differences, 1e3))
    is_pair = pairs[rows, columns]
    rows, columns = rows[is_pair], columns[is_pair]
    alone = []
    for answer, other, paired in ((found, expected, rows), (expected, found, columns)):
        left = np.delete(np.arange(len(answer['scores'])), paired)
        if len(other['scores']) == max_per_img:
            last = other['scores'].min() + MAX_SCORE_DIFFERENCE
            left = left[~(answer['scores'][left] <= last)]  # also NaN
        alone.append(left)
    different = sum(map(len, alone)) and _count_unexplained(found, expected, alone, iou_threshold)
    least_iou = float(ious[rows, columns].min(initial=1))
    return BoxAgreement(
        len(rows), different, least_iou, float(differences[rows, columns].max(initial=0))
    )


def _count_unexplained(
    found: Answer, expected: Answer, alone: Sequence[np.ndarray], iou_threshold: float
) -> int:
    """Return how many boxes without a partner no overlap at the threshold of NMS explains."""
    boxes, labels = (np.concatenate([found[k], expected[k]]) for k in ('boxes', 'labels'))
    is_expected = np.arange(len(boxes)) >= len(found['boxes'])
    ious = box_iou(*[torch.from_numpy(boxes).double()] * 2).numpy()
    ious[labels[:, None] != labels] = 0
    left = np.concatenate([alone[0], len(found['boxes']) + alone[1]])
    at_limit = (np.abs(ious[left] - iou_threshold) < MAX_IOU_DIFFERENCE).any(1)
    explained: np.ndarray = left[:0]
    while at_limit.any():  # then those that the explained suppress in their own answer
        explained, left = np.append(explained, left[at_limit]), left[~at_limit]
        others = is_expected[left][:, None] != is_expected[explained]
        at_limit = (others & (ious[left][:, explained] > iou_threshold)).any(1)
    return len(left)
