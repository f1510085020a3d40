"""Hooks for what goes wrong or is hard to see: curves, a bar, NaN, what is loaded.

mmengine and MMDetection have hooks for logging, checkpoints, averaging and early stopping, which
the configs use. These do what those do not.
"""

import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, all_reduce, is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.optim import ApexOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint
from mmengine.runner.checkpoint import get_state_dict
from torch.nn.parallel import DistributedDataParallel

from ..checkpoints.img_norm import read_img_norm, warn_of_other_img_norm
from ..checkpoints.load import Checkpoint, fit_weights
from ..compat.installed import tool_command
from ..errors import InputError, shell_path
from ..tasks import unwrapped
from .non_finite import describe, run_again
from .train_loops import random_states, set_random_states

# A dynamic loss scale falls from 65536 to 1 within 16 skipped steps; a fixed one never does.
_MOST_SKIPPED = 20


@HOOKS.register_module()
class CurvesHook(Hook):
    """Keep ``curves.png`` in the work folder: losses, validation metrics, learning rate.

    It is drawn after each validation and at the end of the training. An image that fails is a
    warning and never the end of a training.

    Args:
        file_name: The image's name in the work folder.
    """

    priority = 'LOWEST'  # after the logger hook wrote the metrics and the checkpoint is saved

    def __init__(self, file_name: str = 'curves.png') -> None:
        self.file_name = file_name

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw, if the validation belongs to a training."""
        if isinstance(runner._train_loop, BaseLoop):
            self._draw(runner)

    def after_train(self, runner: Runner) -> None:
        """Draw once more, for trainings without validation."""
        self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        if not is_main_process():
            return
        try:
            # Here, since matplotlib takes its time and may be absent.
            from ..evaluation.plots import draw_curves, read_records

            records: list[dict[str, Any]] = []
            for log in self._logs(runner):
                if log.is_file():  # a training that had nothing left to do has none
                    records = _continue(records, read_records(log))
            if not records:
                return
            draw_curves(
                records,
                Path(runner.work_dir) / self.file_name,
                val_unit='epoch' if _logs_epochs(runner) else 'iteration',
                title=f'Training curves of {runner.experiment_name}',
            )
        except Exception as error:  # whatever it is, the training matters more
            runner.logger.warning(f'{self.file_name} could not be drawn: {error}')

    @staticmethod
    def _logs(runner: Runner) -> list[Path]:
        """This run's log, after those of the runs that a resumed training continues."""
        own = Path(runner.log_dir) / 'vis_data' / 'scalars.json'
        if not runner._resume:
            return [own]
        earlier = Path(runner.work_dir).glob('*/vis_data/scalars.json')  # named by start time
        return [*sorted(log for log in earlier if log.parts[-3] < own.parts[-3]), own]


def _logs_epochs(runner: Runner) -> bool:
    loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
    return any(hook.log_metric_by_epoch for hook in loggers)


