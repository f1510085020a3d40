"""Checkpoints that are written whole, and from which a training resumes exactly."""

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.utils import apply_to
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from ..errors import InputError, few
from ..files import remove_unfinished, write_whole
from .train_loops import ResumableEpochTrainLoop, random_states, set_random_states

RECORD = 'last_checkpoint'  # in the work directory, mmengine's name for it
STATE = 'resume'  # the checkpoint's key


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, safe against kills and full disks, for an exact resume.

    Whatever kills the process, and whenever: the file that ``last_checkpoint`` names is there and
    whole, and so is the best checkpoint that this one knows of. Files are written next to their
    names, then renamed; what a new one replaces is removed last, so that the disk needs room for
    one checkpoint more than are kept. A checkpoint is saved once more after a validation at its
    step, when the early stopping and the best metric know of it; a run that was killed before
    makes up for the validation. Only files of the local disk are written so.

    Args:
        on_error: ``'raise'`` ends the training when a checkpoint cannot be written, ``'warn'``
            continues without it; the last one that was written stays either way.
        **kwargs: mmengine's.

    Raises:
        InputError: ``on_error`` is something else.
    """

    file_backend: LocalBackend  # mmengine's attributes, which are set here too
    keep_ckpt_ids: deque[int]

    def __init__(self, on_error: str = 'raise', **kwargs: Any) -> None:
        if on_error not in ('raise', 'warn'):
            raise InputError(
                f"on_error of SafeCheckpointHook is 'raise' or 'warn', not {on_error!r}"
            )
        super().__init__(**kwargs)
        self.on_error = on_error
        self._state: dict[str, Any] | None = None  # of the checkpoint that is resumed
        self._random_states: list[dict[str, Any]] | None = None
        self._replaced: list[str] = []  # names of files that are to be removed
        self._best_is_new = False
        self.seconds_before = 0.0  # that the training took up to the checkpoint it is resumed from
        self._start = time.monotonic()
        self._validated = 0  # the last iteration with a validation after it
        self._extra = 0  # iterations besides whole epochs, where an epoch's length has changed

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep what is put back when everything is built."""
        self._state = checkpoint.get(STATE) if runner._resume else None

    def before_train(self, runner: Runner) -> None:
        """Prepare the folder; where a training is resumed, bring it to where it stood."""
        super().before_train(runner)
        self._find_moved(runner.message_hub.runtime_info)
        self._start = time.monotonic()
        if is_main_process():
            for folder in {str(self.out_dir), runner.work_dir}:
                for name in remove_unfinished(folder) if Path(folder).is_dir() else ():
                    runner.logger.info(f'{name}: removed, a killed run was writing it')
        # torch draws a number where it starts workers: not from the training's own.
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None and isinstance(loop.dataloader, DataLoader):
                loop.dataloader.generator = Generator()
        if self._state is not None:
            self._resume(runner, self._state)

    def _find_moved(self, info: dict[str, Any]) -> None:
        """Let the checkpoints that a resumed training knows be those in its folder now."""
        for key, path in {**_checkpoints(info), 'last_ckpt': info.get('last_ckpt')}.items():
            here = Path(self.out_dir, Path(path or '').name)
            if path and here.is_file():
                info[key] = str(here)
        if self.save_best:
            self._know_best(info)

    def _resume(self, runner: Runner, state: dict[str, Any]) -> None:
        _restore(runner, state)
        self.seconds_before = state.get('seconds', 0.0)  # older checkpoints have none
        self.last_ckpt = runner.message_hub.get_info('last_ckpt')
        self._validated = state['validated']
        # A kill may have come first. Checkpoints alone: a file must not name others.
        suffix = Path(self.filename_tmpl).suffix
        self._replaced = [name for name in state['replaced'] if Path(name).suffix == suffix]
        self._remove_replaced()
        loop, length = runner.train_loop, len(runner.train_dataloader)
        done, length_then = state['epoch_batches']
        if done and not (length == length_then and getattr(loop, 'can_skip', False)):
            why = f'{type(loop).__name__} cannot begin in the middle of this loader'
            if length != length_then:
                why = f'an epoch has {length} batches now'
            runner.logger.warning(
                f'epoch {runner.epoch + 1}, of which {done} batches were done, begins again: {why}'
            )
            done = 0
        self._extra = runner.iter - done - runner.epoch * length
        if isinstance(loop, ResumableEpochTrainLoop):
            loop.first_batch = done
        if not done and self._validated != runner.iter and _is_validation_due(runner):
            runner.logger.info(
                'the validation after this checkpoint was not finished: it comes now'
            )
            runner.val_loop.run()

    def after_val(self, runner: Runner) -> None:
        """Save the last checkpoint again, with what the validation changed in all hooks."""
        if not isinstance(runner._train_loop, BaseLoop):  # runner.val() alone
            return
        self._validated = runner.iter
        step = runner.epoch if self.by_epoch else runner.iter
        if self.last_ckpt is None:
            self._remove_replaced()
        elif self._best_is_new or Path(self.last_ckpt).name == self.filename_tmpl.format(step):
            self._save_checkpoint_with_step(
                runner, step, meta=dict(epoch=runner.epoch, iter=runner.iter)
            )
        self._best_is_new = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add what mmengine leaves out, where the checkpoint is for resuming."""
        if 'optimizer' not in checkpoint:
            return
        done, length = 0, len(runner.train_dataloader)
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            meta = checkpoint['meta']
            done = meta['iter'] - meta['epoch'] * length - self._extra
        checkpoint[STATE] = dict(
            _collect(runner),
            random_states=self._random_states or [random_states(runner.model)],
            epoch_batches=(done, length),
            validated=self._validated,
            seconds=self.seconds_before + time.monotonic() - self._start,
            replaced=self._replaced,
        )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        name = self.filename_tmpl.format(step)
        path = self.file_backend.join_path(self.out_dir, name)
        info, replaced = runner.message_hub.runtime_info, self._replaced
        before = {key: info.get(key) for key in ('last_ckpt', 'keep_ckpt_ids')}
        if self.max_keep_ckpts > 0:
            steps = [kept for kept in self.keep_ckpt_ids if kept != step] + [step]
            dropped, steps = steps[: -self.max_keep_ckpts], steps[-self.max_keep_ckpts :]
            self._replaced = replaced + [self.filename_tmpl.format(old) for old in dropped]
            runner.message_hub.update_info('keep_ckpt_ids', steps)
        runner.message_hub.update_info('last_ckpt', path)
        self._random_states = all_gather_object(random_states(runner.model))
        failure = None
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                write_whole(Path(runner.work_dir, RECORD), str(path).encode())
        except OSError as error:
            failure = self._describe(error)
        self._random_states = None
        failure = _of_main_process(failure)
        if failure is not None:
            info.update(before)
            self._replaced = replaced
            self._fail(runner, *failure)
            return
        self.last_ckpt = path
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
        self._remove_replaced()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Save it if it is one.

        mmengine would remove the previous one first, and save the last one again while other hooks
        have not seen the validation yet: it does neither where it knows of none, and after_val
        makes up for both.
        """
        if not self.save_best or not isinstance(runner._train_loop, BaseLoop):
            return
        unknown = [key for key in self.key_indicators if key != 'auto' and key not in metrics]
        if unknown and metrics:
            raise InputError(
                f'save_best={unknown[0]!r} of the checkpoint hook: the validation gives '
                f'{few(metrics, 12)}'
            )
        info, last = runner.message_hub.runtime_info, self.last_ckpt
        before = {key: value for key, value in info.items() if key.startswith('best_')}
        self.last_ckpt, failure = None, None
        self._know_best({})
        try:
            super()._save_best_checkpoint(runner, metrics)
        except OSError as error:
            failure = self._describe(error)
        failure = _of_main_process(failure)
        if failure is not None:
            _take_back(info, before, failure[0])
        self.last_ckpt = last
        self._know_best(info)
        names = [Path(path).name for path in _checkpoints(info).values()]
        olds = [Path(path).name for path in _checkpoints(before).values()]
        self._replaced = self._replaced + [name for name in olds if name not in names]
        self._best_is_new = names != olds
        if failure is not None:
            self._fail(runner, *failure)

    def _know_best(self, info: Mapping[str, Any]) -> None:
        """Set what mmengine takes for the previous best checkpoints."""
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = info.get('best_ckpt')
        else:
            known = {key: info.get(f'best_ckpt_{key}') for key in self.key_indicators}
            self.best_ckpt_path_dict = known

    def _remove_replaced(self) -> None:
        if is_main_process():
            for name in self._replaced:
                path = self.file_backend.join_path(self.out_dir, Path(name).name)
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)
        self._replaced = []

    def _describe(self, error: OSError) -> tuple[str, str]:
        """Return the file and the reason, as the other processes can be told."""
        return str(error.filename or self.out_dir), error.strerror or str(error)

    def _fail(self, runner: Runner, path: str, reason: str) -> None:
        message = f'{path} cannot be written: {reason}'
        last = self.last_ckpt
        if self.on_error == 'warn':
            kept = f', {last} stays the last checkpoint' if last else ''
            runner.logger.warning(f'{message}; the training continues{kept}')
            return
        resume = f'fix that, and --resume continues from {last}' if last else 'none was saved yet'
        raise InputError(f'{message}; {resume}')


