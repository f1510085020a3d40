"""From a config to a runner and what it begins with, checked: a mistake is one line."""

import copy
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger, print_log
from mmengine.registry import RUNNERS, build_from_cfg
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel

from ..checkpoints.load import read_checkpoint
from ..errors import InputError, few, printable, shell_path
from ..layers import InPlaceABN
from ..readers.config import read_classes
from ..tasks import unwrapped
from . import processes
from .config import LOADERS, drop_pretrained, iterate_dicts, name_and_message, set_num_classes
from .hooks import CheckpointGuardHook
from .work_dir import resume_from

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
_STACK_NOISE = re.compile(
    r'^paramwise_options -- |is skipped since its requires_grad=|'
    r'"FileClient" will be|"HardDiskBackend" is the|^Exp name: |^Checkpoints will be saved to '
)
# What fills screens before the first step.
_DUMPS = re.compile(
    r'\n-+\nSystem environment:|Config:\n|Hooks will be executed in|'
    'Distributed training is not used, all SyncBatchNorm'
)

_CONTROL = re.compile(r'[\x00-\x08\x0b-\x1f\x7f-\x9f]')  # but tabs and line feeds


def choose_weights(cfg: Config, resume: str | None, pretrained: str | None) -> dict[str, Any]:
    """Decide what a training begins with: ``--resume``, then ``load_from``, then ``init_cfg``.

    Each has all the weights of those after it, which are dropped with a line each.

    Args:
        cfg: With its ``work_dir``, and ``pretrained`` in its backbone's ``init_cfg``.
        resume: See :func:`~tresnet_det.engine.work_dir.resume_from`; None for a new start.
        pretrained: What ``--pretrained`` names. A whole model, of any task, becomes ``load_from``.

    Returns:
        What the config in the work directory says instead: where the training began that
        ``--resume`` continues. Another one by that config begins there, too, and does not resume.

    Raises:
        MissingFileError: If there is no such checkpoint.
        InputError: If it is corrupt, or ``--pretrained`` and ``load_from`` are both given.
    """
    if pretrained and cfg.get('load_from'):
        raise InputError(
            f'--pretrained {pretrained}: load_from={cfg.load_from} has the weights of the backbone '
            'too; drop --pretrained, or add --cfg-options load_from=None'
        )
    first = copy.deepcopy(cfg)
    resumed = resume and resume_from(cfg, resume)
    if resume and not resumed:
        print_log(f'--resume: no checkpoint in {cfg.work_dir} yet, starting from the beginning')
    for line in _choose_start(cfg, pretrained):
        print_log(line)
    if not resumed:
        return {}
    _choose_start(first, pretrained)
    return {key: first.get(key) for key in ('model', 'load_from', 'resume')}


def _choose_start(cfg: Config, pretrained: str | None) -> list[str]:
    """Choose among what a config names, without ``--resume``; return what is taken, a line each."""
    chosen = '--resume' if cfg.get('resume') else 'load_from'
    if pretrained and not (cfg.get('load_from') or cfg.get('resume')) and _is_whole_model(cfg):
        chosen, cfg.load_from = '--pretrained', cfg.model.backbone.init_cfg.checkpoint
        # It refuses another backbone; one without a share is added where there is none.
        hooks = cfg.get('custom_hooks') or []
        if not any(hook.get('type') == 'CheckpointGuardHook' for hook in hooks):
            cfg.custom_hooks = [*hooks, dict(type='CheckpointGuardHook')]
    if cfg.get('load_from'):
        changes = drop_pretrained(cfg, str(cfg.load_from))
        if chosen == '--pretrained':
            changes = [f'a whole model, {cfg.load_from}, of which all is taken that fits']
        return [f'{chosen}: {change}' for change in changes]
    return [f'--pretrained: the backbone starts from {pretrained}'] if pretrained else []


def count_classes(cfg: Config) -> None:
    """Fill in a classifier's ``num_classes=None`` from its data."""
    head = cfg.model.get('head')
    if isinstance(head, dict) and 'num_classes' in head and head['num_classes'] is None:
        loader = next(filter(None, map(cfg.get, LOADERS)), None)
        if loader is None:
            raise InputError('model.head.num_classes is None, and no data loader says how many')
        count = len(read_classes(loader['dataset']))
        set_num_classes(cfg, count)
        print_log(f'model.head.num_classes: the data has {count} classes')


