"""What the flags of train.py set in a config: length, batch, rate, workers, what is frozen."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import mmengine.device
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict

from ..errors import InputError, shown
from ..models import TResNet
from ..tasks import SINGLE_LABEL, built_type, find_task, type_name
from ..values import check_values
from .config import LOADERS, iterate_dicts
from .img_size import set_img_size
from .train_loops import LENGTHS, PLACES, is_warmup

# The loops under which a part of an epoch counts in steps.
_EPOCH_LOOPS = ('EpochBasedTrainLoop', 'ResumableEpochTrainLoop')
_PLAIN_SAMPLERS = ('DefaultSampler', 'InfiniteSampler')


def apply(cfg: Config, flags: Mapping[str, Any]) -> list[str]:
    """Put the flags that are given over a config.

    Args:
        cfg: Changed in place.
        flags: Value of each flag by its name, such as ``batch_size``; None where it is not given.

    Returns:
        What was changed, a line each.

    Raises:
        InputError: The config has no place for a flag, or a value out of its range.
    """
    given = [name for name in FLAGS if flags.get(name) is not None]
    if given:
        check_values(cfg)  # flags compute with them
        cfg.pop('demo_range', None)  # what the demo reaches without them
    return [line for name in given for line in FLAGS[name](cfg, flags[name])]


def set_epochs(cfg: Config, epochs: int) -> list[str]:
    """Train for so many epochs; the schedule ends with them.

    A warm-up stays as long as it is, unless it would take more than half of the training. What
    comes after it (milestones, a cosine, a switch of the augmentation) keeps its share of what is
    left; the loop counts in steps what is no whole number of epochs then.
    """
    train = cfg.get('train_cfg') or {}
    old, kind = train.get('max_epochs'), type_name(train)
    if not old or (kind and kind not in _EPOCH_LOOPS):
        loop = f'by a loop of its own ({kind})' if old else f'for {train.get("max_iters")} steps'
        raise InputError(
            f'--epochs: the config trains {loop}, not by epochs: set its length by --cfg-options, '
            'in train_cfg and param_scheduler'
        )
    parts = list(iterate_dicts(cfg.get('param_scheduler')))
    ends: dict[bool, float] = {True: 0, False: 0}  # of warm-ups, in epochs and in steps
    for part in filter(is_warmup, parts):
        unit = part.get('by_epoch', True)
        ends[unit] = max(ends[unit], part['end'])
    rise = ends[True] if 2 * ends[True] <= epochs else ends[True] * epochs / old

    def place(epoch: float) -> float:
        if epoch <= ends[True]:
            return _short(epoch * rise / ends[True] if epoch else 0)
        return _short(rise + (epoch - ends[True]) * (epochs - rise) / (old - ends[True] or 1))

    def place_step(step: float) -> float:
        return step if step <= ends[False] else max(ends[False], round(step * epochs / old), 1)

    lines = [f'--epochs {epochs}: instead of {old}']
    for part in parts:
        by_epoch = part.get('by_epoch', True)
        if not by_epoch and is_warmup(part):
            continue
        lines += _stretch(part, place if by_epoch else place_step)
    train['max_epochs'] = epochs
    if train.get('val_begin'):
        train['val_begin'] = round(place(train['val_begin']))
    if train.get('dynamic_intervals'):
        train['dynamic_intervals'] = [(round(place(at)), n) for at, n in train['dynamic_intervals']]
    for hook in cfg.get('custom_hooks') or []:
        if 'switch_epoch' in hook:  # PipelineSwitchHook
            hook['switch_epoch'] = round(place(hook['switch_epoch']))
        if 'num_last_epochs' in hook:  # YOLOXModeSwitchHook
            hook['num_last_epochs'] = epochs - round(place(old - hook['num_last_epochs']))
    return lines


def _stretch(part: dict[str, Any], place: Callable[[float], float]) -> list[str]:
    """Move all that a scheduler's config counts; return its milestones in a line."""
    begin, lines = part.get('begin', 0), []
    for key in filter(part.get, LENGTHS):  # None: up to the end
        lengths = part[key] if isinstance(part[key], (list, tuple)) else [part[key]]
        moved = [_short(place(begin + length) - place(begin)) or 1 for length in lengths]
        part[key] = moved if isinstance(part[key], (list, tuple)) else moved[0]
    for key in filter(part.get, PLACES):
        if isinstance(part[key], (list, tuple)):
            before, part[key] = part[key], [place(at) for at in part[key]]
            lines.append(f'  {key} {list(before)} -> {part[key]}')
        else:
            part[key] = place(min(part[key], 10**9))  # MMEngine's infinity
    return lines


def _short(number: float) -> float:
    """Return a number as one would write it."""
    number = round(number, 6)
    return int(number) if number == int(number) else number


def set_lr(cfg: Config, lr: float) -> list[str]:
    """Use this learning rate as it is: nothing scales it to the batch.

    The lowest rate of a schedule, or its peak, where the config states it, keeps its ratio; so do
    the factors of ``paramwise_cfg``.
    """
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer')
    old = optimizer.get('lr') if isinstance(optimizer, dict) else None
    if not isinstance(optimizer, dict) or not old:
        raise InputError(
            '--lr: the config has no optim_wrapper.optimizer with one lr: set it by --cfg-options'
        )
    optimizer['lr'] = lr
    for part in iterate_dicts(cfg.get('param_scheduler')):
        if type_name(part).endswith('LR') or part.get('param_name') == 'lr':
            for key in filter(part.get, ('eta_min', 'eta_max')):
                part[key] *= lr / old
    scale = cfg.get('auto_scale_lr') or {}
    cfg.auto_scale_lr = ConfigDict(enable=False)  # without what --data would scale it by
    base = scale.get('base_batch_size')
    return [
        f'--lr {lr:g}: instead of {old:g}'
        + f' for a batch of {base}, and not scaled to the batch' * bool(base)
    ]