def _of_main_process(value: Any) -> Any:
    """Return the main process's value in all: they must go the same way."""
    values = [value]
    broadcast_object_list(values)
    return values[0]


def _checkpoints(info: Mapping[str, Any]) -> dict[str, str]:
    return {key: path for key, path in info.items() if key.startswith('best_ckpt') and path}


def _take_back(info: dict[str, Any], before: Mapping[str, Any], unwritten: str) -> None:
    """Forget a best checkpoint and its metric; of several metrics, others may be saved."""
    for key, path in _checkpoints(info).items():
        if str(Path(path)) == unwritten:
            for name in (key, key.replace('ckpt', 'score', 1)):
                info.pop(name)
                if name in before:
                    info[name] = before[name]


def _collect(runner: Runner) -> dict[str, Any]:
    """Return what the early stopping has seen, and gradients that are still being accumulated.

    Those are of one process only: of several, each has its own.
    """
    stopping = [
        dict(monitor=hook.monitor, wait_count=hook.wait_count, best_score=hook.best_score)
        for hook in runner.hooks
        if isinstance(hook, EarlyStoppingHook)
    ]
    gradients = {}
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapper) and get_world_size() == 1 and not wrapper.should_update():
        named = runner.model.named_parameters()
        gradients = {name: p.grad.cpu() for name, p in named if p.grad is not None}
    return dict(early_stopping=stopping, gradients=gradients)


