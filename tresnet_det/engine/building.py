"""Building a runner from a config, and what is wrong with the config in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..errors import InputError
from ..layers import InPlaceABN
from . import processes

# A type that the registry does not know, or an argument that the type does not.
_FROM_REGISTRY = re.compile(
    r'is not in the .* registry|__init__\(\) (got an unexpected keyword|missing \d+ required)'
)
# What the stack below says of itself at every run, and what nobody can act on.
_STACK_NOISE = re.compile(r'^paramwise_options -- |"FileClient" will be|"HardDiskBackend" is the')


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, without the stack's remarks on itself in its log.

    Raises:
        InputError: If the model or the data of the config does not fit together.
    """
    _check_work_dir(Path(cfg.work_dir))
    processes.keep_log(cfg.work_dir)
    with config_errors():
        runner = Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)
    runner.logger.addFilter(lambda record: not _STACK_NOISE.search(record.getMessage()))
    _check_neck(cfg, runner)
    _check_head(cfg, runner)
    _count_accumulated(cfg, runner)
    _warn_of_decayed_norms(cfg, runner)
    return runner


@contextmanager
def config_errors() -> Iterator[None]:
    """Name in one line a type or an argument of the config that does not exist.

    mmengine builds loaders, loops and optimisers when they are first used, so this belongs around
    training and testing too.

    Raises:
        InputError: Instead of the registry's ``KeyError`` or the constructor's ``TypeError``.
    """
    try:
        yield
    except (KeyError, TypeError) as error:
        message = str(error.args[0]) if error.args else ''
        if message == 'None is not a callable object':  # an optimiser that torch does not have
            message = 'the config names an optimizer, or another type, that does not exist'
        elif not _FROM_REGISTRY.search(message):
            raise
        raise InputError(message) from error


def _check_work_dir(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f'--work-dir {path} is a file: give a folder')
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'--work-dir {path} cannot be made: {error.strerror}') from error


def _check_neck(cfg: Config, runner: Runner) -> None:
    """Compare the neck with what the backbone declares, which PyTorch would report as a shape."""
    given = _given_channels(runner)
    neck = cfg.model.get('neck') or {}
    first = neck[0] if isinstance(neck, (list, tuple)) else neck  # ATSS with DyHead has two
    taken = first.get('in_channels')
    # A single number is of a neck that takes the last level, as YOLOF's.
    if isinstance(given, tuple) and isinstance(taken, (list, tuple)) and tuple(taken) != given:
        raise InputError(
            f'model.neck.in_channels is {list(taken)}, but the backbone gives {list(given)}: '
            'set it to that'
        )


def _given_channels(runner: Runner) -> object:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return getattr(getattr(model, 'backbone', None), 'out_channels', None)


def _check_head(cfg: Config, runner: Runner) -> None:
    """Compare a classifier's head with the backbone's last channels, likewise."""
    given = _given_channels(runner)
    taken = (cfg.model.get('head') or {}).get('in_channels')
    if isinstance(given, tuple) and taken is not None and taken != given[-1]:
        raise InputError(
            f'model.head.in_channels is {taken}, but the backbone gives {given[-1]}: set it to that'
        )


def _count_accumulated(cfg: Config, runner: Runner) -> None:
    """Scale the learning rate to all images of an optimiser's step, of all the batches too.

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