def set_batch_size(cfg: Config, batch_size: int) -> list[str]:
    """Train on so many images a step and process, and validate on no more at once."""
    loader = _loader(cfg, '--batch-size')
    old = loader.get('batch_size', 1)
    for part in (loader, loader.get('sampler') or {}):  # some samplers make batches
        if part is loader or 'batch_size' in part:
            part['batch_size'] = batch_size
    for name in LOADERS[1:]:
        if cfg.get(name):
            cfg[name]['batch_size'] = min(cfg[name].get('batch_size', 1), batch_size)
    scale = cfg.get('auto_scale_lr') or {}
    if scale.get('enable'):
        follows = 'the learning rate is scaled to it'
    elif 'base_batch_size' in scale:
        follows = '--data and --auto-scale-lr scale the learning rate to it'
    else:
        follows = 'the learning rate stays'
    return [f'--batch-size {batch_size}: instead of {old}; {follows}']


def set_workers(cfg: Config, workers: int) -> list[str]:
    """Read the images of each loader in so many processes; with 0, in the one that trains."""
    _loader(cfg, '--workers')
    for loader in filter(None, map(cfg.get, LOADERS)):
        loader['num_workers'] = workers
        if not workers:  # torch refuses both without workers
            loader['persistent_workers'] = False
            loader.pop('prefetch_factor', None)
    return []


def _loader(cfg: Config, flag: str) -> dict[str, Any]:
    loader = cfg.get('train_dataloader')
    if not loader:
        raise InputError(f'{flag}: the config has no train_dataloader')
    return loader


def freeze(cfg: Config, stages: int | str) -> list[str]:
    """Freeze the first stages of the backbone, parameters and running statistics.

    The optimizer does not get what is frozen.

    Args:
        cfg: Changed in place.
        stages: 0 for the stem, 1 to 4 for so many stages too, ``'backbone'`` for all of it.
    """
    backbone = cfg.model.get('backbone')
    kind = built_type(MODELS, backbone) if isinstance(backbone, dict) else None
    if kind is None or 'frozen_stages' not in inspect.signature(kind).parameters:
        name = type_name(backbone) if isinstance(backbone, dict) else 'the model of the config'
        raise InputError(f'--freeze: {name} has no frozen_stages to set')
    if stages == 'backbone':
        last = max(backbone.get('out_indices', (3,)))  # TResNet builds no further stages
        stages = backbone.get('num_stages', last + 1 if issubclass(kind, TResNet) else 4)
    backbone['frozen_stages'] = stages
    wrapper = cfg.get('optim_wrapper') or {}
    if isinstance(wrapper.get('optimizer'), dict) and not wrapper.get('paramwise_cfg'):
        # Without one, mmengine's constructor gives the optimizer all parameters.
        wrapper['paramwise_cfg'] = ConfigDict(bypass_duplicate=True)
    return [f'--freeze: frozen_stages={stages} of {type_name(backbone)}']


def balance(cfg: Config, wanted: bool) -> list[str]:  # noqa: ARG001  (what all flags take)
    """Draw images of rare classes more often: :class:`~tresnet_det.datasets.BalancedSampler`."""
    loader = _loader(cfg, '--balance')
    kind = type_name(loader.get('sampler') or {}) or 'none'
    if kind not in _PLAIN_SAMPLERS:
        raise InputError(
            f'--balance replaces {" or ".join(_PLAIN_SAMPLERS)}, and the config has {kind}'
        )
    power = 1.0 if find_task(cfg) is SINGLE_LABEL else 0.5
    loader['sampler'] = ConfigDict(type='BalancedSampler', power=power)
    return []  # the sampler says what it does


def find_device(name: str | None) -> torch.device:
    """Return a device by its name; with None a GPU where there is one.

    Raises:
        InputError: It is no name of a device, or there is no such GPU.
    """
    text = mmengine.device.get_device() if name is None else name
    named = re.fullmatch('(cpu|cuda)(?::([0-9]{1,9}))?', str(text))
    there = torch.cuda.device_count()
    if not named or (named[1] == 'cpu' and named[2]):
        raise InputError(f'device {shown(name)}: give cpu, cuda or cuda:NUMBER')
    if named[1] == 'cuda' and int(named[2] or 0) >= there:  # torch keeps eight bits of a number
        raise InputError(f'device {name}: {there or "no"} GPU is visible: give another, or cpu')
    return torch.device(text)


def use_device(name: str) -> None:
    """Train on this device, where mmengine takes the first GPU; see :func:`find_device`."""
    device = find_device(name)
    mmengine.device.utils.DEVICE = device.type
    if device.type == 'cuda':
        torch.cuda.set_device(device)


FLAGS: dict[str, Callable[[Config, Any], list[str]]] = dict(
    epochs=set_epochs,
    lr=set_lr,  # before the batch, which says what becomes of it
    batch_size=set_batch_size,
    img_size=set_img_size,
    workers=set_workers,
    freeze=freeze,
    balance=balance,
)
