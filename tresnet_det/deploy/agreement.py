"""How far two answers to the same photos agree, boxes or arrays."""

from collections.abc import Iterable, Mapping, Sequence
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
    """How two lists of boxes agree.

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

    @classmethod
    def of(cls, found: Answer, expected: Answer, max_per_img: int) -> 'BoxAgreement':
        """Pair the boxes of two answers."""
        ious = box_iou(*(torch.from_numpy(a['boxes']).double() for a in (found, expected))).numpy()
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
                scores = scores[scores > answer['scores'].min() + MAX_SCORE_DIFFERENCE]
            different += len(scores)
        return cls(
            len(rows),
            different,
            float(ious[rows, columns].min(initial=1)),
            float(differences[rows, columns].max(initial=0)),
        )

    @classmethod
    def total(cls, parts: Iterable['BoxAgreement']) -> 'BoxAgreement':
        """Put the agreements on several photos together."""
        same, different, ious, differences = zip(*parts, strict=True)
        return cls(sum(same), sum(different), min(ious), max(differences))

    def __str__(self) -> str:
        return (
            f'{self.same} boxes the same, {self.different} not; least IoU {self.least_iou:.6f}, '
            f'largest difference of scores {self.score_difference:.1e}'
        )


class ArrayAgreement(NamedTuple):
    """How two arrays agree.

    Attributes:
        difference: The largest.
        size: The largest absolute value of the expected array.
    """

    difference: float
    size: float

    @property
    def is_same(self) -> bool:
        return self.difference <= MAX_RELATIVE_DIFFERENCE * self.size

    @classmethod
    def of(cls, found: Answer, expected: Answer) -> dict[str, 'ArrayAgreement']:
        """Compare every array of two answers, by name."""
        return {
            name: cls(float(np.abs(found[name] - value).max()), float(np.abs(value).max()))
            for name, value in expected.items()
        }

    @classmethod
    def total(cls, parts: Iterable['ArrayAgreement']) -> 'ArrayAgreement':
        """Put the agreements on several photos together."""
        return cls(*(max(values) for values in zip(*parts, strict=True)))

    def __str__(self) -> str:
        return f'largest difference {self.difference:.1e}, of values up to {self.size:.3g}'


Agreement = BoxAgreement | ArrayAgreement


def compare(
    found: Sequence[Answer], expected: Sequence[Answer], max_per_img: int | None
) -> dict[str, Agreement]:
    """Compare answers to the same photos.

    Args:
        found: One a photo.
        expected: Likewise.
        max_per_img: A detector's; None for others.

    Returns:
        The agreement of all photos together, by the name of what was compared.
    """
    pairs = list(zip(found, expected, strict=True))
    if max_per_img is not None:
        parts = [BoxAgreement.of(*pair, max_per_img) for pair in pairs]
        return {'boxes': BoxAgreement.total(parts)}
    parts = [ArrayAgreement.of(*pair) for pair in pairs]
    return {name: ArrayAgreement.total(part[name] for part in parts) for name in expected[0]}