def _restore(runner: Runner, state: Mapping[str, Any]) -> None:
    """Put back what :func:`_collect` found, and the random states of all processes, by rank.

    Args:
        runner: Before its first iteration.
        state: Both, the random states as ``random_states``.
    """
    state = apply_to(state, lambda x: isinstance(x, Tensor), lambda x: x.cpu())
    for name, parameter in runner.model.named_parameters():
        if name in state['gradients']:
            parameter.grad = state['gradients'][name].to(parameter.device)
    for hook in runner.hooks:
        if isinstance(hook, EarlyStoppingHook):
            _restore_stopping(runner, hook, state['early_stopping'])
    if len(state['random_states']) == get_world_size():
        set_random_states(state['random_states'][get_rank()])
    else:
        runner.logger.warning(
            f'{get_world_size()} processes resume a training of {len(state["random_states"])}: the '
            'training is as good, but not the one that it would have been'
        )


def _restore_stopping(runner: Runner, hook: EarlyStoppingHook, saved: list[dict]) -> None:
    for entry in saved:
        if entry['monitor'] != hook.monitor:
            continue
        hook.wait_count, hook.best_score = entry['wait_count'], entry['best_score']
        reached = hook.stopping_threshold is not None and hook.rule_map[hook.rule](
            hook.best_score, hook.stopping_threshold
        )
        if reached or hook.wait_count >= hook.patience:
            runner.train_loop.stop_training = True
            runner.logger.info(
                f'the training was stopped early, by {hook.monitor}: raise patience (now '
                f'{hook.patience}) of EarlyStoppingHook to continue'
            )


def _is_validation_due(runner: Runner) -> bool:
    """Whether the training stands where its loop, if it is one of mmengine's, validates."""
    loop = runner.train_loop
    if not isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop):
        return False
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, end = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
    loop._decide_current_val_interval()
    return bool(
        runner.val_loop is not None
        and done
        and done >= loop.val_begin
        and (done % loop.val_interval == 0 or done == end)
    )
