"""From a config to a runner: what it begins with, its checks, and what its work directory has.

A mistake of the config is one line. Of a work directory, this finds the last whole checkpoint, from
which a training resumes, and the best one, which is tested.
"""

import json
import logging
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..compat.checkpoint_io import load_checkpoint_file
from ..errors import InputError, MissingFileError
from ..files import write_whole
from ..layers import InPlaceABN
from ..tasks import unwrapped
from . import processes
from .checkpoint_hook import RECORD
from .config import drop_pretrained, iterate_dicts

SUMMARY = 'summary.json'

# A type that the registry does not know, or an argument that the type does not.
_FROM_REGISTRY = re.compile(
    r'is not in the .* registry|__init__\(\) (got an unexpected keyword|missing \d+ required)'
)
# What a runner was asked to do without the part of the config for it.
_WITHOUT_LOOP = re.compile(r'`self\._(train|val|test)_loop` should not be None')
# What a loop consists of: all of it or none.
_LOOPS = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)
# By what paramwise_cfg multiplies them: the optimizer's values that it needs.
_MULTIPLIED = {'weight_decay': ('decay_mult',), 'lr': ('lr_mult', 'custom_keys')}
# What the stack below logs of itself at every run, and what nobody can act on.
_STACK_NOISE = re.compile(r'^paramwise_options -- |"FileClient" will be|"HardDiskBackend" is the')


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, without the stack's remarks on itself in its log.

    Raises:
        InputError: If the model or the data of the config does not fit together.
    """
    _check_work_dir(Path(cfg.work_dir))
    processes.keep_log(cfg.work_dir)
    _check_loops(cfg)
    _check_multipliers(cfg)
    with config_errors():
        runner = Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)
    runner.logger.addFilter(lambda record: not _STACK_NOISE.search(record.getMessage()))
    _check_channels(cfg, runner)
    _count_accumulated(cfg, runner)
    _warn_of_decayed_norms(cfg, runner)
    return runner


@contextmanager
def config_errors() -> Iterator[None]:
    """Name in one line a type or an argument of the config that does not exist, or a missing loop.

    mmengine builds loaders, loops and optimizers when they are first used, so this belongs around
    training and testing too.

    Raises:
        InputError: Instead of the registry's ``KeyError``, the constructor's ``TypeError``, or the
            runner's ``RuntimeError``.
    """
    try:
        yield
    except (KeyError, TypeError) as error:
        message = str(error.args[0]) if error.args else ''
        if message == 'None is not a callable object':  # an optimizer that torch does not have
            message = 'the config names an optimizer, or another type, that does not exist'
        elif not _FROM_REGISTRY.search(message):
            raise
        raise InputError(message) from error
    except RuntimeError as error:
        found = _WITHOUT_LOOP.match(str(error))
        if not found:
            raise
        needed = ', '.join(next(keys for keys in _LOOPS if keys[0].startswith(found[1])))
        raise InputError(f'the config has nothing to {found[1]} with: set {needed}') from error


def _check_loops(cfg: Config) -> None:
    """Refuse a loop without its loader, its evaluator or its optimizer, or one of these alone."""
    for keys in _LOOPS:
        missing = [key for key in keys if cfg.get(key) is None]
        if missing and len(missing) < len(keys):
            given = ' and '.join(key for key in keys if key not in missing)
            raise InputError(
                f'the config has {given} without {" and ".join(missing)}: set all of '
                f'{", ".join(keys)}, or none'
            )
    if cfg.get('param_scheduler') and cfg.get('optim_wrapper') is None:
        raise InputError('the config has param_scheduler without optim_wrapper: set both, or none')


def _check_multipliers(cfg: Config) -> None:
    """Refuse factors of a learning rate or weight decay that the optimizer's config has not."""
    wrapper = cfg.get('optim_wrapper') or {}
    optimizer = wrapper.get('optimizer')
    if not isinstance(optimizer, Mapping):  # of several optimizers, or built already
        return
    rules = {key for part in iterate_dicts(wrapper.get('paramwise_cfg')) for key in part}
    for value, endings in _MULTIPLIED.items():
        factors = sorted(rule for rule in rules if rule.endswith(endings))
        if factors and optimizer.get(value) is None:
            raise InputError(
                f'optim_wrapper.paramwise_cfg has {" and ".join(factors)}, and '
                f'optim_wrapper.optimizer no {value}: add {value} to the optimizer'
            )


