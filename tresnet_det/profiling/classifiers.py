"""Training and inference of a classifier on one made-up batch."""

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError
from .counts import count_parameters, kept_bytes_per_image, model_multiply_adds
from .memory import largest_training_batch, peak_memory
from .models import NUM_CLASSES, ModelSpec
from .settings import Settings, autocast
from .timing import Task

# Small, so that hundreds of steps on one batch stay finite; it does not change the work.
_LEARNING_RATE = 1e-4


class ClassifierRun:
    """A classifier with its optimiser and a batch of random images and labels.

    Training is forward pass, cross-entropy, backward pass and a step of SGD with momentum, in
    reduced precision under autocast and, for fp16, with a scaled loss. Inference runs under
    ``torch.inference_mode``, by autocast too; ours with its norms folded where the settings say so.

    Args:
        spec: The model.
        settings: How it runs.
        batch_size: Images a step; the settings' own by default.
    """

    def __init__(self, spec: ModelSpec, settings: Settings, batch_size: int | None = None) -> None:
        self.spec = spec
        self.settings = settings
        plain = spec.build()
        self.model = self._place(spec.change(plain))
        self._fused = None
        if settings.fuse and spec.is_ours:
            from ..deploy import fuse_norms

            self._fused = self._place(spec.change(fuse_norms(plain)))
        self._train = _compiled(self.model, settings)
        self._infer = _compiled(self._fused or self.model, settings)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=_LEARNING_RATE, momentum=0.9, weight_decay=1e-4
        )
        self.scaler = torch.amp.GradScaler(enabled=settings.precision == 'fp16')
        self.set_batch(batch_size or settings.batch_size)

    def _place(self, model: nn.Module) -> nn.Module:
        return model.to(self.settings.device).to(memory_format=self.settings.memory_format)

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

    def tasks(self) -> dict[str, Task]:
        """Return training and inference as tasks to time."""
        device = self.settings.device.type
        infers = self._fused or self.model
        return {
            'training': Task(self.train_step, self.batch_size, device, self.model.train),
            'inference': Task(self.infer, self.batch_size, device, infers.eval),
        }

    def train_at(self, batch_size: int) -> None:
        """Train twice with so many images, the second time beside the optimiser's state."""
        try:
            self.set_batch(batch_size)
            self.model.train()
            self.train_step()
            self.train_step()
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            self.images = self.labels = torch.empty(0)  # their memory is free


def _compiled(model: nn.Module, settings: Settings) -> nn.Module:
    compiled: Any = torch.compile(model) if settings.compile else model
    return compiled


def count(spec: ModelSpec, settings: Settings) -> dict[str, Any]:
    """Return what is counted and not timed, as a row of the table."""
    model = spec.change(spec.build())
    model.to(settings.device).to(memory_format=settings.memory_format)
    try:
        multiply_adds = model_multiply_adds(model, spec.size)
    except (AssertionError, ValueError) as error:  # how models refuse a size
        raise InputError(f'{spec.name} does not take {spec.size} pixels: {error}') from error
    return {
        'model': spec.name,
        'size': spec.size,
        'batch_size': settings.batch_size,
        'parameters': count_parameters(model),
        'multiply_adds': multiply_adds,
        'kept_bytes_per_image': kept_bytes_per_image(
            model, spec.size, settings.batch_size, settings.precision, settings.channels_last
        ),
    }


def measure_memory(spec: ModelSpec, settings: Settings) -> dict[str, Any]:
    """Return the peak memory of training, and on CUDA the largest batch that trains.

    The peak has all that training adds to the machine: weights, gradients, momentum, what is kept
    for backward, work space. Nothing is measured where models are compiled: the compiler's own
    memory would be part of it, and every batch tried would be compiled anew.

    Raises:
        InputError: If a GPU has not enough memory for the batch.
    """
    if settings.compile:
        return {}
    alone = dataclasses.replace(settings, fuse=False)
    try:
        with peak_memory(settings.device) as peak:
            run = ClassifierRun(spec, alone)
            run.train_at(settings.batch_size)
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(
            f'{spec.name}: {settings.batch_size} images of {spec.size} pixels do not fit into '
            'the memory of the GPU: give a smaller --batch-size'
        ) from error
    figures = {'peak_bytes': peak.bytes}
    if settings.device.type == 'cuda':
        figures['largest_batch'] = largest_training_batch(run.train_at)
    return figures