def _continue(earlier: list[dict[str, Any]], later: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of a training and of the run that resumed it, without what was done twice."""
    kept = []
    for training in (True, False):
        begin = min((r['step'] for r in later if ('lr' in r) == training), default=math.inf)
        kept += [r for r in earlier if ('lr' in r) == training and r['step'] < begin]
    return kept + later


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show a bar over the whole training: iterations, time left, loss.

    On the main process only, and only where stderr is a terminal. Log lines stay whole lines,
    above the bar.

    Args:
        force: Show the bar where stderr is no terminal too.
    """

    priority = 'VERY_LOW'

    def __init__(self, force: bool = False) -> None:
        self.force = force
        self.bar = None
        self._closing = ExitStack()

    def before_train(self, runner: Runner) -> None:
        """Open the bar; a resumed training starts where it stands."""
        if not is_main_process() or not (self.force or sys.stderr.isatty()):
            return
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        bar = tqdm(
            total=runner.max_iters,
            initial=runner.iter,
            desc='train',
            unit='it',
            dynamic_ncols=True,
            smoothing=0.05,
            file=sys.stderr,
        )
        self.bar = self._closing.enter_context(bar)
        level = runner.logger.handlers[0].level  # of mmengine's console; tqdm forgets it
        self._closing.enter_context(logging_redirect_tqdm([runner.logger]))
        runner.logger.handlers[-1].setLevel(level)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Advance by one, with the loss that mmengine has read for its log."""
        if self.bar is None:
            return
        history = runner.message_hub.log_scalars.get('train/loss')
        if history is not None:
            self.bar.set_postfix_str(f'loss {history.current():.3f}', refresh=False)
        self.bar.update()

    def after_train(self, runner: Runner) -> None:
        """Close the bar and give the log its console back; a second call does nothing."""
        self._closing.close()
        self.bar = None


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
        report, again = run_again(model, runner.optim_wrapper, self._batch, scale)
        # Norms with shared statistics need all processes up to here.
        losses = _select_losses(again) | _select_losses(outputs)
        report.losses = {name: float(loss) for name, loss in losses.items()}
        reports = all_gather_object(report)
        # With shared statistics one input makes the losses of all processes NaN.
        bad = [r for r in reports if r.bad_inputs] or [r for r in reports if not r.is_finite]
        parts = describe(bad or reports, runner.iter + 1, len(reports) > 1)
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


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Refuse a checkpoint that does not fit the model.

    mmengine loads what fits and logs the rest, so that a checkpoint of another network gives an
    AP of nearly 0 and no error. Testing and resuming need every tensor; for ``load_from``, the
    start of a fine-tuning, a share of ``min_share`` is enough, in which the parts of a head
    that depend on the number of classes do not count. Checkpoints that it is there to save hold
    the model's image normalization; loading one under another is a warning.

    Args:
        min_share: The share of the model's tensors, in [0, 1], that ``load_from`` needs.
    """

    priority = 'HIGH'  # before the EMA hook, which loads the weights itself

    def __init__(self, min_share: float = 0.95) -> None:
        self.min_share = min_share

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write down what the weights were trained with, in ``meta['input']``."""
        preprocessor = getattr(unwrapped(runner.model), 'data_preprocessor', None)
        if preprocessor is not None:
            checkpoint['meta']['input'] = read_img_norm(preprocessor)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare, when the file is read and before its weights go into the model.

        mmengine then loads the model's own state dict with everything in it that fits, and has
        nothing to report itself.

        Raises:
            InputError: The checkpoint does not fit.
        """
        latest = find_latest_checkpoint(runner.work_dir) if runner._resume else None
        found = Checkpoint(str(runner._load_from or latest or 'The checkpoint'), checkpoint)
        report, state_dict = fit_weights(get_state_dict(runner.model), found.weights, found.source)
        if _needs_all(runner):
            if not report.complete:
                raise report.refuse()
        elif report.share < self.min_share:
            raise InputError(
                f'{report.refuse()}. load_from needs {self.min_share:.0%} of the tensors; to '
                f'train all the same, set min_share (now {self.min_share:g}) of '
                'CheckpointGuardHook in custom_hooks lower'
            )
        if runner._resume:
            for key in ('epoch', 'iter'):
                if not isinstance(found.meta.get(key), int):
                    raise InputError(f'{found.source}: meta has no {key!r}: nothing to resume')
        report.log()
        warn_of_other_img_norm(unwrapped(runner.model), found.meta.get('input'), found.source)
        checkpoint['state_dict'] = state_dict
        if 'ema_state_dict' in checkpoint:  # the EMA hook swaps the two by their keys
            checkpoint['ema_state_dict'] = {
                k: v
                for k, v in checkpoint['ema_state_dict'].items()
                if k == 'steps' or k.removeprefix('module.') in state_dict
            }


def _needs_all(runner: Runner) -> bool:
    """Whether the weights are loaded to be tested or resumed, not to be trained further.

    ``Runner.train``, ``val`` and ``test`` each build their loop before they load. A call of
    ``load_checkpoint`` before any of them may be the start of a fine-tuning.
    """
    if runner._resume:
        return True
    evaluates = any(isinstance(loop, BaseLoop) for loop in (runner._val_loop, runner._test_loop))
    return evaluates and not isinstance(runner._train_loop, BaseLoop)
