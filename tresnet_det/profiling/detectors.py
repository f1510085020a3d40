"""Training, inference and data loading of whole detectors."""

import contextlib
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope

from ..engine import config as edit
from ..engine.building import config_errors
from ..errors import InputError
from ..models import TResNet
from ..values import check_values
from .classifiers import Save, time_rows
from .counts import count_macs, count_parameters, kept_bytes
from .settings import Settings, autocast
from .timing import Row, Workload

_BOXES = 7  # of each image: what COCO has on average
_NUM_CLASSES = 80  # where no head of the config says it
_LEARNING_RATE = 1e-6  # hundreds of steps on one batch stay finite


@contextlib.contextmanager
def quiet(level: str = 'WARNING') -> Iterator[None]:
    """Keep mmengine from a line for each parameter that it initializes or gives a decay."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


class DetectorRun:
    """A config's detector from scratch, with a batch of random images and boxes.

    All stages learn and all norms measure their statistics, as in a training from scratch, whatever
    the config says for pretrained weights. A training step has the data preprocessor, the losses,
    the backward pass and the config's optimizer; inference has the post-processing. Under
    ``compile``, the backbone is compiled.

    Args:
        cfg: The config; it is changed.
        settings: How it runs.
        size: Pixels a side, or height and width.
    """

    def __init__(self, cfg: Config, settings: Settings, size: int | tuple[int, int]) -> None:
        self.settings = settings
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        edit.use_random_weights(cfg)
        with config_errors(), quiet():
            detector = MODELS.build(cfg.model)
            detector.init_weights()
        self.model = self._place(detector)
        self.infers = self.model
        if settings.fuse and isinstance(detector.backbone, TResNet):
            from ..deploy import fuse_norms

            self.infers = self._place(fuse_norms(detector))
        if settings.compile:
            self.model.backbone.compile()
            self.infers.backbone.compile()
        self.optim_wrapper = self._build_optimizer(cfg)
        self.data = demo_mm_inputs(
            settings.batch_size,
            [[3, *((size, size) if isinstance(size, int) else size)]] * settings.batch_size,
            num_items=[_BOXES] * settings.batch_size,
            num_classes=edit.get_num_classes(cfg) or _NUM_CLASSES,
        )

    def _place(self, model: BaseModel) -> BaseModel:
        return model.to(self.settings.device, memory_format=self.settings.memory_format)

    def _build_optimizer(self, cfg: Config) -> OptimWrapper:
        optim_wrapper = cfg.optim_wrapper
        optim_wrapper.optimizer.lr = _LEARNING_RATE
        if self.settings.precision == 'fp16':  # the loss must be scaled
            optim_wrapper.type = 'AmpOptimWrapper'
        with config_errors(), quiet():
            return build_optim_wrapper(self.model, optim_wrapper)

    def _losses(self) -> dict[str, torch.Tensor]:
        data = self.model.data_preprocessor(self.data, True)
        with autocast(self.settings.device.type, self.settings.precision):
            return self.model(**data, mode='loss')

    def train_step(self) -> None:
        """Learn once from the batch."""
        loss, _ = self.model.parse_losses(self._losses())
        self.optim_wrapper.update_params(loss)

    @torch.inference_mode()
    def infer(self) -> list:
        """Return the batch with what is detected in it."""
        data = self.infers.data_preprocessor(self.data, False)
        with autocast(self.settings.device.type, self.settings.precision):
            return self.infers(**data, mode='predict')

    def workloads(self) -> dict[str, Workload]:
        """Return training and inference as workloads to time."""
        images, device = self.settings.batch_size, self.settings.device.type
        return {
            'training': Workload(self.train_step, images, device, self.model.train),
            'inference': Workload(self.infer, images, device, self.infers.eval),
        }

    def counts(self) -> Row:
        """Return parameters, MACs and the bytes kept, all of the whole detector."""
        self.infers.eval()
        macs = count_macs(self.infer) // self.settings.batch_size
        self.model.train()
        own = [*self.model.parameters(), *self.model.buffers()]
        return {
            'parameters': count_parameters(self.model),
            'macs': macs,
            'kept_bytes_per_image': kept_bytes(self._losses, own) / self.settings.batch_size,
        }


def compare_detectors(
    paths: Sequence[str],
    settings: Settings,
    size: int,
    data_root: str | None,
    save: Save,
) -> tuple[list[Row], list[str]]:
    """Time whole detectors side by side; ratios are to the first.

    Where a config's training images are found, loading them is timed in the same rounds, in one
    process at the config's own size.

    Args:
        paths: Configs.
        settings: How they run.
        size: Pixels a side of the random images.
        data_root: Folder of the training data, in place of the configs' own.
        save: Told the rows after each count and each round.

    Returns:
        A row per detector, and remarks on what could not be measured.
    """
    rows: list[Row] = []
    contestants, remarks = [], []
    for path in paths:
        cfg = edit.load_config(path)
        if data_root:
            edit.set_data_root(cfg, data_root)
        check_values(cfg)
        run = DetectorRun(cfg, settings, size)
        name = Path(path).stem
        row = {'model': name, 'size': size, 'batch_size': settings.batch_size} | run.counts()
        rows.append(row)
        row['kept_ratio'] = row['kept_bytes_per_image'] / rows[0]['kept_bytes_per_image']
        save(rows)
        workloads = run.workloads()
        try:
            workloads['loading'] = loading_workload(cfg)
        except (InputError, OSError) as error:
            missing = str(error)
            if isinstance(error, OSError) and error.filename is not None:
                missing = f'{error.filename}: {error.strerror}'
            remarks.append(f'{name}: loading is not measured: {missing} (--data-root DIR)')
        contestants.append(workloads)
    time_rows(rows, contestants, settings, save)
    return rows, remarks


def loading_workload(cfg: Config) -> Workload:
    """Return loading one training image as a workload, through the config's whole pipeline.

    Raises:
        OSError: If annotations or images are not found.
        InputError: If an image cannot be read.
    """
    # As in a worker process: OpenCV's own threads would count as one process's work.
    cv2.setNumThreads(0)
    # pycocotools prints that it reads.
    with config_errors(), contextlib.redirect_stdout(io.StringIO()):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    order = np.random.default_rng(0).permutation(len(dataset))
    indices = itertools.cycle(order.tolist())
    dataset[next(indices)]  # a missing image shows here
    return Workload(lambda: dataset[next(indices)], images=1)
