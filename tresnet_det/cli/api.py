"""The tools from Python: ``train`` and ``evaluate`` do what ``train.py`` and ``test.py`` do."""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from ..engine import processes
from ..engine.guest import as_guest
from ..errors import InputError, few, shown
from . import test as test_tool
from . import train as train_tool
from .ending import hush_stack
from .failures import blame_options, explain
from .options import EvaluateOptions, TrainOptions


@dataclass(frozen=True)
class RunResult:
    """What a training or a test came to.

    Attributes:
        work_dir: Where its files are.
        checkpoint: Of a training the best one, or the last one without a validation; of a test
            what was measured. None where the config keeps none.
        metrics: By their names: of a training those of the validation of ``checkpoint``.
    """

    work_dir: Path
    checkpoint: Path | None
    metrics: dict[str, float] = field(repr=False)


def train(config: str | Path, **options: Unpack[TrainOptions]) -> RunResult:
    """Train a model, as ``tools/train.py`` does.

    Args:
        config: Its file, or ``tresnet_det::NAME``.
        **options: The tool's, by their names: ``--work-dir`` is ``work_dir``, and of one without
            a value True; ``cfg_options`` is a dict. ``python -m tresnet_det train --help`` tells
            what each does.

    Raises:
        InputError: What the tool ends with in one line (a ``ValueError``).

    Examples:
        >>> trained = train('configs/fcos_tresnet_m.py', data='my_data', work_dir='work_dirs/mine')
        >>> trained.checkpoint, trained.metrics['coco/bbox_mAP']
    """
    with _called(options):
        runner = train_tool.run(_read(train_tool.parse_args, TrainOptions, options, config))
        info = runner.message_hub.runtime_info
        checkpoint = info.get('best_ckpt') or info.get('last_ckpt')
        return RunResult(
            Path(runner.work_dir),
            None if checkpoint is None else Path(checkpoint),
            train_tool.best_metrics(runner),
        )


def evaluate(
    model: str | Path, checkpoint: str | Path | None = None, **options: Unpack[EvaluateOptions]
) -> RunResult:
    """Measure a checkpoint, as ``tools/test.py`` does.

    Args:
        model: A training's work directory, or a checkpoint in it; or a config, and then
            ``checkpoint``.
        checkpoint: A file, a work directory for the best one in it, or an exported ``.onnx``.
        **options: As of :func:`train`.

    Raises:
        InputError: As of :func:`train`.

    Examples:
        >>> evaluate('work_dirs/mine', data='other_data').metrics
    """
    with _called(options):
        files = (model,) if checkpoint is None else (model, checkpoint)
        args = _read(test_tool.parse_args, EvaluateOptions, options, *files)
        metrics = test_tool.run(args)
        numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, Real)}
        return RunResult(Path(args.work_dir), Path(args.checkpoint), numbers)


def _read(
    parse: Callable, kind: type, options: Mapping[str, Any], *files: object
) -> argparse.Namespace:
    """Let a tool read what its command line would have; of its options, those of a TypedDict."""
    given = dict(options)
    if unknown := [name for name in given if name not in kind.__annotations__]:
        raise InputError(f'no option {few(unknown)}: there are {", ".join(kind.__annotations__)}')
    cfg_options = given.pop('cfg_options', None) or {}
    if not isinstance(cfg_options, Mapping) or not all(isinstance(k, str) for k in cfg_options):
        raise InputError(f'cfg_options must be a dict with keys of text, got {shown(cfg_options)}')
    words: list[str] = []
    for file in files:
        if not isinstance(file, str | os.PathLike):
            raise InputError(f'{shown(file)} is no file: give its path')
        words.append(os.fspath(file))
    for name, value in given.items():
        flag = f'--{name.replace("_", "-")}'
        if isinstance(value, list | tuple):
            if name != 'logger':  # else argparse would take the last one: img_size=(1333, 800)
                raise InputError(f'{name} must be one value, got {shown(value)}')
            words += [f'{flag}={each}' for each in value]
        elif value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words.append(f'{flag}={value}')
    args = parse(words)
    args.cfg_options = dict(cfg_options)
    return args


@contextmanager
def _called(options: Mapping[str, Any]) -> Iterator[None]:
    """Leave the caller's process as it was, and raise in one line what a tool prints in one."""
    with as_guest():
        hush_stack()
        try:
            yield
            processes.leave()
        except Exception as error:
            line = explain(error) or blame_options(error, list(options.get('cfg_options') or ()))
            if line is None or isinstance(error, InputError) and line == str(error):
                raise
            kind = type(error) if isinstance(error, InputError) else InputError
            raise kind(line) from error
