"""``--logger``: losses and metrics of a training, those of each class too, in a tracker's store.

mmengine has a backend for each package. Two are children here: that of wandb counts calls and not
steps, and copies all Python files below the current folder; MLflow refuses ``coco/bbox_AR@1`` and
what a class may be called, and ends the training.
"""

import importlib
import os
import posixpath
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS, VISBACKENDS
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import ClearMLVisBackend, MLflowVisBackend, WandbVisBackend

from ..errors import InputError
from ..files import write_whole
from ..tasks import type_name
from .config import name_and_message

PROJECT = 'tresnet_det'
RUN_ID = 'logger_run_id'  # a file in the work directory: a resumed training continues the run
LOGGERS = ('tensorboard', 'wandb', 'mlflow', 'clearml')


def add_loggers(cfg: Config, names: Sequence[str]) -> None:
    """Let a training keep its scalars in the stores of these packages, by iteration.

    Args:
        cfg: With its ``work_dir``; changed in place.
        names: Of :data:`LOGGERS`.

    Raises:
        InputError: A package is not installed, or cannot be imported.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # of packages that do not go together
            state = f'cannot be imported ({name_and_message(error)})'
            if isinstance(error, ModuleNotFoundError) and error.name == name:
                state = 'is not installed'
            raise InputError(
                f'--logger {name}: the package {state}: pip install -U {name}'
            ) from error
    if not cfg.get('visualizer'):
        cfg.visualizer = ConfigDict(type='Visualizer')
    kept = list(cfg.visualizer.get('vis_backends') or [dict(type='LocalVisBackend')])
    work_dir = Path(cfg.work_dir).absolute()
    run_id = _run_id(work_dir, bool(cfg.get('resume')))
    for name in dict.fromkeys(names):
        backend = _backend(name, work_dir, run_id)
        kind = backend['type'].removeprefix('Stepwise')  # and the one that an earlier run kept
        kept = [part for part in kept if type_name(part).removeprefix('Stepwise') != kind]
        kept.append(ConfigDict(backend))
    cfg.visualizer['vis_backends'] = kept
    hooks = cfg.default_hooks
    if not hooks.get('logger'):
        hooks['logger'] = ConfigDict(type='LoggerHook')
    # Else the metrics of epoch 2 come after the losses of iteration 100: steps that go back.
    hooks.logger['log_metric_by_epoch'] = False
    others = [h for h in cfg.get('custom_hooks') or [] if type_name(h) != 'ClassScalarsHook']
    cfg.custom_hooks = [*others, ConfigDict(type='ClassScalarsHook')]


def _backend(name: str, work_dir: Path, run_id: str) -> dict[str, Any]:
    title = work_dir.name
    if name == 'tensorboard':
        return dict(type='TensorboardVisBackend')
    if name == 'wandb':
        settings = dict(project=PROJECT, name=title, dir=str(work_dir), resume='allow')
        return dict(type='StepwiseWandbVisBackend', init_kwargs=dict(settings, id=run_id))
    if name == 'mlflow':
        store = f'sqlite:///{work_dir / "mlflow.db"}'
        return dict(
            type='StepwiseMLflowVisBackend',
            exp_name=PROJECT,
            run_name=title,
            run_tag=run_id,
            tracking_uri=os.environ.get('MLFLOW_TRACKING_URI', store),
            artifact_location=None
            if 'MLFLOW_TRACKING_URI' in os.environ
            else (work_dir / 'mlflow').as_uri(),
        )
    task = dict(
        project_name=PROJECT,
        task_name=title,
        reuse_last_task_id=False,
        auto_connect_frameworks=False,  # it would take TensorBoard's scalars, and all checkpoints
        auto_connect_arg_parser=False,
    )
    return dict(type='UnseededClearMLVisBackend', init_kwargs=task, artifact_suffix=('.py',))


def _run_id(work_dir: Path, resumed: bool) -> str:
    """Return the id of the run that a training continues, or a new one, which is kept."""
    file = work_dir / RUN_ID
    if not is_main_process():  # only that one logs
        return ''
    if not (resumed and file.is_file()):
        work_dir.mkdir(parents=True, exist_ok=True)
        write_whole(file, uuid.uuid4().hex.encode())
    return file.read_text()


def drop_loggers(cfg: Config) -> None:
    """Take the trackers out of a config that a training kept: a test would write into its run."""
    visualizer = cfg.get('visualizer') or {}
    if kept := visualizer.get('vis_backends'):
        own = ('StepwiseWandbVisBackend', 'StepwiseMLflowVisBackend', 'UnseededClearMLVisBackend')
        visualizer['vis_backends'] = [part for part in kept if type_name(part) not in own]


@VISBACKENDS.register_module()
class StepwiseWandbVisBackend(WandbVisBackend):
    """mmengine's for wandb, with the training's steps in place of a count of calls."""

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Keep the config."""
        self.experiment.config.update(config.to_dict(), allow_val_change=True)

    def add_image(self, name: str, image: Any, step: int = 0, **kwargs: Any) -> None:
        """Keep an image at the step that stands."""
        wandb = self.experiment
        wandb.log({name: wandb.Image(image)}, commit=False)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Keep a scalar."""
        self.add_scalars({name: value}, step)

    def add_scalars(
        self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Keep scalars of a step, which may come in several calls."""
        self.experiment.log(scalar_dict, step=step)

    def close(self) -> None:
        """Write what is not written yet."""
        if hasattr(self, '_wandb'):
            self._wandb.finish()