def _is_whole_model(cfg: Config) -> bool:
    """Whether what the backbone starts from is a model of this project's, of any task."""
    checkpoint = (cfg.model.backbone.get('init_cfg') or {}).get('checkpoint')
    if not checkpoint or '://' in checkpoint:
        return False
    try:
        keys = read_checkpoint(checkpoint).weights
    except InputError:  # of which the backbone says more
        return False
    return any(key.startswith('backbone.') for key in keys)


class _QuietRunner(Runner):
    """MMEngine's, which prints no dump of environment, config and hooks: its log file has them."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        console, *files = logger.handlers
        console.addFilter(lambda record: not _DUMPS.match(record.getMessage()))
        for file in files:
            logger.info(f'environment, config and hooks: {shell_path(file.baseFilename)}')
        return logger


def build_runner(cfg: Config, kept: Mapping[str, Any] | None = None) -> Runner:
    """Build the runner of a config, without the stack's remarks on itself in its log.

    Args:
        cfg: The config.
        kept: Of :func:`choose_weights`, for the config that the work directory keeps.

    Raises:
        InputError: If the model or the data of the config does not fit together.
    """
    from ..datasets import annotations  # noqa: F401  (registers, and takes its time to import)

    _check_work_dir(Path(cfg.work_dir))
    processes.keep_log(cfg.work_dir)
    _check_loops(cfg)
    _check_multipliers(cfg)
    with config_errors():
        runner = _QuietRunner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)
    runner.logger.addFilter(_filter_log)
    if kept:
        for key, value in kept.items():
            runner.cfg[key] = value
        runner.dump_config()
    if not any(isinstance(hook, CheckpointGuardHook) for hook in runner.hooks):  # a user's config
        runner.register_hook(CheckpointGuardHook(min_share=0))
    _check_channels(cfg, runner)
    _count_accumulated(cfg, runner)
    _warn_of_decayed_norms(cfg, runner)
    return runner


def count_parameters(runner: Runner, all_frozen: bool) -> str:
    """Say how many of the model's parameters learn.

    Args:
        runner: With its model.
        all_frozen: Whether none of the backbone's should.

    Raises:
        InputError: Some of these do.
    """
    model = unwrapped(runner.model)
    left = [n for n, p in model.named_parameters() if p.requires_grad and n.startswith('backbone.')]
    if all_frozen and left:
        raise InputError(
            f'--freeze backbone: {type(model.backbone).__name__} does not freeze {few(left, 2)}'
        )
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    learning = sum(size for size, learns in sizes if learns)
    return f'trainable parameters: {learning:,} of {sum(size for size, _ in sizes):,}'


def _filter_log(record: logging.LogRecord) -> bool:
    """Drop the stack's remarks; let no name of a file or class steer the terminal."""
    record.msg, record.args = _CONTROL.sub(lambda c: printable(c[0]), record.getMessage()), ()
    return not _STACK_NOISE.search(record.msg)


@contextmanager
def config_errors() -> Iterator[None]:
    """Name in one line a type or an argument of the config that does not exist, or a missing loop.

    mmengine builds loaders, loops and optimizers when they are first used, so this belongs around
    training and testing too.

    Raises:
        InputError: Instead of the registry's ``KeyError``, any error of a constructor, or the
            runner's ``RuntimeError``.
    """
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AssertionError, AttributeError) as error:
        message = str(error.args[0]) if error.args else ''
        if message == 'None is not a callable object':  # an optimizer that torch does not have
            message = 'the config names an optimizer, or another type, that does not exist'
        elif not _FROM_REGISTRY.search(message):
            message = _of_constructor(error)
            if not message:
                raise
        raise InputError(message) from error
    except RuntimeError as error:
        found = _WITHOUT_LOOP.match(str(error))
        if not found:
            raise
        needed = ', '.join(next(keys for keys in _LOOPS if keys[0].startswith(found[1])))
        raise InputError(f'the config has nothing to {found[1]} with: set {needed}') from error


def _of_constructor(error: Exception) -> str:
    """Say which part of a config could not be built, and where; nothing for any other error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    building = [frame for frame in frames if frame.f_code is build_from_cfg.__code__]
    if not building and frames[-1].f_code.co_filename != Runner.__init__.__code__.co_filename:
        return ''
    kind = building[-1].f_locals.get('obj_cls') if building else None
    if isinstance(kind, type) and issubclass(kind, DistributedDataParallel):
        return ''  # no part of the config; what torch says of it is explained elsewhere
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f'{getattr(kind, "__name__", "a part")} of the config cannot be built: '
        f'{name_and_message(error)} ({place.filename}, line {place.lineno})'
    )


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
