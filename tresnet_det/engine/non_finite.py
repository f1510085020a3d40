"""The hook that stops at a loss or gradient that is NaN or infinite, and says where it began.

Only when :class:`StopOnNonFiniteHook` finds one is the batch run again, with a forward hook on each
layer and a hook on each parameter, to find the first of them that is not finite. An exact resume
repeats the step from the last checkpoint, so nothing is saved.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.optim import ApexOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..compat.installed import tool_command
from ..errors import InputError, shell_path
from ..tasks import unwrapped
from .train_loops import random_states, set_random_states

_MOST_FILES = 8  # that a message names
# A dynamic loss scale falls from 65536 to 1 within 16 skipped steps; a fixed one never does.
_MOST_SKIPPED = 20


@HOOKS.register_module()
class StopOnNonFiniteHook(Hook):
    """Stop at the first loss or gradient that is not finite.

    Gradients are checked right before the optimizer's step, so no weight becomes NaN; losses after
    each iteration, before any hook that averages or saves the weights. With accumulated gradients,
    each iteration is checked. In several processes all stop at the same iteration with the same
    message, which names the images of the process whose batch it was.

    A float16 step that the gradient scaler skips is no error while its scale can still fall: it is
    one at a scale of 1 or less (as with bfloat16), or after 20 skipped steps in a row. A loss that
    is not finite always is.

    Raises:
        InputError: At that iteration; before training where the optimizer wrapper or a sharded
            model cannot be checked (a ``ValueError``).
    """

    priority = 'HIGHEST'  # before EMA, logging and checkpoints

    def __init__(self) -> None:
        self._handle: Any = None
        self._skipped = 0  # steps in a row, by the gradient scaler

    def before_train(self, runner: Runner) -> None:
        """Attach the check to the optimizer."""
        wrapper, others = runner.optim_wrapper, (OptimWrapperDict, ApexOptimWrapper)
        if not isinstance(wrapper, OptimWrapper) or isinstance(wrapper, others):
            bad: Any = wrapper
        elif is_model_wrapper(runner.model) and not isinstance(
            runner.model, DistributedDataParallel
        ):
            bad = runner.model
        else:
            self.after_train(runner)  # of an earlier training that was stopped

            @torch.compiler.disable  # mmengine may compile the whole step
            def check(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
                self._before_step(runner, optimizer)

            self._handle = wrapper.optimizer.register_step_pre_hook(check)
            return
        raise InputError(
            f'StopOnNonFiniteHook does not support {type(bad).__name__}: remove it from '
            'custom_hooks'
        )

    def after_train(self, runner: Runner) -> None:
        """Detach it."""
        if self._handle is not None:
            self._handle.remove()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note what a second run of this batch needs."""
        self._batch = data_batch
        self._states = random_states(runner.model)
        self._stepped = False

    def _before_step(self, runner: Runner, optimizer: torch.optim.Optimizer) -> None:
        # A fused optimizer is called for every step and skips it on the device, by this value.
        found_inf = getattr(optimizer, 'found_inf', None)
        self._stepped = found_inf is None or not found_inf.any()
        # Otherwise the gradient scaler has looked at the gradients.
        if _scaler(runner) is None and not _all_finite(_gradient_norms(optimizer)):
            self._stop(runner)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Check the losses, accumulated gradients, and what the gradient scaler skips."""
        wrapper, scaler = runner.optim_wrapper, _scaler(runner)
        values = list(_select_losses(outputs).values())
        stuck = False
        if wrapper.should_update():
            self._skipped = 0 if self._stepped else self._skipped + 1
            if scaler is not None and self._skipped:
                stuck = self._skipped > _MOST_SKIPPED or scaler.get_scale() <= 1
        elif scaler is None:
            values += _gradient_norms(wrapper.optimizer)
        if stuck or not _all_finite(values, in_all_processes=True):
            self._stop(runner, outputs)

    def _stop(self, runner: Runner, outputs: Mapping[str, Any] | None = None) -> None:
        scaler = _scaler(runner)
        scale = scaler.get_scale() if scaler else 1.0
        set_random_states(self._states)
        model = unwrapped(runner.model)
        report, again = _run_again(model, runner.optim_wrapper, self._batch, scale)
        # Norms with shared statistics need all processes up to here.
        losses = _select_losses(again) | _select_losses(outputs)
        report.losses = {name: float(loss) for name, loss in losses.items()}
        reports = all_gather_object(report)
        # With shared statistics one input makes the losses of all processes NaN.
        bad = [r for r in reports if r.bad_inputs] or [r for r in reports if not r.is_finite]
        parts = _describe(bad or reports, runner.iter + 1, len(reports) > 1)
        if scaler is not None:
            parts.append(f'The loss scale is {scale:g}.')
        raise InputError(' '.join([*parts, _advice(runner)]))


def _scaler(runner: Runner) -> torch.amp.GradScaler | None:
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return scaler if scaler is not None and scaler.is_enabled() else None


def _gradient_norms(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Return each gradient's largest absolute value, which does not overflow as a sum would."""
    parameters = (p for group in optimizer.param_groups for p in group['params'])
    gradients = [p.grad for p in parameters if p.grad is not None]
    return list(torch._foreach_norm(gradients, math.inf)) if gradients else []


def _select_losses(outputs: Mapping[str, Any] | None) -> dict[str, torch.Tensor]:
    """Return the losses among what ``train_step`` returned, as mmengine recognizes them."""
    return {
        name: value.detach().reshape(())
        for name, value in (outputs or {}).items()
        if 'loss' in name and isinstance(value, torch.Tensor) and value.numel() == 1
    }


def _all_finite(values: list[torch.Tensor], in_all_processes: bool = False) -> bool:
    """Read with one wait for the device whether all values are finite."""
    if not values:
        return True
    device = values[-1].device
    bad = (~torch.stack([v.to(device, torch.float32) for v in values]).isfinite()).any().int()
    if in_all_processes:
        all_reduce(bad, op='max')
    return not bad


def _advice(runner: Runner) -> str:
    config = Path(runner.work_dir, Path(runner.cfg.filename or '.py').name)
    command = 'the training command with --resume'
    if config.is_file():
        work_dir = shell_path(runner.work_dir)
        command = f'{tool_command("train")} {shell_path(config)} --work-dir {work_dir} --resume'
    return (
        'No checkpoint holds this step. Check these images and their annotations, lower the '
        'learning rate, clip gradients (optim_wrapper.clip_grad) or use bf16 instead of fp16; '
        f'to repeat the step from the last checkpoint: {command}'
    )


@dataclass
class _Report:
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


def _run_again(
    model: BaseModel, wrapper: OptimWrapper, batch: Any, scale: float = 1.0
) -> tuple[_Report, Mapping[str, Any]]:
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
    report = _Report(get_rank(), files, [f for f, ok in zip(files, finite, strict=False) if not ok])
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
def _watch(model: nn.Module, report: _Report) -> Iterator[None]:
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


def _describe(reports: list[_Report], iteration: int, of_several: bool) -> list[str]:
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
