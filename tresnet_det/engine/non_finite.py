"""Where a loss or gradient became NaN or infinite: the failed step, run again and described.

Only when :class:`~.hooks.StopOnNonFiniteHook` finds one is the batch run again, with a forward hook
on each layer and a hook on each parameter, to find the first of them that is not finite. An exact
resume repeats the step from the last checkpoint, so nothing is saved.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

_MOST_FILES = 8  # that a message names


@dataclass
class Report:
    """What one process found when it ran its batch of the failed step again."""

    rank: int
    files: list[str]  # of its images
    bad_inputs: list[str]  # those of them whose input is not finite
    losses: dict[str, float] = field(default_factory=dict)  # ``loss``, the sum, first
    layer: str | None = None  # the first in the forward pass with a non-finite output
    parameter: str | None = None  # the first in the backward pass with a non-finite gradient
    error: str | None = None  # why the batch could not be run again

    @property
    def is_finite(self) -> bool:
        """Whether nothing was found in this process."""
        losses = all(map(math.isfinite, self.losses.values()))
        return losses and not (self.bad_inputs or self.parameter)


class _BackwardOnly:
    """An optimizer wrapper for ``train_step`` that makes no step."""

    def __init__(self, wrapper: OptimWrapper, scale: float) -> None:
        self.optim_context = wrapper.optim_context
        self.scale = scale

    def update_params(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        if loss.requires_grad:
            (loss * self.scale).backward()


def run_again(
    model: BaseModel, wrapper: OptimWrapper, batch: Any, scale: float = 1.0
) -> tuple[Report, Mapping[str, Any]]:
    """Compute losses and gradients of a batch once more, uncompiled, and find what is not finite.

    Args:
        model: Without any wrapper for several processes. Gradients and running statistics change.
        wrapper: For the context of the forward pass, such as autocast.
        batch: As the data loader returned it.
        scale: Of the loss, by a gradient scaler.

    Returns:
        What was found, without the losses, and what ``train_step`` returned.
    """
    files = _list_files(batch)
    inputs = batch.get('inputs', ()) if isinstance(batch, dict) else ()
    finite = [_is_finite(image) for image in inputs]
    report = Report(get_rank(), files, [f for f, ok in zip(files, finite, strict=False) if not ok])
    set_stance = getattr(torch.compiler, 'set_stance', None)  # torch 2.6
    uncompiled = set_stance('force_eager') if set_stance else contextlib.nullcontext()
    outputs: Mapping[str, Any] = {}
    model.zero_grad(set_to_none=True)
    with _watch(model, report), uncompiled, torch.enable_grad():
        try:
            # mmengine replaces the instance's method by a compiled one.
            outputs = type(model).train_step(model, batch, _BackwardOnly(wrapper, scale))
        except Exception as error:  # the message about the step matters more
            report.error = f'{type(error).__name__}: {error}'.splitlines()[0]
    return report, outputs


@contextlib.contextmanager
def _watch(model: nn.Module, report: Report) -> Iterator[None]:
    def see_output(name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        if report.layer is None and not _is_finite(output):
            report.layer = f'{name or "the model"} ({type(layer).__name__})'
            if not _is_finite(inputs):
                report.layer += ', whose input is not finite either'

    def see_gradient(name: str, gradient: torch.Tensor) -> None:
        if report.parameter is None and not _is_finite(gradient):
            report.parameter = name

    handles = [
        layer.register_forward_hook(partial(see_output, name))
        for name, layer in model.named_modules()
    ]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            handles.append(parameter.register_hook(partial(see_gradient, name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(value.detach().isfinite().all())
    if isinstance(value, dict):
        value = list(value.values())
    return all(map(_is_finite, value)) if isinstance(value, (list, tuple)) else True


def _list_files(batch: Any) -> list[str]:
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    samples = samples if isinstance(samples, (list, tuple)) else []
    return [str(path) for sample in samples if (path := getattr(sample, 'img_path', None))]


def describe(reports: list[Report], iteration: int, of_several: bool) -> list[str]:
    """Return sentences: what is not finite, at which iteration, on which images, where it began."""
    first = reports[0]
    bad = [loss for loss in first.losses.values() if not math.isfinite(loss)]
    what = f'loss is {bad[0]:g}' if bad else 'gradient is not finite'
    losses = ', '.join(f'{name} = {loss:g}' for name, loss in first.losses.items())
    parts = [f'The {what} at iteration {iteration} ({losses or "losses unknown"}).']
    for report in reports:
        more = len(report.files) - _MOST_FILES
        names = ', '.join(report.files[:_MOST_FILES]) + (f' and {more} more' if more > 0 else '')
        rank = f' (rank {report.rank})' if of_several else ''
        parts.append(f'Images{rank}: {names or "the batch does not name its files"}.')
        if report.bad_inputs:
            parts.append(f'Not finite before the model: {", ".join(report.bad_inputs)}.')
    found = next((r for r in reports if r.layer or r.parameter), first)
    if found.layer:
        parts.append(f'First layer with a non-finite output: {found.layer}.')
    if found.parameter:
        parts.append(f'First parameter with a non-finite gradient: {found.parameter}.')
    if first.error:
        parts.append(f'The batch could not be run again: {first.error}.')
    elif not (found.layer or found.parameter):
        parts.append('A second run of the batch was finite.')
    return parts
