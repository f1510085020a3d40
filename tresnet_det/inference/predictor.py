"""A trained model applied to images: detection, classification and multi-label alike."""

import copy
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures.mask import encode_mask_results
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement

from ..checkpoints import load_weights, read_checkpoint
from ..checkpoints.load import Checkpoint
from ..datasets.decode import decode_rgb
from ..datasets.pipeline import build_transforms
from ..datasets.transforms import LoadImage
from ..engine import config as edit
from ..engine.backbone_speed import BackboneSpeedHook
from ..engine.building import config_errors
from ..engine.work_dir import find_checkpoint
from ..errors import InputError, MissingFileError
from ..models import ClsDataSample
from ..tasks import find_task
from .inputs import InputImage, Report

BATCH_SIZE = 8
MOST_PIXELS = 16 << 20  # of all images in a batch with masks, each of which is a byte a pixel


class Predictor:
    """A model with its weights, its classes and its test pipeline.

    What it says of an image is what ``tools/test.py`` computes for it with one image a batch:
    the config's test pipeline, the averaged weights where the training kept an average (the
    checkpoint's ``state_dict`` holds them), the model's own threshold and NMS. A batch holds
    images of one padded size alone, so that nothing depends on which others are in it; images
    of many sizes are therefore run in smaller batches, and so are large ones that get masks.

    Args:
        config: A config, or its file.
        checkpoint: A file, or a work directory for the best checkpoint in it.
        device: ``'cpu'``, ``'cuda:0'``, ...; None for a GPU where there is one.

    Attributes:
        model: On the device, in evaluation mode.
        task: ``'detection'``, ``'classification'`` (one label per image) or ``'multilabel'``.
        classes: The names, by number: the checkpoint's, else the config's, else numbers.
        device: As torch names it.

    Raises:
        InputError: The config, the checkpoint and the device do not go together (a ``ValueError``).

    Example:
        >>> predictor = Predictor('configs/fcos_tresnet_m.py', 'work_dirs/fcos_tresnet_m')
        >>> (found,) = predictor.predict(['street.jpg'])
        >>> found.pred_instances.bboxes  # (N, 4), x1 y1 x2 y2 in the image's pixels
    """

    def __init__(
        self, config: str | Path | Config, checkpoint: str | Path, device: str | None = None
    ) -> None:
        self.device = _find_device(device)
        path = find_checkpoint(checkpoint)
        cfg = copy.deepcopy(config) if isinstance(config, Config) else edit.load_config(config)
        weights = read_checkpoint(path)
        self.task = find_task(cfg).name
        init_default_scope(cfg.get('default_scope') or 'mmdet')
        self.classes = _find_classes(cfg, weights)
        edit.drop_pretrained(cfg)  # the checkpoint has all weights
        with config_errors():
            model = revert_sync_batchnorm(MODELS.build(cfg.model))
            self._pipeline = _build_pipeline(cfg, self.task)
        loaders = edit.iterate_dicts([cfg.get('train_dataloader'), cfg.get('test_dataloader')])
        self._has_masks = any(transform.get('with_mask') for transform in loaders)
        load_weights(model, weights)
        self.model = model.to(self.device).eval()
        if any(h.get('channels_last') for h in edit.iterate_dicts(cfg.get('custom_hooks'))):
            # The layout that the config tests in: on a GPU, another one may round otherwise.
            BackboneSpeedHook(channels_last=True).before_run(SimpleNamespace(model=self.model))

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """Read an image file as the task's data sets do: ``(H, W, 3)`` of uint8 in RGB.

        Raises:
            MissingFileError: It is not there.
            InputError: It is no image, or broken.
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
        except (cv2.error, ValueError, RuntimeError, ArithmeticError) as error:
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
        for batch in _batches(self._prepare_each(images, report), batch_size):
            samples = self.infer([prepared for _, prepared in batch], batch_size)
            yield from zip((image for image, _ in batch), samples, strict=True)

    def _prepare_each(
        self, images: Iterable[InputImage], report: Report
    ) -> Iterator[tuple[InputImage, dict]]:
        for image in images:
            try:
                yield image, self.prepare(image.pixels)
            except InputError as error:
                report(image.name, InputError(f'{image.name}: {error}'))

    def _at_once(self, prepared: Sequence[dict], batch_size: int) -> int:
        if not self._has_masks:
            return batch_size
        largest = max(math.prod(one['data_samples'].ori_shape[:2]) for one in prepared)
        return max(1, min(batch_size, MOST_PIXELS // largest))

    def _padded_size(self, inputs: torch.Tensor) -> tuple[int, ...]:
        divisor = getattr(self.model.data_preprocessor, 'pad_size_divisor', 1)
        return tuple(-(-side // divisor) * divisor for side in inputs.shape[-2:])

    @torch.no_grad()
    def _run(self, batch: dict) -> list[BaseDataElement]:
        try:
            return self.model.test_step(batch)
        except torch.cuda.OutOfMemoryError as error:
            raise InputError(
                f'{self.device} has too little memory for {len(batch["inputs"])} images: give a '
                'smaller --batch-size'
            ) from error


class _DetectionPipeline:
    """MMDetection's transforms, without annotations, on images that are in memory.

    Args:
        transforms: The config's test pipeline.

    Raises:
        InputError: No transform in it loads the image.
    """

    def __init__(self, transforms: Sequence[Mapping]) -> None:
        steps = [dict(t) for t in transforms if _kind(t) != 'LoadAnnotations']
        loaders = [t for t in steps if _kind(t) in ('LoadImage', 'LoadImageFromFile')]
        if not loaders:
            raise InputError(
                "test_dataloader's pipeline loads no image: put dict(type='LoadImage') first"
            )
        (loader, *_) = loaders
        options = {k: v for k, v in loader.items() if k not in ('type', 'on_error')}
        self._loader = _Loader(**options)
        loader.clear()
        loader.update(options, type='mmdet.LoadImageFromNDArray')
        self._transforms = Compose(steps)

    def read(self, path: str) -> np.ndarray:
        return self._loader.read(path)

    def prepare(self, image: np.ndarray) -> dict:
        # A detector's pipeline works on BGR, as OpenCV reads it.
        return self._transforms(dict(img=image[..., ::-1], img_id=0))


class _Loader(LoadImage):
    def read(self, path: str) -> np.ndarray:
        """Return ``(H, W, 3)`` in RGB, or say what is wrong with the file and no more."""
        return self._decode(path, self._read(path))[..., ::-1]


class _ClassificationPipeline:
    """torchvision's transforms, as the classification data sets apply them."""

    def __init__(self, transforms: Sequence[Mapping]) -> None:
        self._transforms = build_transforms(transforms, "test_dataloader's pipeline")

    def read(self, path: str) -> np.ndarray:
        return decode_rgb(path).permute(1, 2, 0).numpy()

    def prepare(self, image: np.ndarray) -> dict:
        # In channels-last layout, as the decoder gives it.
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return dict(inputs=self._transforms(tensor), data_samples=ClsDataSample())


