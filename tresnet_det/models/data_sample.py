"""The data sample of a classifier: an image's labels from the loader, and the predicted scores."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from ..errors import InputError


class ClsDataSample(BaseDataElement):
    """The labels and scores of one image, with its meta information (``img_path``, ...).

    Attributes:
        gt_label: A class number, ``()`` of int64; or, where an image has any number of labels,
            ``(classes,)`` with 1 for present, 0 for absent and -1 for unknown. A number, a list
            or an array becomes such a tensor.
        pred_score: ``(classes,)`` of float32, in [0, 1]; those of a single-label head sum to 1.

    Examples:
        >>> sample = ClsDataSample(gt_label=3, metainfo=dict(img_path='cat.jpg'))
        >>> sample.gt_label, sample.img_path
        (tensor(3), 'cat.jpg')
    """

    @property
    def gt_label(self) -> torch.Tensor:
        return self._gt_label

    @gt_label.setter
    def gt_label(self, value: torch.Tensor | np.ndarray | Sequence[float] | int) -> None:
        try:
            label = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f'gt_label must be a class number, or a 0, 1 or -1 for each class, got {value!r}'
            ) from error
        self.set_field(label, '_gt_label', dtype=torch.Tensor)

    @gt_label.deleter
    def gt_label(self) -> None:
        del self._gt_label

    @property
    def pred_score(self) -> torch.Tensor:
        return self._pred_score

    @pred_score.setter
    def pred_score(self, value: torch.Tensor) -> None:
        self.set_field(value, '_pred_score', dtype=torch.Tensor)

    @pred_score.deleter
    def pred_score(self) -> None:
        del self._pred_score


def stack_labels(data_samples: Sequence[ClsDataSample]) -> torch.Tensor:
    """Return the labels of a batch, ``(N,)`` or ``(N, classes)``, on the device where they are.

    Raises:
        InputError: If a sample has no label, or they differ in shape.
    """
    for sample in data_samples:
        if 'gt_label' not in sample:
            path = sample.get('img_path', 'an image')
            raise InputError(
                f'{path} has no gt_label: the pipeline must put one in its data sample'
            )
    labels = [sample.gt_label for sample in data_samples]
    shapes = sorted({tuple(label.shape) for label in labels})
    if len(shapes) > 1:
        raise InputError(f'the gt_label of a batch differ in shape: {shapes}')
    return torch.stack(labels)
