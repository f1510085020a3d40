"""A trained model applied to images: detection, classification and multi-label alike."""

import copy
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from numbers import Real
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NoReturn, overload

import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures.mask import encode_mask_results
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement

from ..checkpoints import load_weights, read_checkpoint
from ..checkpoints.load import Checkpoint, LoadReport
from ..engine import config as edit
from ..engine.backbone_speed import BackboneSpeedHook
from ..engine.building import config_errors
from ..engine.settings import find_device
from ..engine.work_dir import find_checkpoint, find_run
from ..errors import InputError, check_whole, few, shown
from ..readers.findings import without
from ..tasks import find_task
from ..values import check_values
from .inputs import ImageInput, InputImage, Report, read_given
from .pipeline import build_pipeline, find_classes, predicts_masks
from .result import Result
from .sliced import Slicing

BATCH_SIZE = 8
MOST_PIXELS = 16 << 20  # of all images in a batch with masks, each of which is a byte a pixel


class Predictor:
    """A model with its weights, its classes and its test pipeline.

    What it predicts for an image is what ``tools/test.py`` computes for it with one image a batch:
    the config's test pipeline, the averaged weights where the training kept an average (the
    checkpoint's ``state_dict`` holds them), the model's own threshold and NMS. A batch holds
    images of one padded size alone, so that nothing depends on which others are in it; images
    of many sizes are therefore run in smaller batches, and so are large ones that get masks.

    Args:
        model: A training's work directory, or a checkpoint in it; or a config, or its file, and
            then ``checkpoint``.
        checkpoint: A file, or a work directory for the best checkpoint in it.
        device: ``'cpu'``, ``'cuda:0'``, ...; None for a GPU where there is one.
        tile: Side in pixels of the tiles that are predicted too; None for none.
        overlap: Share of a tile that the next one has too.

    Attributes:
        model: On the device, in evaluation mode.
        checkpoint: Its file.
        task: ``'detection'``, ``'classification'`` (single-label) or ``'multilabel'``.
        classes: The names, by number: the checkpoint's, else the config's, else numbers.
        thresholds: By class name, those that a test wrote into the checkpoint.
        device: As torch names it.

    Raises:
        InputError: The config, the checkpoint and the device do not go together (a ``ValueError``).

    Examples:
        >>> predictor = Predictor('work_dirs/fcos_tresnet_m')
        >>> result = predictor('street.jpg')
        >>> result.boxes  # (N, 4), x1 y1 x2 y2 in the image's pixels
        >>> result.names, result.scores
        >>> result.plot('found.jpg')
    """

    def __init__(
        self,
        model: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> None:
        config, checkpoint = (model, checkpoint) if checkpoint else find_run(model)
        self.device = find_device(device)
        self.checkpoint = path = find_checkpoint(checkpoint)
        cfg = copy.deepcopy(config) if isinstance(config, Config) else edit.load_config(config)
        check_values(cfg)
        self._slicing = Slicing.of(cfg, tile, overlap) if tile else None
        weights = read_checkpoint(path)
        edit.check_parts(cfg)
        task = find_task(cfg)
        self.task, self._threshold = task.name, task.threshold
        init_default_scope(cfg.get('default_scope') or 'mmdet')
        self.classes = self._name_classes(cfg, weights.meta, path)
        self.thresholds: dict[str, float] = weights.meta.get('thresholds') or {}
        edit.drop_pretrained(cfg)  # the checkpoint has all weights
        with config_errors():
            model = revert_sync_batchnorm(MODELS.build(cfg.model))
            self._pipeline = build_pipeline(cfg)
        self._has_masks = predicts_masks(cfg)
        self._load(model, weights)
        self.model = model.to(self.device).eval()
        if any(h.get('channels_last') for h in edit.iterate_dicts(cfg.get('custom_hooks'))):
            # The layout that the config tests in: on a GPU, another one may round otherwise.
            BackboneSpeedHook(channels_last=True).before_run(SimpleNamespace(model=self.model))

    def _load(self, model: torch.nn.Module, weights: Checkpoint) -> LoadReport:
        return load_weights(model, weights)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence of them, too
        self,
        images: ImageInput,
        *,
        threshold: float | Literal['auto'] | None = None,
        top: int = 3,
        batch_size: int = BATCH_SIZE,
        channel_order: Literal['rgb', 'bgr'] = 'rgb',
    ) -> Result: ...

    @overload
    def __call__(
        self,
        images: Sequence[ImageInput],
        *,
        threshold: float | Literal['auto'] | None = None,
        top: int = 3,
        batch_size: int = BATCH_SIZE,
        channel_order: Literal['rgb', 'bgr'] = 'rgb',
    ) -> list[Result]: ...

    def __call__(
        self,
        images: ImageInput | Sequence[ImageInput],
        *,
        threshold: float | Literal['auto'] | None = None,
        top: int = 3,
        batch_size: int = BATCH_SIZE,
        channel_order: Literal['rgb', 'bgr'] = 'rgb',
    ) -> Result | list[Result]:
        """Predict an image, or each of a list: what ``tools/predict.py`` shows of it.

        Args:
            images: A file, a URL, an array ``(H, W, 3)`` of uint8 or an image of Pillow, see
                :func:`.inputs.read_given` for other arrays; or a list of them, mixed as may be.
            threshold: Objects from this score, and labels of multi-label classification above it,
                are returned; 0 for all of the model's, ``'auto'`` for those of the classes that
                ``test.py --keep-thresholds`` wrote into the checkpoint, None for 0.3 (labels: 0.5).
            top: Of single-label classification, the number of classes.
            batch_size: Most images at once.
            channel_order: Of arrays: ``'bgr'`` for OpenCV's.

        Returns:
            A result, or one for each of the list.

        Raises:
            InputError: An argument is wrong, or an image cannot be read or predicted.
        """
        check_whole('batch_size', batch_size, 1)
        check_whole('top', top, 1)
        if channel_order not in ('rgb', 'bgr'):
            raise InputError(f"channel_order must be 'rgb' or 'bgr', got {shown(channel_order)}")
        thresholds = self.choose_thresholds(threshold)
        several = isinstance(images, list | tuple)
        given: Sequence[ImageInput] = images if several else [images]  # type: ignore[assignment,list-item]
        if not given:
            raise InputError('there is no image in the list')

        def fail(name: str, error: Exception) -> NoReturn:
            raise error

        at_most = top if self.task == 'classification' else None
        read = read_given(given, self.read, channel_order == 'bgr')
        stream = self.stream(read, fail, batch_size)
        results = []
        for image, (taken, sample) in zip(given, stream, strict=True):
            is_file = isinstance(image, str | os.PathLike) and '://' not in taken.name
            # A file is read again to be drawn; an array may be another one then.
            file = os.path.abspath(taken.name) if is_file else None
            pixels = taken.pixels if is_file else taken.pixels.copy()
            result = Result.of(sample, self.classes, pixels, file)
            results.append(result.select(thresholds, at_most))
        return results if several else results[0]

    def choose_thresholds(self, threshold: float | Literal['auto'] | None = None) -> np.ndarray:
        """Return the score from which each class is shown, ``(classes,)``: see :meth:`__call__`.

        Raises:
            InputError: It is no score, or the checkpoint has none for a class.
        """
        if threshold is None:
            threshold = self._threshold
        if threshold == 'auto':
            if lacking := without(self.classes, self.thresholds):
                raise InputError(
                    f"threshold 'auto': {self.checkpoint} has no threshold of {few(lacking)}: let "
                    'test.py choose them by --keep-thresholds, or give a score'
                )
            return np.array([self.thresholds[name] for name in self.classes])
        if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
            raise InputError(f"threshold must be from 0 to 1, or 'auto': got {shown(threshold)}")
        return np.full(len(self.classes), float(threshold))

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """Read an image file as the task's datasets do: ``(H, W, 3)`` of uint8 in RGB.

        Raises:
            MissingFileError: It does not exist.
            InputError: It is no image, or corrupt.
        """
        return self._pipeline.read(os.fspath(path))

    def prepare(self, image: np.ndarray) -> dict:
        """Put an image through the test pipeline.

        Args:
            image: ``(H, W, 3)`` of uint8 in RGB.

        Raises:
            InputError: The pipeline cannot take an image of this shape.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(
                f'an image must be (H, W, 3) of uint8 in RGB, got {image.shape} of {image.dtype}'
            )
        try:
            return self._pipeline.prepare(image)
        except (cv2.error, ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
            height, width = image.shape[:2]
            reason = ' '.join(str(error).split())
            raise InputError(
                f'the test pipeline cannot take an image of {width}x{height} pixels ({reason})'
            ) from error

    def infer(
        self, prepared: Sequence[dict], batch_size: int = BATCH_SIZE
    ) -> list[BaseDataElement]:
        """Run the model.

        Args:
            prepared: Of :meth:`prepare`.
            batch_size: Most images at once.

        Returns:
            A data sample for each, on the CPU: of a detector with ``pred_instances`` (``bboxes``,
            ``scores``, ``labels`` and, where the model has them, ``masks``: for each the code of
            pycocotools in the image's own size, ``counts`` as str), of a classifier with
            ``pred_score``, ``(classes,)``.

        Raises:
            InputError: The device has too little memory.
        """
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, one in enumerate(prepared):
            by_size.setdefault(self._padded_size(one['inputs']), []).append(number)
        results = {}
        for numbers in by_size.values():
            at_once = self._at_once([prepared[number] for number in numbers], batch_size)
            for batch in _batches(numbers, at_once):
                samples = self._run(pseudo_collate([prepared[number] for number in batch]))
                for number, sample in zip(batch, samples, strict=True):
                    _encode_masks(sample)
                    results[number] = sample.cpu()
        return [results[number] for number in range(len(prepared))]

    def predict(
        self, images: Sequence[np.ndarray | str | os.PathLike], batch_size: int = BATCH_SIZE
    ) -> list[BaseDataElement]:
        """Return what :meth:`infer` does of image files, or of ``(H, W, 3)`` of uint8 in RGB.

        Raises:
            InputError: A file cannot be read, or an image is none that the pipeline takes.
        """
        arrays = (p if isinstance(p, np.ndarray) else self.read(p) for p in images)
        return self.infer([self.prepare(array) for array in arrays], batch_size)

    def stream(
        self, images: Iterable[InputImage], report: Report, batch_size: int = BATCH_SIZE
    ) -> Iterator[tuple[InputImage, BaseDataElement]]:
        """Predict one batch after the other, with no more than a batch in memory.

        Args:
            images: Of :func:`read_images`.
            report: Called with the name and the reason for each that the pipeline cannot take.
            batch_size: Most images at once.
        """

        def prepare_each() -> Iterator[tuple[InputImage, dict]]:
            for image in images:
                try:
                    yield image, self.prepare(image.pixels)
                except InputError as error:
                    report(image.name, InputError(f'{image.name}: {error}'))

        for batch in _batches(prepare_each(), batch_size):
            for image, sample in self._infer_each(batch, report, batch_size):
                if self._slicing:
                    sample = self._slicing._replace(batch_size=batch_size).add_tiles(
                        image.pixels, sample, lambda crops: self.predict(crops, batch_size)
                    )
                yield image, sample

    def _infer_each(
        self, batch: list[tuple[InputImage, dict]], report: Report, batch_size: int
    ) -> Iterator[tuple[InputImage, BaseDataElement]]:
        """Infer a batch, or each image by itself where the model refuses one of them."""
        try:
            samples = self.infer([prepared for _, prepared in batch], batch_size)
        except (ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
            if isinstance(error.__cause__, torch.cuda.OutOfMemoryError):
                raise  # of all, and the batch size can be changed
            if len(batch) > 1:
                for one in batch:
                    yield from self._infer_each([one], report, batch_size)
                return
            ((image, _),) = batch
            height, width = image.pixels.shape[:2]
            reason = ' '.join(str(error).split()) or type(error).__name__
            text = f'the model cannot take an image of {width}x{height} pixels ({reason})'
            report(image.name, InputError(f'{image.name}: {text}'))
        else:
            yield from zip((image for image, _ in batch), samples, strict=True)

    def _at_once(self, prepared: Sequence[dict], batch_size: int) -> int:
        if not self._has_masks:
            return batch_size
        largest = max(math.prod(one['data_samples'].ori_shape[:2]) for one in prepared)
        return max(1, min(batch_size, MOST_PIXELS // largest))

    def _padded_size(self, inputs: torch.Tensor) -> tuple[int, ...]:
        divisor = getattr(self.model.data_preprocessor, 'pad_size_divisor', 1)
        return tuple(-(-side // divisor) * divisor for side in inputs.shape[-2:])

    @staticmethod
    def _name_classes(cfg: Config, meta: Mapping, path: str) -> tuple[str, ...]:
        """Name each output of the head, and tell a head that takes its number from data."""
        names = find_classes(cfg, meta)
        count = edit.get_num_classes(cfg)
        if count is None:
            if names is None:
                raise InputError(
                    f'{path} does not name the classes of the model: set their number in the '
                    'config (model.head.num_classes)'
                )
            count = len(names)
            edit.set_num_classes(cfg, count)
        return names or tuple(map(str, range(count)))

    def _apply(self, batch: dict) -> Sequence[Any]:
        """Return what the model predicts for each image of a batch."""
        return self.model.test_step(batch)

    @torch.no_grad()
    def _run(self, batch: dict) -> Sequence[Any]:
        try:
            with warnings.catch_warnings():  # torch warns of MMDetection's code
                warnings.filterwarnings('ignore', message='torch.meshgrid')
                return self._apply(batch)
        except torch.cuda.OutOfMemoryError as error:
            raise InputError(
                f'{self.device} has too little memory for {len(batch["inputs"])} images: give a '
                'smaller --batch-size'
            ) from error


def _encode_masks(sample: BaseDataElement) -> None:
    """Put codes in the place of masks, one after the other: a hundred large ones are a gigabyte."""
    found = getattr(sample, 'pred_instances', None)
    if found is not None and 'masks' in found:
        codes = encode_mask_results(mask.cpu().numpy() for mask in found.masks)
        found.masks = [dict(code, counts=code['counts'].decode()) for code in codes]


def _batches(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while batch := list(islice(items, min(size, sys.maxsize))):
        yield batch