def find_run_config(work_dir: str | Path) -> Path:
    """Return the config that a training kept in its work directory, as it was run.

    Raises:
        MissingFileError: There is none, or no such folder.
        InputError: There are several.
    """
    if not Path(work_dir).is_dir():
        raise MissingFileError(
            f"no folder {work_dir}: give a training's work directory, or its config and checkpoint"
        )
    found = sorted(Path(work_dir).glob('*.py'))
    if not found:
        raise MissingFileError(
            f'{work_dir} has no config of a training: name the config, then the checkpoint'
        )
    if len(found) > 1:
        names = ', '.join(path.name for path in found)
        raise InputError(f'{work_dir} has several configs ({names}): name one, then the checkpoint')
    return found[0]


def _find_device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or get_device())
    except RuntimeError:
        raise InputError(f'--device {name}: give cpu, cuda or cuda:NUMBER') from None
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise InputError(f'--device {name}: {there or "no"} GPU is visible: give another, or cpu')
    return device


def _find_classes(cfg: Config, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return a name for each output of the head, and tell a head that takes its number from data.

    Raises:
        InputError: Nothing says how many classes there are.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    parts = list(edit.iterate_dicts(dataset))
    of_config = [part['metainfo'] for part in parts if part.get('metainfo')]
    # What the data set's class knows by itself, as CocoDataset does.
    kinds = [part['type'] for part in parts if 'ann_file' in part]
    kinds = [DATASETS.get(kind) if isinstance(kind, str) else kind for kind in kinds]
    of_kind = [getattr(kind, 'METAINFO', {}) for kind in kinds]
    known = [checkpoint.classes, *(info.get('classes') for info in (*of_config, *of_kind))]
    known = [tuple(map(str, names)) for names in known if isinstance(names, (list, tuple))]
    number = edit.get_num_classes(cfg)
    if number is None and known:
        number = len(known[0])
        edit.set_num_classes(cfg, number)
    if number is None:
        raise InputError(
            f'{checkpoint.source} does not say what classes it knows: set the number in the head '
            'of the config (model.head.num_classes)'
        )
    return next((names for names in known if len(names) == number), tuple(map(str, range(number))))


def _build_pipeline(cfg: Config, task: str) -> _DetectionPipeline | _ClassificationPipeline:
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    found = [d['pipeline'] for d in edit.iterate_dicts(dataset) if 'pipeline' in d]
    if not found:
        raise InputError('the config has no test_dataloader.dataset.pipeline, which prepares them')
    return (_DetectionPipeline if task == 'detection' else _ClassificationPipeline)(found[0])


def _encode_masks(sample: BaseDataElement) -> None:
    """Put codes in the place of masks, one after the other: a hundred large ones are a gigabyte."""
    found = getattr(sample, 'pred_instances', None)
    if found is not None and 'masks' in found:
        codes = encode_mask_results(mask.cpu().numpy() for mask in found.masks)
        found.masks = [dict(code, counts=code['counts'].decode()) for code in codes]


def _kind(transform: Mapping) -> str:
    """The name of a transform's class, whether the config has the name or the class."""
    kind = transform['type']
    return (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]


def _batches(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
