"""Hooks for what goes wrong or is hard to see in a training.

mmengine and MMDetection have hooks for logging, checkpoints, averaging and early stopping, which
the configs use. These do what those do not.
"""

import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import BaseLoop, Runner


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
        loss = _logged(runner, 'loss')
        if loss is not None:
            self.bar.set_postfix_str(f'loss {loss:.3f}', refresh=False)
        self.bar.update()

    def after_train(self, runner: Runner) -> None:
        """Close the bar and give the log its console back; a second call does nothing."""
        self._closing.close()
        self.bar = None


def _logged(runner: Runner, name: str) -> float | None:
    history = runner.message_hub.log_scalars.get(f'train/{name}')
    return None if history is None else float(history.current())
