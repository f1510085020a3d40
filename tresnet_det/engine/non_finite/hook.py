"""Stop at the first number that is not finite, before it is in the weights, and say where."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel

from ...errors import InputError
from .plain_batch import boxes_are_finite, find_files, find_non_finite, to_plain
from .replay import Findings, run_again, save_step
from .report import Report, all_finite, choose, describe, read_losses
from .step_guard import Outcome, StepGuard

FOLDER = 'non_finite'  # in the work directory
# Steps in a row that a gradient scaler of a fixed scale may leave out: one that adapts its scale
# comes down from 65536 to 1 within 16.
_MOST_SCALED_DOWN = 20


@dataclass
class _Step:
    """An iteration on which something was not finite, in this process."""

    iteration: int
    batch: Any
    data_batch: Any
    random_states: dict[str, Any]
    losses: dict[str, float]


@HOOKS.register_module()
class StopOnNonFiniteHook(Hook):
    """Stop at the first loss, gradient or true box that is not finite, before the step is made.

    Weights, running statistics, the optimiser's state, averages and checkpoints are from before.
    The message names the iteration, the files, the image or box that is not finite itself, and
    the first module and parameter that are not. Batch, weights and random states are kept in
    ``non_finite/`` of the work directory, for ``tools/replay.py``.

    With accumulated gradients, the update is left out as a whole, and the message names the batch
    that spoiled it. In several processes all decide alike (DDP has given them the same gradients)
    and name the files of the process whose batch it was.

    Steps that the gradient scaler of float16 leaves out are its ordinary work while its scale can
    fall: they count once it is down to 1, or a fixed one has not helped for 20 steps in a row. A
    loss that is not finite counts always.

    Args:
        max_skips: How many such steps of a run are left out with a warning; the next one stops it.
            The average of the weights (EMA) and the learning rate go on as with any other.

    Raises:
        InputError: ``max_skips`` is below 0 (a ``ValueError``).
    """

    # Before mmengine's hook, which logs the losses, and all that average or save the weights.
    priority = 'HIGHEST'

    def __init__(self, max_skips: int = 0) -> None:
        if max_skips < 0:
            raise InputError(f'StopOnNonFiniteHook: max_skips must be at least 0, got {max_skips}')
        self.max_skips = max_skips
        self.skipped = 0
        self._guard: StepGuard | None = None
        self._first: _Step | None = None  # since the last update of the weights
        self._scaled_down = 0

    def before_train(self, runner: Runner) -> None:
        """Take the optimiser wrapper over.

        Raises:
            InputError: It is of a kind that cannot be guarded, or the model is sharded.
        """
        self._release()
        model = runner.model
        if is_model_wrapper(model) and not isinstance(model, DistributedDataParallel):
            raise InputError(
                f'StopOnNonFiniteHook does not work with {type(model).__name__}: take it out of '
                'custom_hooks'
            )
        if isinstance(model, DistributedDataParallel):
            model = model.module
        self._guard = StepGuard(runner.optim_wrapper, model)
        self._guard.install()

    def after_train(self, runner: Runner) -> None:
        """Give the optimiser wrapper back."""
        self._release()

    def _release(self) -> None:
        if self._guard is not None:
            self._guard.remove()
        self._guard = self._first = None

    def _guarding(self) -> StepGuard:
        assert self._guard is not None  # from before_train to after_train
        return self._guard

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep what the forward pass will change."""
        guard = self._guarding()
        guard.begin()
        # Such a box is no target for FCOS: nothing else would become NaN.
        guard.refuse = not boxes_are_finite(data_batch)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Look at what became of the step.

        Raises:
            InputError: Numbers were not finite, and none of the skips is left.
        """
        guard = self._guarding()
        try:
            if self._first is None and self._is_spoiled():
                self._first = self._describe(runner, data_batch, outputs)
                guard.restore()  # a checkpoint may be saved before the next update
            if guard.outcome is Outcome.NONE:
                if self._first is not None:
                    _drop_non_finite(outputs)
                return
            left_out = guard.scaler_left_out_step()
            self._scaled_down = self._scaled_down + 1 if left_out else 0
            is_refused = guard.outcome is Outcome.REFUSED
            if is_refused or (left_out and not self._is_scalers_work(outputs)):
                step = self._first or self._describe(runner, data_batch, outputs)
                guard.restore()
                self._stop_or_skip(runner, step, outputs)
            self._first = None
        finally:
            guard.end()

    def _is_spoiled(self) -> bool:
        """Whether this iteration's accumulated gradients cannot be used any more."""
        guard = self._guarding()
        if guard.outcome is not Outcome.NONE or guard.norm is None:
            return False
        if guard.scaler is not None:  # its gradients may be infinite, and it will see to that
            return guard.refuse or not all_finite(read_losses(guard.losses))
        return not math.isfinite(guard.norm)

    def _is_scalers_work(self, outputs: dict[str, Any] | None) -> bool:
        """Whether the gradients overflowed by the scale alone; all processes come here or none."""
        guard = self._guarding()
        is_fixed = getattr(guard.wrapper, '_scale_update_param', None) is not None
        if is_fixed and self._scaled_down > _MOST_SCALED_DOWN:
            return False
        spoiled = guard.refuse or self._first is not None
        here = spoiled or not all_finite(read_losses(outputs))
        can_fall = guard.scaler is not None and guard.scaler.get_scale() > 1
        return can_fall and not any(all_gather_object(here))

    def _describe(self, runner: Runner, data_batch: Any, outputs: dict[str, Any] | None) -> _Step:
        guard = self._guarding()
        losses = read_losses(outputs)
        return _Step(runner.iter + 1, guard.batch, data_batch, guard.random_states, losses)

    def _stop_or_skip(self, runner: Runner, step: _Step, outputs: dict[str, Any] | None) -> None:
        """Find out where it was, keep it, and stop or go on.

        Raises:
            InputError: None of the skips is left.
        """
        plain = to_plain(step.batch)
        report = Report(
            get_rank(),
            step.iteration,
            step.losses,
            find_files(step.data_batch) or find_files(step.batch),
            find_non_finite(plain),
            self._run_again(runner, step),
        )
        reports = all_gather_object(report)
        bad = choose(reports)
        is_own = report.process in [other.process for other in bad]
        kept = self._keep(runner, step, plain, report) if is_own else None
        # Also so that no process ends, and its launcher the others, while one is writing.
        files = [file for file in all_gather_object(kept) if file]
        scaler = self._guarding().scaler
        message = describe(bad, files, len(reports) > 1, scaler.get_scale() if scaler else None)
        if self.skipped >= self.max_skips:
            self._release()
            raise InputError(f'{message} Then go on from the last checkpoint with --resume.')
        self.skipped += 1
        runner.logger.warning(
            f'{message} Going on without this step: {self.skipped} of at most {self.max_skips}.'
        )
        _drop_non_finite(outputs)

    def _run_again(self, runner: Runner, step: _Step) -> Findings:
        """Run this process's own batch again: DDP has mixed the gradients of all of them."""
        if step.batch is None:
            return Findings()
        model, wrapper = self._guarding().model, self._guarding().wrapper
        try:
            return run_again(
                model,
                step.batch,
                step.random_states,
                lambda: wrapper.optim_context(model),
                self._scale(),
            )
        except Exception as error:  # whatever it is, the message about the step matters more
            runner.logger.warning(f'The step could not be run again: {error}')
            return Findings()

    def _scale(self) -> float:
        scaler = self._guarding().scaler
        return scaler.get_scale() if scaler else 1.0

    def _keep(self, runner: Runner, step: _Step, plain: Any, report: Report) -> str | None:
        """Write the step's file; return its path, None where that failed."""
        suffix = f'_process_{report.process}' if report.process else ''
        path = Path(runner.work_dir, FOLDER, f'iter_{step.iteration}{suffix}.pth')
        guard = self._guarding()
        dtype = getattr(guard.wrapper, 'cast_dtype', None)
        amp = hasattr(guard.wrapper, 'cast_dtype')
        content = dict(
            iteration=step.iteration,
            epoch=runner.epoch + 1,
            process=report.process,
            files=report.files,
            losses=step.losses,
            batch=plain,
            state_dict=guard.model.state_dict(),
            random_states=step.random_states,
            loss_scale=self._scale(),
            autocast=str(dtype or torch.float16).removeprefix('torch.') if amp else None,
            findings=asdict(report.findings),
        )
        try:
            save_step(content, path)
        except Exception as error:  # likewise
            runner.logger.warning(f'{path} could not be written: {error}')
            return None
        return str(path)


def _drop_non_finite(outputs: dict[str, Any] | None) -> None:
    """Keep a loss that was left out from the log's averages, which it would make NaN."""
    if outputs is None:
        return
    for name, value in read_losses(outputs).items():
        if not math.isfinite(value):
            del outputs[name]