def _check_work_dir(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f'--work-dir {path} is a file: give a folder')
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'--work-dir {path} cannot be made: {error.strerror}') from error


def _check_channels(cfg: Config, runner: Runner) -> None:
    """Compare neck and head with the backbone's channels, which PyTorch would report as a shape."""
    given = getattr(getattr(unwrapped(runner.model), 'backbone', None), 'out_channels', None)
    if not isinstance(given, tuple):
        return
    neck = cfg.model.get('neck') or {}
    if isinstance(neck, (list, tuple)):  # ATSS with DyHead has two
        neck = neck[0]
    taken = neck.get('in_channels')
    # A single number is of a neck that takes the last level, as YOLOF's.
    if isinstance(taken, (list, tuple)) and tuple(taken) != given:
        raise InputError(
            f'model.neck.in_channels is {list(taken)}, but the backbone gives {list(given)}: '
            'set it to that'
        )
    taken = (cfg.model.get('head') or {}).get('in_channels')
    if taken is not None and taken != given[-1]:  # of a classifier
        raise InputError(
            f'model.head.in_channels is {taken}, but the backbone gives {given[-1]}: set it to that'
        )


def _count_accumulated(cfg: Config, runner: Runner) -> None:
    """Scale the learning rate to all images of an optimizer's step, of all the batches too.

    mmengine, which scales it, counts one batch of each process.
    """
    times = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    scale = cfg.get('auto_scale_lr') or {}
    if times == 1 or not scale.get('enable') or not cfg.get('train_dataloader'):
        return
    base, batch = scale['base_batch_size'], cfg.train_dataloader['batch_size']
    real = runner.world_size * batch * times
    runner.auto_scale_lr = dict(scale, base_batch_size=base / times)
    runner.logger.info(
        f'The learning rate is for {base} images per step and a step has {real} here: '
        f'{runner.world_size} processes x batch {batch} x {times} accumulated. Scaling it by '
        f'{real / base:g}.'
    )
    runner.logger.addFilter(lambda record: 'LR is set based on' not in record.getMessage())