@VISBACKENDS.register_module()
class UnseededClearMLVisBackend(ClearMLVisBackend):
    """mmengine's for ClearML, without the seed that ClearML sets in place of the training's.

    It reports by threads: the process that ClearML forks next to the threads of torch often never
    ends, and the training waits for it.
    """

    def _init_env(self) -> None:
        from clearml import Task

        Task.set_random_seed(None)
        Task._report_subprocess_enabled = False  # development.report_use_subprocess of clearml.conf
        super()._init_env()


@VISBACKENDS.register_module()
class StepwiseMLflowVisBackend(MLflowVisBackend):
    """mmengine's for MLflow, with names that it takes, in one run over a resume.

    Args:
        run_tag: By which the run of an interrupted training is found.
        run_name: Of a new run.
        **kwargs: mmengine's.
    """

    def __init__(self, *args: Any, run_tag: str, run_name: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, artifact_suffix=(), tracked_config_keys=())
        self._run_tag, self._title = run_tag, run_name

    def _init_env(self) -> None:
        super()._init_env()
        query = f"tags.run_tag = '{self._run_tag}'"
        found = self._mlflow.search_runs(filter_string=query, output_format='list')
        if found:
            self._mlflow.start_run(run_id=found[0].info.run_id)
        else:
            self._mlflow.start_run(run_name=self._title, tags={'run_tag': self._run_tag})

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Keep a scalar."""
        super().add_scalar(mlflow_name(name), value, step)

    def add_scalars(
        self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Keep scalars."""
        super().add_scalars({mlflow_name(k): v for k, v in scalar_dict.items()}, step)


def mlflow_name(name: str) -> str:
    """Return a metric's name as MLflow takes it: a path of letters, digits and ``_-. :``."""
    parts = re.sub(r'[^\w\-. :/]', '_', name).split('/')
    return posixpath.join(*('_' if set(part) <= {'.'} else part for part in parts))


@HOOKS.register_module()
class ClassScalarsHook(Hook):
    """Log each class's metrics of a validation, of evaluators that have ``per_class``.

    They are named ``coco/AP/CLASS``, ``multilabel/AP/CLASS`` and ``accuracy/top1/CLASS``.
    """

    priority = 'VERY_LOW'

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log them at the iteration of the training."""
        if not isinstance(runner._train_loop, BaseLoop):
            return
        scalars: dict[str, float] = {}
        for metric in runner.val_loop.evaluator.metrics:
            for row in getattr(metric, 'per_class', None) or ():
                scalars |= _of_class(row, metric.prefix)
        if scalars:
            runner.visualizer.add_scalars(scalars, step=runner.iter)


def _of_class(row: Mapping[str, Any], prefix: str) -> dict[str, float]:
    kind = row.get('iou_type', 'bbox')
    return {
        f'{prefix}/{f"{kind}_" * (kind != "bbox")}{key}/{row["name"]}': float(row[key])
        for key in ('AP', 'top1')
        if row.get(key) is not None
    }
