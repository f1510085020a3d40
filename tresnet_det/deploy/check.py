"""Verify an exported file against its model, on images by the config's own test pipeline."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import nn
from torch.export import ExportedProgram

from ..engine.building import config_errors
from ..engine.config import find_test_dataset
from ..errors import InputError, MissingFileError
from ..inference.inputs import image_suffixes
from ..inference.onnx_runner import OnnxModel
from ..inference.pipeline import build_pipeline
from ..tasks import find_task
from .agreement import Agreement, compare
from .fuse import fuse_norms
from .modules import ExportModule
from .programs import least_side

CALIBRATION_IMAGES = 128


class CheckImage(NamedTuple):
    """An image as the config's test pipeline gives it.

    Attributes:
        path: The file.
        image: Resized, ``(H, W, 3)`` of uint8 in RGB.
        original_size: Height and width before that.
        batch: A batch of this one, for the model's ``test_step``.
    """

    path: Path
    image: np.ndarray
    original_size: tuple[int, int]
    batch: dict[str, Any]


def find_images(
    cfg: Config, folder: str | None, count: int, option: str = '--images'
) -> list[Path]:
    """Return image files, evenly out of all that there are, by name.

    Args:
        cfg: Of the model.
        folder: Holds them, at any depth; None for the folder of the config's test images.
        count: How many at most, from 1.
        option: That named the folder.

    Raises:
        MissingFileError: There are none.
    """
    root, where = Path(folder or ''), f'of {option}'
    if folder is None:
        dataset = find_test_dataset(cfg)
        prefix = (dataset.get('data_prefix') or {}).get('img', '')
        root, where = Path(dataset.get('data_root') or '', prefix), 'of the config'
    found = sorted(p for p in root.rglob('*') if p.suffix.lower() in image_suffixes())
    if not found:
        raise MissingFileError(
            f'no image for the check in {root.absolute()}, the folder {where}: give {option} DIR'
            + (', --demo, or --no-check' if option == '--images' else ' or --demo')
        )
    count = min(count, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def find_calibration_images(cfg: Config, folder: str | None) -> list[Path]:
    """Return up to 128 image files, evenly out of a folder, or of the config's training images.

    Raises:
        MissingFileError: There are none.
        InputError: The config has no training images, or does not say where they are.
    """
    if folder is not None:
        return find_images(cfg, folder, CALIBRATION_IMAGES, '--calibration')
    if not cfg.get('train_dataloader'):
        raise InputError('--int8: the config has no train_dataloader: give --calibration DIR')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    with config_errors():
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    count = min(CALIBRATION_IMAGES, len(dataset))
    samples = (dataset[i * len(dataset) // count]['data_samples'] for i in range(count))
    paths = [Path(sample.img_path) for sample in samples if 'img_path' in sample]
    if len(paths) < count:
        raise InputError(
            '--int8: the training pipeline does not keep img_path: give --calibration DIR'
        )
    return paths


def prepare_images(cfg: Config, paths: Iterable[Path]) -> list[CheckImage]:
    """Read image files and prepare them by the test pipeline of a config.

    Raises:
        InputError: One cannot be read.
    """
    pipeline, is_bgr = build_pipeline(cfg), find_task(cfg).detects
    images = []
    for path in paths:
        pixels = pipeline.read(str(path))
        prepared = pipeline.prepare(pixels)
        inputs = prepared['inputs'].flip(0) if is_bgr else prepared['inputs']
        image = np.ascontiguousarray(inputs.permute(1, 2, 0).numpy())
        height, width = pixels.shape[:2]
        images.append(CheckImage(path, image, (height, width), pseudo_collate([prepared])))
    return images


@torch.inference_mode()
def run_model(model: Any, module: ExportModule, image: CheckImage) -> dict[str, np.ndarray]:
    """Return a PyTorch model's answer to an image, in the form of ``onnx_runner.py``.

    Args:
        model: In evaluation mode.
        module: What was exported of it: it has the task and the names of the outputs.
        image: Of :func:`prepare_images`.
    """
    data = model.data_preprocessor(image.batch, False)
    outputs: Iterable[torch.Tensor]
    if module.task == 'detector':
        found = model(**data, mode='predict')[0].pred_instances
        return {
            'boxes': found.bboxes.numpy(),
            'scores': found.scores.numpy(),
            'labels': found.labels.numpy(),
        }
    if module.task == 'classifier':
        logits = model(data['inputs'], mode='tensor')
        outputs = logits, logits.sigmoid() if model.head.multi_label else logits.softmax(1)
    else:
        outputs = model.backbone(data['inputs'])
    return {k: v[0].numpy() for k, v in zip(module.output_names, outputs, strict=True)}


class FileCheck:
    """A file and its model, both on the CPU, with the same number of threads.

    Args:
        path: The ``.onnx`` file.
        model: That it was made of, in evaluation mode.
        module: The exported module.
        images: To compare on, at least one.
    """

    def __init__(
        self, path: str | Path, model: nn.Module, module: ExportModule, images: list[CheckImage]
    ) -> None:
        self.runner = OnnxModel(path, torch.get_num_threads(), ['CPUExecutionProvider'])
        self.model, self.module, self.images = model, module, images
        self.inputs = [self.runner.collate([p.image], [p.original_size]) for p in images]
        self.expected = [run_model(model, module, image) for image in images]
        self._max_per_img: int | None = getattr(module, 'max_per_img', None)
        self._iou_threshold: float = getattr(module, 'iou_threshold', math.inf)

    @property
    def finds_nothing(self) -> bool:
        """Whether a detector has no box on any image, so that nothing is compared."""
        return self._max_per_img is not None and not any(len(a['scores']) for a in self.expected)

    def compare_onnx(self) -> dict[str, Agreement]:
        """Return how the file agrees with the model, by what is compared."""
        found = [self.runner.run(batch)[0] for batch in self.inputs]
        return compare(found, self.expected, self._max_per_img, self._iou_threshold)

    def compare_program(self, program: ExportedProgram) -> dict[str, Agreement]:
        """Return the same of a program of torch.export, on the images that it takes."""
        run, side = program.module(), least_side(program)
        taken = [i for i, x in enumerate(self.inputs) if min(x['images'].shape[2:]) >= side]
        found = [self._run_program(run, self.inputs[i]) for i in taken]
        expected = [self.expected[i] for i in taken]
        if not taken:
            return {}
        return compare(found, expected, self._max_per_img, self._iou_threshold)

    @torch.inference_mode()
    def _run_program(self, run: Callable, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = run(*(torch.from_numpy(value) for value in batch.values()))
        names = self.module.output_names
        answer = {name: value[0].numpy() for name, value in zip(names, outputs, strict=True)}
        count = answer.pop('num', None)
        return answer if count is None else {k: v[:count] for k, v in answer.items()}

    def image_difference(self) -> float | None:
        """Return the largest difference of the runner's images to those of the config's pipeline.

        In 0..255; infinite where they differ in size, None where the runner does not know the
        pipeline.
        """
        if self.runner.metadata['steps'] is None:
            return None
        differences = []
        for image, expected in zip(self.images, self.inputs, strict=True):
            batch = self.runner.prepare([image.path])['images']
            if batch.shape != expected['images'].shape:
                return float('inf')
            differences.append(float(np.abs(batch - expected['images']).max()))
        return max(differences)

    def contestants(self) -> dict[str, Callable[[], object]]:
        """Return what runs the first image: the model, the same folded, and the file.

        The image is prepared already, post-processing is included.
        """
        image, batch, folded = self.images[0], self.inputs[0], fuse_norms(self.model)
        return {
            'PyTorch': lambda: run_model(self.model, self.module, image),
            'PyTorch, norms folded': lambda: run_model(folded, self.module, image),
            'onnxruntime': lambda: self.runner.run(batch),
        }
