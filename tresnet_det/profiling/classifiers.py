"""Classifiers side by side on one batch of random images: counts, memory, speed."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError
from .counts import count_parameters, kept_bytes_per_image, largest_output, model_macs
from .memory import does_not_fit, largest_countable, largest_training_batch, peak_memory
from .models import NUM_CLASSES, PUBLISHED_TOP1, ModelSpec
from .settings import Settings, autocast
from .timing import Row, Workload, add_speeds, measure_interleaved

Save = Callable[[Sequence[Row]], object]  # told the rows whenever something is added to them

# Small, so that hundreds of steps on one batch stay finite; it does not change the work.
_LEARNING_RATE = 1e-4


class ClassifierRun:
    """A classifier with its optimizer and a batch of random images and labels.

    Training is forward pass, cross-entropy, backward pass and a step of SGD with momentum, in
    reduced precision under autocast and, for fp16, with a scaled loss. Inference runs under
    ``torch.inference_mode``, by autocast too; models that fold, with their norms folded where the
    settings say so.

    Args:
        spec: The model.
        settings: How it runs.
    """

    def __init__(self, spec: ModelSpec, settings: Settings) -> None:
        self.spec = spec
        self.settings = settings
        plain = spec.build()
        self.model = self._place(plain)
        self._fused = None
        if settings.fuse and spec.folds:
            from ..deploy import fuse_norms

            self._fused = self._place(fuse_norms(plain))
        self._train: Any = self.model
        self._infer: Any = self._fused or self.model
        if settings.compile:
            self.compile()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=_LEARNING_RATE, momentum=0.9, weight_decay=1e-4
        )
        self.scaler = torch.amp.GradScaler(enabled=settings.precision == 'fp16')
        self.set_batch(settings.batch_size)

    def _place(self, model: nn.Module) -> nn.Module:
        return model.to(self.settings.device).to(memory_format=self.settings.memory_format)

    def compile(self, backend: str = 'inductor') -> None:
        """Run the model by ``torch.compile`` from now on."""
        self._train = torch.compile(self._train, backend=backend)
        self._infer = torch.compile(self._infer, backend=backend)

    def set_batch(self, batch_size: int) -> None:
        """Take another batch of so many images."""
        self.batch_size = batch_size
        size, device = self.spec.size, self.settings.device
        self.images = torch.rand(batch_size, 3, size, size, device=device).to(
            memory_format=self.settings.memory_format
        )
        self.labels = torch.randint(NUM_CLASSES, (batch_size,), device=device)

    def train_step(self) -> None:
        """Learn once from the batch."""
        with autocast(self.settings.device.type, self.settings.precision):
            logits = self._train(self.images)
            if not isinstance(logits, torch.Tensor):
                raise InputError(f'{self.spec.name} gives {type(logits).__name__}, not logits')
            loss = F.cross_entropy(logits, self.labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.inference_mode()
    def infer(self) -> torch.Tensor:
        """Return the logits of the batch."""
        with autocast(self.settings.device.type, self.settings.precision):
            return self._infer(self.images)

    def workloads(self) -> dict[str, Workload]:
        """Return training and inference as workloads to time."""
        device = self.settings.device.type
        infers = self._fused or self.model
        inference = Workload(self.infer, self.batch_size, device, infers.eval)
        if self.spec.folds and not self.spec.is_ours:  # it trains as the model it is of
            return {'inference': inference}
        training = Workload(self.train_step, self.batch_size, device, self.model.train)
        return {'training': training, 'inference': inference}

    def train_at(self, batch_size: int) -> None:
        """Train twice with so many images, the second time next to the optimizer's state."""
        try:
            self.set_batch(batch_size)
            self.model.train()
            self.train_step()
            self.train_step()
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            self.images = self.labels = torch.empty(0)  # their memory is free


def count(spec: ModelSpec, settings: Settings) -> Row:
    """Return what is counted and not timed: parameters, MACs, activation memory.

    Raises:
        InputError: If the model does not take the size.
    """
    model = spec.build()
    model.to(settings.device).to(memory_format=settings.memory_format)
    try:
        macs = model_macs(model, spec.size)
    except (AssertionError, ValueError) as error:  # how models refuse a size
        raise InputError(f'{spec.name} does not take {spec.size} pixels: {error}') from error
    return {
        'model': spec.name,
        'size': spec.size,
        'batch_size': settings.batch_size,
        'parameters': count_parameters(model),
        'macs': macs,
        'kept_bytes_per_image': kept_bytes_per_image(
            model, spec.size, settings.batch_size, settings.precision, settings.channels_last
        ),
    }


def measure_memory(
    spec: ModelSpec, settings: Settings, seconds: float = math.inf, most: int | None = None
) -> Row:
    """Return the peak memory of training, and on CUDA the largest batch that trains.

    The peak has all that training adds to the machine: weights, gradients, momentum, activation
    memory, work space. Nothing is measured where models are compiled: the compiler's own memory
    would be part of it, and every batch tried would be compiled again.

    Args:
        spec: The model.
        settings: How it runs.
        seconds: Of the search for the largest batch: see :func:`.largest_training_batch`.
        most: That search ends here; with a number it is made on a CPU, too.

    Raises:
        InputError: If a GPU has not enough memory for the batch.
    """
    if settings.compile:
        return {}
    try:
        with peak_memory(settings.device) as peak:
            run = ClassifierRun(spec, dataclasses.replace(settings, fuse=False))
            run.train_at(settings.batch_size)
    except RuntimeError as error:
        if not does_not_fit(error):
            raise
        raise InputError(
            f'{spec.name}: {settings.batch_size} images of {spec.size} pixels do not fit into '
            'the memory of the GPU: give a smaller --batch-size'
        ) from error
    found: Row = {'peak_bytes': peak.bytes}
    if settings.device.type == 'cuda' or most is not None:
        most = most or largest_countable(largest_output(run.model, spec.size))
        largest, failed = largest_training_batch(run.train_at, most, seconds)
        found |= {'largest_batch': largest, 'smallest_failed': failed}
    return found


def compare(
    specs: Sequence[ModelSpec], settings: Settings, save: Save, speed: bool = True
) -> list[Row]:
    """Count, and where ``speed`` says so time, every model; ratios are to the first.

    Args:
        specs: The models.
        settings: How they run.
        save: Told the rows after each count and each round.
        speed: Whether memory and speed are measured.

    Returns:
        A row per model: see :func:`~tresnet_det.profiling.timing.add_speeds` for the speeds.
    """
    rows: list[Row] = []
    for spec in specs:
        row = count(spec, settings) | {'published_top1': PUBLISHED_TOP1.get(spec.name)}
        if speed:
            row |= measure_memory(spec, settings)
        rows.append(row)
        row['kept_ratio'] = row['kept_bytes_per_image'] / rows[0]['kept_bytes_per_image']
        save(rows)
    if speed:
        contestants = [ClassifierRun(spec, settings).workloads() for spec in specs]
        time_rows(rows, contestants, settings, save)
    return rows


def time_rows(
    rows: list[Row], contestants: Sequence[dict[str, Workload]], settings: Settings, save: Save
) -> None:
    """Time all workloads in turns and add their speeds to the rows, round by round."""

    def after_round(speeds: list[dict[str, list[float]]]) -> None:
        add_speeds(rows, speeds)
        save(rows)

    measure_interleaved(contestants, settings.rounds, settings.min_seconds, after_round)
