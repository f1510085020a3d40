"""Hooks of a training: curves, a progress bar, shared statistics, a check of what is loaded.

mmengine and MMDetection have hooks for logging, checkpoints, averaging and early stopping, which
the configs use. These do what those do not.
"""

import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import all_reduce_params, get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook, LoggerHook
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint
from mmengine.runner.checkpoint import get_state_dict

from ..checkpoints.classes import describe_start
from ..checkpoints.img_norm import read_img_norm, warn_of_other_img_norm
from ..checkpoints.load import Checkpoint, LoadReport, fit_weights
from ..errors import InputError, shown
from ..tasks import unwrapped
from .config import describe_test_size
from .resume_check import check_resume, find_kept
from .warm_start import data_classes, match_runner


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
class ShareStatisticsHook(Hook):
    """Give each process the mean of all processes' running statistics.

    A norm that does not share its statistics at each step has measured its own process's images
    only. Without this hook the processes validate with different models, of which the first one's
    is saved: a test of the checkpoint then gives another metric than the validation did.

    It works at the end of each epoch and before a validation; checkpoints that an iteration-based
    training saves without one are the first process's. MMEngine's ``SyncBuffersHook`` does this to
    the model, and not to the average of :class:`~mmengine.hooks.EMAHook`, which is what is
    validated and saved.
    """

    def __init__(self) -> None:
        self._shared_at = -1

    def after_train_epoch(self, runner: Runner) -> None:
        """Share them, before the checkpoint is saved."""
        self.before_val_epoch(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Share them, unless the epoch's end has: what is validated is what was saved."""
        if get_world_size() == 1 or runner.iter == self._shared_at:
            return
        self._shared_at = runner.iter
        averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        shared = [
            buffer
            for model in (runner.model, *averages)
            for name, buffer in model.named_buffers()
            if name.endswith(('running_mean', 'running_var'))
        ]
        if shared:
            all_reduce_params(shared, op='mean')


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Refuse a checkpoint that does not fit the model.

    mmengine loads what fits and logs the rest, so that a checkpoint of another network gives an
    AP of nearly 0 and no error. Testing and resuming need every tensor; for ``load_from``, the
    start of a fine-tuning, the whole backbone or a share of ``min_share`` is enough, in which the
    parts of a head that depend on the number of classes do not count. The outputs of the classes
    are matched by name where both know theirs, and others keep their initial values.

    Checkpoints that it is there to save hold the model's image normalization; loading one under
    another is a warning.

    Args:
        min_share: The share of the model's tensors, in [0, 1], that ``load_from`` needs.
    """

    priority = 'HIGH'  # before the EMA hook, which loads the weights itself

    def __init__(self, min_share: float = 0.95) -> None:
        self.min_share = min_share

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write down what the weights were trained with, in ``meta``."""
        preprocessor = getattr(unwrapped(runner.model), 'data_preprocessor', None)
        if preprocessor is not None:
            checkpoint['meta']['input'] = read_img_norm(preprocessor)
        checkpoint['meta']['test_size'] = describe_test_size(runner.cfg)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare, when the file is read and before its weights go into the model.

        mmengine then loads the model's own state dict with everything in it that fits, and has
        nothing to report itself.

        Raises:
            InputError: The checkpoint does not fit.
        """
        source = runner._load_from
        if runner._resume and source is None:  # mmengine has read that record, too
            source = find_latest_checkpoint(runner.work_dir)
        found = Checkpoint(str(source or 'The checkpoint'), checkpoint)
        own, weights, names = get_state_dict(runner.model), found.weights, None
        if not _needs_all(runner):
            weights, names = match_runner(runner, own, found)
        report, state_dict = fit_weights(own, weights, found.source)
        if _needs_all(runner):
            if not report.complete:
                raise report.refuse()
        elif report.share < self.min_share and not _has_backbone(report):
            raise InputError(
                f'{report.refuse()}. A start needs {self.min_share:.0%} of the tensors, or all '
                f'of the backbone; to train all the same, set min_share (now {self.min_share:g}) '
                'of CheckpointGuardHook in custom_hooks lower'
            )
        if runner._resume:
            check_resume(runner, checkpoint, found.source)
            if kept := find_kept(runner, checkpoint):
                runner.logger.warning(
                    f'--resume keeps what the checkpoint has: {kept}; to change it, start from '
                    f'{found.source} by --pretrained'
                )
        if not _needs_all(runner) and (names or not report.complete):
            runner.logger.info(describe_start(report, names))
        if _needs_all(runner) or not report.mismatched.keys() <= {*report.class_count}:
            report.log()
        warn_of_other_img_norm(unwrapped(runner.model), found.meta.get('input'), found.source)
        if _needs_all(runner):
            _warn_of_another_run(runner, found)
        checkpoint['state_dict'] = state_dict
        if 'ema_state_dict' in checkpoint:  # the EMA hook swaps the two by their keys
            other = {
                k: v
                for k, v in checkpoint['ema_state_dict'].items()
                if k == 'steps' or k.removeprefix('module.') in state_dict
            }
            of_other, _ = fit_weights(own, other, f'{found.source}: ema_state_dict')
            if runner._resume and not of_other.complete:
                raise of_other.refuse()
            checkpoint['ema_state_dict'] = other


def _needs_all(runner: Runner) -> bool:
    """Whether the weights are loaded to be tested or resumed, not to be trained further.

    ``Runner.train``, ``val`` and ``test`` each build their loop before they load. A call of
    ``load_checkpoint`` before any of them may be the start of a fine-tuning.
    """
    if runner._resume:
        return True
    evaluates = any(isinstance(loop, BaseLoop) for loop in (runner._val_loop, runner._test_loop))
    return evaluates and not isinstance(runner._train_loop, BaseLoop)


def _warn_of_another_run(runner: Runner, found: Checkpoint) -> None:
    """Warn where the weights are complete, and mean something else in this config."""
    trained, now = found.meta.get('test_size'), describe_test_size(runner.cfg)
    if trained not in (None, now):
        runner.logger.warning(
            f'{found.source} was validated with {shown(trained)}, and this config has {now!r}: '
            'the config in its work directory is the one that it was trained by'
        )
    loops = (runner._train_loop, runner._val_loop, runner._test_loop)
    classes = data_classes(next((loop for loop in loops if isinstance(loop, BaseLoop)), None))
    theirs = found.classes or classes
    if classes and classes != theirs:
        pairs = enumerate(zip_longest(theirs, classes))
        number, (its, ours) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
        runner.logger.warning(
            f'{found.source}: its class {number} is {shown(its)}, and that of the data is '
            f'{shown(ours)}: its outputs are taken for the classes of the data by position'
        )


def _has_backbone(report: LoadReport) -> bool:
    """Whether all of the backbone is loaded; neck and head may be of another kind then."""
    lost = (*report.missing, *report.mismatched)
    there = any(key.startswith('backbone.') for key in report.loaded)
    return there and not any(key.startswith('backbone.') for key in lost)
