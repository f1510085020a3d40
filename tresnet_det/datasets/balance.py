"""``--balance``: images of rare classes are drawn more often, all others less."""

from collections import Counter
from collections.abc import Iterator, Sized
from numbers import Real
from typing import Any

import numpy as np
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler
from mmengine.logging import print_log

from ..errors import InputError, shown


@DATA_SAMPLERS.register_module()
class BalancedSampler(DefaultSampler):
    """Draw images by the repeat factors of LVIS (Gupta et al., 2019), in epochs that stay as long.

    A class ``c`` that is in a share ``f(c)`` of the images has the factor
    ``(f_max / f(c)) ** power``, where ``f_max`` is the share of the most frequent one. The factor
    of an image is the largest of its classes; it is 1 where it has none. Images are drawn in
    proportion to their factors, as many an epoch as the dataset has.

    With 0.5, the paper's square root, a rare class does not take all of its images' frequent
    classes along; with 1, where each image has one class, all classes are drawn equally often.

    Each epoch's draw is systematic: an image is drawn as often as is expected of it, rounded up or
    down, and so are all images of the same factor together.

    Args:
        dataset: With ``gt_labels`` or ``get_cat_ids``, or a wrapper of such ones.
        power: Of the factors, in (0, 1].
        seed: The same in all processes; None draws one.
        round_up: As mmengine's: whether all processes get equally many images.

    Attributes:
        shares: How likely a draw is each image, ``(N,)``, of sum 1.

    Raises:
        InputError: ``power`` is out of its range, or the dataset does not say which classes are in
            an image.
    """

    dataset: Any
    shares: np.ndarray
    seed: int
    epoch: int

    def __init__(
        self, dataset: Sized, power: float = 0.5, seed: int | None = None, round_up: bool = True
    ) -> None:
        if isinstance(power, bool) or not isinstance(power, Real) or not 0 < power <= 1:
            raise InputError(f'power must be above 0, at most 1: got {shown(power)}')
        super().__init__(dataset, shuffle=True, seed=seed, round_up=round_up)
        labels = find_labels(dataset)
        if not labels or len(labels) != len(dataset):
            raise InputError(f'--balance: {len(labels)} images have labels of {len(dataset)}')
        images = Counter(label for classes in labels for label in classes)
        most = max(images.values(), default=1)
        factors = [
            max(((most / images[c]) ** power for c in classes), default=1.0) for classes in labels
        ]
        self.shares = np.array(factors) / sum(factors)
        print_log(f'--balance: {self._describe(labels, images)}', 'current')

    def _describe(self, labels: list[set[int]], images: Counter[int]) -> str:
        text = f'an epoch still draws {len(labels)} images'
        names = (getattr(self.dataset, 'metainfo', None) or {}).get('classes') or ()
        for label, count in images.most_common()[-1:] + images.most_common(1):
            drawn = self.shares[[label in classes for classes in labels]].sum()
            name = names[label] if label < len(names) else label
            text += f'; {count / len(labels):.1%} of them with {name!r} become {drawn:.1%}'
        return text

    def draw(self) -> np.ndarray:
        """Return the images of this epoch, ``(N,)``, those of the same factor together."""
        rng = np.random.default_rng([self.seed, self.epoch])
        order = np.lexsort((rng.random(len(self.shares)), self.shares))
        ends = np.cumsum(self.shares[order]) * len(order)
        ends[-1] = len(order)
        counts = np.diff(np.floor(ends + rng.random()), prepend=0).astype(int)
        return np.repeat(order, counts)

    def __iter__(self) -> Iterator[int]:
        drawn = self.draw().tolist()
        return (drawn[place] for place in super().__iter__())  # in a random order


def find_labels(dataset: Any) -> list[set[int]]:
    """Return the classes in each image of a dataset, through mmengine's and MMDetection's wrappers.

    Raises:
        InputError: The dataset does not say.
    """
    labels = getattr(dataset, 'gt_labels', None)
    if labels is not None:
        if np.ndim(labels) == 2:
            return [set(np.flatnonzero(row == 1).tolist()) for row in np.asarray(labels)]
        return [{int(label)} for label in labels]
    if hasattr(dataset, 'datasets'):
        return [classes for part in dataset.datasets for classes in find_labels(part)]
    if hasattr(dataset, 'get_cat_ids'):
        return [set(dataset.get_cat_ids(index)) for index in range(len(dataset))]
    if hasattr(dataset, 'indices') and hasattr(dataset, 'dataset'):  # torch's Subset
        labels = find_labels(dataset.dataset)
        return [labels[index] for index in dataset.indices]
    if hasattr(dataset, 'dataset'):  # RepeatDataset, MultiImageMixDataset
        return find_labels(dataset.dataset) * getattr(dataset, 'times', 1)
    raise InputError(
        f'--balance: {type(dataset).__name__} does not say which classes are in an image: it needs '
        'get_cat_ids(index)'
    )
