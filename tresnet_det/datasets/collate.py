"""Collate samples into a batch of as few pieces as possible, so that a worker sends it quickly."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.registry import FUNCTIONS
from torch.utils.data import default_collate

from ..models import ClsDataSample


@FUNCTIONS.register_module()
def stack_samples(batch: Sequence[dict]) -> dict:
    """Make a batch of samples; in a config: ``collate_fn=dict(type='stack_samples')``.

    A worker sends each tensor through an open file of its own. MMEngine's default leaves a batch
    of 128 images as 256 tensors, and a few such batches on their way reach the usual limit of
    1024 open files ("Too many open files"); by this, a batch is one.

    Args:
        batch: Samples as a `ImageFolderDataset` gives them.

    Returns:
        ``inputs``, ``(N, 3, H, W)`` of uint8, or a list where the images differ in size; and
        ``data_samples``, a list.
    """
    inputs = [sample['inputs'] for sample in batch]
    if len({image.shape for image in inputs}) == 1:
        inputs = default_collate(inputs)
    return dict(inputs=inputs, data_samples=_Samples(sample['data_samples'] for sample in batch))


class _Samples(list):
    """Data samples that travel as one array of labels and arrive as a plain list.

    Where they hold more than labels of one shape, they travel one by one.
    """

    def __reduce__(self) -> tuple:
        labels = [sample.gt_label for sample in self if sample.keys() == ['gt_label']]
        if len(labels) < len(self) or len({label.shape for label in labels}) != 1:
            return list, (list(self),)
        return _rebuild, ([sample.metainfo for sample in self], torch.stack(labels).numpy())


def _rebuild(metainfos: Sequence[dict], labels: np.ndarray) -> list[ClsDataSample]:
    # The tensors have a memory of their own, so that what a model does to one changes no other.
    return [
        ClsDataSample(gt_label=label.clone(), metainfo=metainfo)
        for label, metainfo in zip(torch.from_numpy(labels), metainfos, strict=True)
    ]