def _warn_of_decayed_norms(cfg: Config, runner: Runner) -> None:
    paramwise = (cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {}
    if 'norm_decay_mult' not in paramwise or 'flat_decay_mult' in paramwise:
        return
    if any(isinstance(module, InPlaceABN) for module in runner.model.modules()):
        runner.logger.warning(
            'paramwise_cfg.norm_decay_mult does not reach In-Place ABN: use flat_decay_mult'
        )


def resume_from(cfg: Config, checkpoint: str) -> str | None:
    """Make a training resume from a checkpoint, which brings all weights.

    Args:
        cfg: With its ``work_dir``.
        checkpoint: A file, a work directory for the latest one in it, or ``'auto'`` for the
            config's own work directory.

    Returns:
        The checkpoint; None where the work directory has none yet: training starts from the
        beginning.

    Raises:
        MissingFileError: If the file does not exist.
        InputError: If it is damaged.
    """
    if checkpoint == 'auto':
        found = find_last_checkpoint(cfg.work_dir)
        if found is None:
            return None
        checkpoint = found
    elif Path(checkpoint).is_dir():
        checkpoint = find_last_checkpoint(checkpoint) or checkpoint
    elif Path(checkpoint).is_file():
        problem = _find_problem(Path(checkpoint))
        if problem:
            whole = _newest_whole({Path(checkpoint).parent})
            advice = f'; the newest whole one next to it is {whole}' if whole else ''
            raise InputError(f'--resume: {checkpoint} is {problem}{advice}')
    if not Path(checkpoint).is_file():
        raise MissingFileError(f'--resume: no checkpoint at {Path(checkpoint).resolve()}')
    cfg.resume = True
    cfg.load_from = checkpoint
    return checkpoint


def choose_weights(cfg: Config, resume: str | None, pretrained: str | None) -> None:
    """Decide what a training begins with: ``--resume``, then ``load_from``, then ``init_cfg``.

    Each has all the weights of those after it, which are dropped with a line each.

    Args:
        cfg: With its ``work_dir``, and ``pretrained`` in its backbone's ``init_cfg``.
        resume: See :func:`resume_from`; None for a training that is not resumed.
        pretrained: What ``--pretrained`` names.

    Raises:
        MissingFileError: If there is no such checkpoint.
        InputError: If it is corrupt, or ``--pretrained`` and ``load_from`` are both given.
    """
    if pretrained and cfg.get('load_from'):
        raise InputError(
            f'--pretrained {pretrained}: load_from={cfg.load_from} has the weights of the backbone '
            'too; drop --pretrained, or add --cfg-options load_from=None'
        )
    if resume and not resume_from(cfg, resume):
        print_log(f'--resume: no checkpoint in {cfg.work_dir} yet, starting from the beginning')
    if cfg.get('load_from'):
        chosen = '--resume' if cfg.get('resume') else 'load_from'
        for change in drop_pretrained(cfg, str(cfg.load_from)):
            print_log(f'{chosen}: {change}')


def find_last_checkpoint(work_dir: str | Path) -> str | None:
    """Return the last checkpoint of a training, None if it has written none.

    It is the one that ``last_checkpoint`` names, if it is whole. Otherwise a warning says why not
    and which is: of the others, the one with the most iterations.

    Raises:
        InputError: There are checkpoints, and none is whole.
    """
    record = Path(work_dir, RECORD)
    named = record.read_text(errors='replace').strip() if record.is_file() else None
    if named:
        path = record.with_name(Path(named).name)  # first: the folder may have moved
        if not path.is_file():
            path = Path(named)
        problem = _find_problem(path)
        if problem is None:
            return str(path)
        reason = f'{path}, which {RECORD} names, is {problem}'
    else:
        reason = f'{record} is empty' if named == '' else f'{record} does not exist'
    whole = _newest_whole({Path(work_dir), path.parent} if named else {Path(work_dir)})
    if whole is not None:
        print_log(f'{reason}: taking {whole}', level=logging.WARNING)
    elif named is not None:
        raise InputError(
            f'{reason}, and no other checkpoint there is whole: give one, or remove {record} to '
            'start from the beginning'
        )
    return whole


def _newest_whole(folders: set[Path]) -> str | None:
    """Return the whole checkpoint of the most iterations from which a training can resume."""
    found: dict[str, Any] = {}
    for path in {path for folder in folders for path in folder.glob('*.pth')}:
        if _find_problem(path) is None:
            content = load_checkpoint_file(path)
            if 'optimizer' in content and 'iter' in (content.get('meta') or {}):
                found[str(path)] = (content['meta']['iter'], path.stat().st_mtime)
    return max(found, key=found.__getitem__, default=None)


def _find_problem(path: Path) -> str | None:
    """Return what is wrong with a checkpoint's file, None if nothing is.

    torch reads a file whose bits have changed without a word, though it stores checksums.
    """
    if not path.is_file():
        return 'not found'
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            return f'damaged (the checksum of {damaged} does not fit)' if damaged else None
        load_checkpoint_file(path)
    except PermissionError:
        raise
    except Exception as error:  # a corrupt archive can fail in any way at all
        return str(error).removeprefix(f'{path}: ').split(';')[0]
    return None


def write_summary(work_dir: Path, checkpoint: str, best: float | None, seconds: float) -> None:
    """Keep what a training came to next to its checkpoints.

    Args:
        work_dir: Of the training.
        checkpoint: The best checkpoint, or the last one.
        best: The best validation's metric, None without validation.
        seconds: The training's duration, that of runs that it was resumed from included.
    """
    summary = dict(checkpoint=checkpoint, best=best, seconds=seconds)
    write_whole(work_dir / SUMMARY, (json.dumps(summary, indent=2) + '\n').encode())


def read_seconds(work_dir: Path) -> float | None:
    """Return how long the training in that folder took, None where none ended there."""
    path = work_dir / SUMMARY
    return json.loads(path.read_text())['seconds'] if path.is_file() else None


def find_checkpoint(path: str | Path) -> str:
    """Return a checkpoint file: the given one, or the best one of a work directory.

    Without a best one (no validation yet), it is the last one.

    Raises:
        MissingFileError: If there is none.
    """
    path = Path(path)
    if path.is_file():
        return str(path)
    best = sorted(path.glob('best_*.pth'), key=lambda file: file.stat().st_mtime)
    if best:
        return str(best[-1])
    last = find_last_checkpoint(path)
    if last is None or not Path(last).is_file():
        raise MissingFileError(
            f'no checkpoint at {path.resolve()}: name a file, or a work directory that has one'
        )
    return last
