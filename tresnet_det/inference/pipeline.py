"""A config's test pipeline and class names, for whatever applies its model to single images."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import Compose

from ..checkpoints.load import classes_of
from ..compat.log import print_log
from ..datasets.decode import decode_rgb
from ..datasets.pipeline import build_transforms
from ..datasets.transforms import LoadImage
from ..engine import config as edit
from ..errors import InputError
from ..models import ClsDataSample
from ..readers.config import resolve_classes
from ..tasks import find_task, type_name


def predicts_masks(cfg: Config) -> bool:
    """Whether the model of a config is trained or tested with masks."""
    loaders = edit.iterate_dicts([cfg.get('train_dataloader'), cfg.get('test_dataloader')])
    return any(part.get('with_mask') for part in loaders)


class Pipeline(NamedTuple):
    """A test pipeline in two steps.

    Attributes:
        read: Returns an image file as ``(H, W, 3)`` of uint8 in RGB, or raises an InputError.
        prepare: Turns such an image into what the model's ``test_step`` takes a batch of:
            ``inputs``, ``(3, H, W)`` of uint8 (BGR of a detector, RGB of a classifier), and
            ``data_samples``.
    """

    read: Callable[[str], np.ndarray]
    prepare: Callable[[np.ndarray], dict[str, Any]]


def build_pipeline(cfg: Config) -> Pipeline:
    """Build the test pipeline of a config.

    Raises:
        InputError: The config has none, or it does not load images.
    """
    transforms = edit.find_test_dataset(cfg)['pipeline']
    build = _build_detection if find_task(cfg).detects else build_classification
    return build(transforms)


def _build_detection(transforms: Sequence[Mapping]) -> Pipeline:
    """MMDetection's transforms, without annotations, on images that are in memory."""
    steps = [dict(t) for t in transforms if type_name(t) != 'LoadAnnotations']
    load = next((t for t in steps if type_name(t) in ('LoadImage', 'LoadImageFromFile')), None)
    if load is None:
        raise InputError(
            "test_dataloader's pipeline loads no image: put dict(type='LoadImage') first"
        )
    options = {k: v for k, v in load.items() if k not in ('type', 'on_error')}
    load.clear()
    load.update(options, type='mmdet.LoadImageFromNDArray')
    transform = Compose(steps)
    # OpenCV's order is BGR.
    return Pipeline(_Loader(**options).read, lambda x: transform(dict(img=x[..., ::-1], img_id=0)))


class _Loader(LoadImage):
    def read(self, path: str) -> np.ndarray:
        """Return ``(H, W, 3)`` in RGB, or say what is wrong with the file and no more."""
        return self._decode(path, self._read(path))[..., ::-1]


def build_classification(transforms: Sequence[Mapping]) -> Pipeline:
    """Transforms of torchvision, as the classification datasets apply them."""
    transform = build_transforms(transforms, "test_dataloader's pipeline")

    def prepare(image: np.ndarray) -> dict[str, Any]:
        # In channels-last layout, as the decoder gives it.
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return dict(inputs=transform(tensor), data_samples=ClsDataSample())

    return Pipeline(lambda path: decode_rgb(path).permute(1, 2, 0).numpy(), prepare)


def find_classes(cfg: Config, meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the class names of a model: the checkpoint's, else the config's, else the dataset's.

    Args:
        cfg: The config.
        meta: ``meta`` of the checkpoint, MMDetection 2's or 3's; empty without a checkpoint.

    Returns:
        As many as the model's head has outputs, or any number where the head does not state one;
        None where nothing names them.
    """
    count = edit.get_num_classes(cfg)
    theirs = classes_of(meta)
    if theirs and count not in (None, len(theirs)):
        print_log(
            f'the checkpoint names {len(theirs)} classes, and the model has {count}: its names '
            'are not used',
            logging.WARNING,
        )
    fits = (names for names in _class_names(cfg, meta) if count in (None, len(names)))
    return next(fits, None)


def _class_names(cfg: Config, meta: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    if names := classes_of(meta):
        yield names
    try:
        parts = list(edit.iterate_dicts(edit.find_test_dataset(cfg)))
    except InputError:
        return
    yield from filter(None, (resolve_classes(part.get('metainfo')) for part in parts))
    for part in parts:
        if 'ann_file' in part:  # what a dataset's class knows, as CocoDataset does
            kind = DATASETS.get(part['type']) if isinstance(part['type'], str) else part['type']
            if classes := getattr(kind, 'METAINFO', {}).get('classes'):
                yield tuple(classes)
