"""Configs: how a file is read, and what the command line changes before anything is built."""

import inspect
import logging
import os
from collections.abc import Iterator, Mapping
from keyword import iskeyword
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.config.config import RESERVED_KEYS
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from ..compat.installed import locate_config
from ..errors import InputError, MissingFileError, shown
from ..evaluation.report import SUMMARY
from ..tasks import type_name

WORK_DIR_FILES = ('last_checkpoint', SUMMARY)  # one of them is in a work directory
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')
# What make_resumable puts in the place of mmengine's.
RESUMABLE = {
    EpochBasedTrainLoop: 'ResumableEpochTrainLoop',
    IterBasedTrainLoop: 'ResumableIterTrainLoop',
    CheckpointHook: 'SafeCheckpointHook',
}


def load_config(path: str | Path) -> Config:
    """Read a config file; ``tresnet_det::NAME`` is one of this project.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If it cannot be read as a config.
    """
    path = locate_config(path)
    if not Path(path).is_file():
        raise MissingFileError(f'no config at {Path(path).absolute()}')
    try:
        cfg = Config.fromfile(path)
    except (Exception, SystemExit) as error:  # a config is a program: anything can be wrong in it
        root: BaseException = error
        hint = ''
        while isinstance(root.__context__, ImportError):  # of custom_imports
            root, hint = root.__context__, '; a module of yours needs its folder in PYTHONPATH'
        raise InputError(f'config {path} cannot be read: {name_and_message(root)}{hint}') from error
    use_present_paths(cfg, Path(path).parent)
    return cfg


def use_present_paths(cfg: Config, folder: Path) -> None:
    """Let a config that a training kept name what is in its folder now.

    Its ``work_dir`` becomes the folder, and a path below the old one the same path below the new
    one, where that exists: the annotations of ``--data``, a checkpoint.

    Args:
        cfg: As it was kept; changed in place.
        folder: Where it lies. Unless that is a work directory, nothing is changed.
    """
    kept, folder = cfg.get('work_dir'), folder.absolute()
    if not isinstance(kept, str) or not any((folder / mark).is_file() for mark in WORK_DIR_FILES):
        return
    old = Path(os.path.normpath(kept)).parts
    for key, value in cfg.items():
        cfg[key] = _present(value, old, folder)
    if Path(os.path.abspath(kept)) != folder:
        cfg.work_dir = str(folder)


def _present(node: Any, old: tuple[str, ...], folder: Path) -> Any:
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = _present(value, old, folder)
    elif isinstance(node, (list, tuple)):
        return type(node)(_present(value, old, folder) for value in node)
    elif isinstance(node, str) and os.sep in node and '\0' not in node:
        parts = Path(os.path.normpath(node)).parts
        for start in range(len(parts) - len(old)):  # a relative one was below any folder
            now = folder.joinpath(*parts[start + len(old) :])
            if old and parts[start : start + len(old)] == old and now.exists():
                return node if os.path.abspath(node) == str(now) else str(now)
    return node


def override(cfg: Config, options: Mapping[str, object]) -> None:
    """Put ``--cfg-options`` over a config.

    Raises:
        InputError: If an option does not fit the config.
    """
    known = {*cfg.keys(), *inspect.signature(Runner.__init__).parameters}
    for key in options:
        first = key.split('.')[0]
        if not first.isidentifier() or iskeyword(first) or first in RESERVED_KEYS:
            raise InputError(f'--cfg-options {key}: no key that a config can have')
        if first not in known:
            print_log(f'--cfg-options {key}: the config has no such key', level=logging.WARNING)
    try:
        merged = ConfigDict(values={key: _replacing(cfg, key, options[key]) for key in options})
        cfg.merge_from_dict(merged['values'])
    except Exception as error:  # mmengine goes through whatever the keys and values are
        raise InputError(f'--cfg-options {" ".join(options)}: {name_and_message(error)}') from error


def _replacing(cfg: Config, key: str, value: Any) -> Any:
    """Let a dict take the place of what is none, or is of another type, whose arguments differ."""
    if not isinstance(value, Mapping):
        return value
    there: Any = cfg
    for name in key.split('.'):
        if isinstance(there, list):
            there = there[int(name)] if name.isdecimal() and int(name) < len(there) else {}
        else:
            there = there.get(name, {}) if hasattr(there, 'get') else {}
    same = isinstance(there, Mapping) and value.get('type', there.get('type')) == there.get('type')
    return dict(value) if same or there == {} else dict(value, _delete_=True)


def check_parts(cfg: Config) -> None:
    """Raise an InputError unless the model and the data loaders of a config are some."""
    parts = {'model': cfg.get('model'), **{name: cfg[name] for name in LOADERS if cfg.get(name)}}
    for name, part in parts.items():
        if not isinstance(part, Mapping) or not (name == 'model' or 'dataset' in part):
            needed = 'a dict' if name == 'model' else 'a dict with a dataset'
            raise InputError(f'{name} of the config must be {needed}, got {shown(part)}')


def name_and_message(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or ['']
    return f'{type(error).__name__}: {lines[0]}'


def find_test_dataset(cfg: Config) -> dict:
    """Return the config of the test dataset, else of the validation dataset, out of any wrapper.

    Raises:
        InputError: The config has none with a pipeline.
    """
    for name in ('test_dataloader', 'val_dataloader'):
        for dataset in iterate_dicts((cfg.get(name) or {}).get('dataset')):
            if dataset.get('pipeline') is not None:
                return dataset
    raise InputError('the config has no test_dataloader.dataset with a pipeline')


def describe_test_size(cfg: Config) -> str | None:
    """Return how a test resizes images, in words; None where the config has no test."""
    try:
        steps = list(iterate_dicts(find_test_dataset(cfg)['pipeline']))
    except InputError:
        return None
    keys = ('scale', 'scale_factor', 'crop_size', 'size')
    return ', '.join(
        f'{type_name(step)} {key}={step[key]}' for step in steps for key in keys if step.get(key)
    )


def iterate_dicts(node: object) -> Iterator[dict]:
    """Yield every dict in a nest of dicts, lists and tuples, the outer before the inner."""
    if isinstance(node, dict):
        yield node
        children = list(node.values())
    elif isinstance(node, (list, tuple)):
        children = list(node)
    else:
        return
    for child in children:
        yield from iterate_dicts(child)


def iterate_datasets(cfg: Config) -> Iterator[dict]:
    """Yield every dataset config that has files of its own, out of wrappers and concatenations."""
    for name in LOADERS:
        loader = cfg.get(name)
        if loader:
            yield from (
                d for d in iterate_dicts(loader['dataset']) if 'ann_file' in d or 'data_root' in d
            )


def set_data_root(cfg: Config, data_root: str | Path) -> None:
    """Point every dataset and evaluator of ``cfg`` at another folder, laid out like the old one.

    Raises:
        MissingFileError: If the folder does not exist.
        InputError: If an evaluator reads a file outside the datasets' old folders.
    """
    root = Path(data_root)
    if not root.is_dir():
        raise MissingFileError(f'--data-root: no folder at {root.absolute()}')
    old_roots = set()
    for dataset in iterate_datasets(cfg):
        old_roots.add(dataset.get('data_root') or '')
        dataset['data_root'] = str(root)
    for name in EVALUATORS:
        for evaluator in iterate_dicts(cfg.get(name)):
            if evaluator.get('ann_file'):
                evaluator['ann_file'] = _move(evaluator['ann_file'], old_roots, root, name)


def _move(path: str, old_roots: set[str], new_root: Path, where: str) -> str:
    for old in sorted(filter(None, old_roots), key=len, reverse=True):
        if Path(path).is_relative_to(old):
            return str(new_root / Path(path).relative_to(old))
    raise InputError(
        f'--data-root: {where}.ann_file {path!r} is not under the data_root of a dataset; '
        f'set it by --cfg-options {where}.ann_file=FILE'
    )


def drop_pretrained(cfg: Config, instead: str = 'random weights') -> list[str]:
    """Take the pretrained weights out of ``cfg.model``, as where a checkpoint has all weights.

    Args:
        cfg: Changed in place.
        instead: What the model begins with, for the lines.

    Returns:
        What was changed, one line each.
    """
    changes = []
    for module in iterate_dicts(cfg.model):
        init = module.get('init_cfg')
        inits = list(init) if isinstance(init, (list, tuple)) else [init] if init else []
        kept = [i for i in inits if i.get('type') != 'Pretrained']
        dropped = [i['checkpoint'] for i in inits if i.get('type') == 'Pretrained']
        if dropped:
            module['init_cfg'] = kept or None
        if module.get('pretrained'):  # the older notation of MMDetection 2
            dropped.append(module['pretrained'])
            module['pretrained'] = None
        changes += [f'{module.get("type")}: {instead} instead of {d}' for d in dropped]
    return changes


def use_random_weights(cfg: Config) -> list[str]:
    """Drop the pretrained weights of ``cfg.model``, and what only makes sense with them.

    Frozen stages would stay random, frozen norms that start at zero would switch their branches
    off for ever, and running statistics that nothing has measured would normalise nothing: so all
    stages and norms learn, and norms measure their own statistics.

    Returns:
        What was changed, one line each.
    """
    changes = drop_pretrained(cfg)
    if cfg.get('load_from'):
        changes.append(f'load_from: random weights instead of {cfg.load_from}')
        cfg.load_from = None
    for module in iterate_dicts(cfg.model):
        for key, value in (('frozen_stages', -1), ('norm_eval', False)):
            if module.get(key, value) != value:
                changes.append(f'{module.get("type")}: {key} {module[key]} -> {value}')
                module[key] = value
        norm = module.get('norm_cfg')
        if isinstance(norm, dict) and not norm.get('requires_grad', True):  # the DETRs'
            changes.append(f'{module.get("type")}: norm_cfg.requires_grad False -> True')
            norm['requires_grad'] = True
    return changes


def use_backbone_weights(cfg: Config, checkpoint: str) -> None:
    """Start the backbone from a checkpoint of any of this project's models, or a published one.

    Args:
        cfg: Of a model with a ``backbone``.
        checkpoint: A file, or ``timm://NAME``.

    Raises:
        InputError: If the model has no backbone.
    """
    backbone = cfg.model.get('backbone')
    if not isinstance(backbone, dict):
        raise InputError('--pretrained: the model of the config has no backbone')
    backbone['init_cfg'] = dict(type='Pretrained', checkpoint=checkpoint)


def set_num_classes(cfg: Config, num_classes: int) -> None:
    """Set the number of classes in every head of the model."""
    for module in iterate_dicts(cfg.model):
        if 'num_classes' in module:
            module['num_classes'] = num_classes


def get_num_classes(cfg: Config) -> int | None:
    """Return the number of classes of the model's heads, None where no head states one."""
    return next((m['num_classes'] for m in iterate_dicts(cfg.model) if 'num_classes' in m), None)


def head_prefixes(model: Mapping) -> tuple[str, ...]:
    """Return what the keys of the heads begin with in a state dict, such as ``'bbox_head.'``."""
    return tuple(f'{name}.' for name in model if name.endswith('head'))


def needs_ground_truth(cfg: Config, loader: str) -> bool:
    """Whether a loader's data is trained or measured on, not only predicted for a test server."""
    evaluator = cfg.get(loader.replace('dataloader', 'evaluator'))
    return not any(part.get('format_only') for part in iterate_dicts(evaluator))


def use_demo(cfg: Config, overlay: Config, full: bool) -> None:
    """Put the demo's data, schedule and small network over a config, with nothing pretrained.

    Args:
        cfg: Changed in place.
        overlay: One of ``configs/_base_/demo_*.py``. Its network goes over one of the same types.
        full: Whether the config keeps its own network.
    """
    lr = overlay._cfg_dict.pop('full_lr')
    if full or not _has_types_of(overlay.model, cfg.model):
        overlay.optim_wrapper.optimizer.lr = lr
        del overlay._cfg_dict['model'], overlay._cfg_dict['demo_range']
    hooks = cfg.get('default_hooks') or {}
    for name in set(overlay.default_hooks):
        if not hooks.get(name):  # mmengine's own, or none
            del overlay.default_hooks[name]
    cfg.default_hooks = hooks
    cfg.merge_from_dict(overlay.to_dict())
    set_num_classes(cfg, len(overlay.classes))
    use_random_weights(cfg)


def _has_types_of(part: Mapping, whole: Mapping) -> bool:
    """Return whether each ``type`` that ``part`` names, at any depth, is that of ``whole``."""
    return all(
        isinstance(whole.get(key), Mapping) and _has_types_of(value, whole[key])
        if isinstance(value, Mapping)
        else key != 'type' or value == whole.get('type')
        for key, value in part.items()
        if key != 'arch'  # a name, or a dict
    )


def make_resumable(cfg: Config) -> list[str]:
    """Put this project's children of mmengine's checkpoint hook and training loops in their place.

    The project's own configs name them; this is for users' configs, and the only place where a
    class of a config is replaced. They take the same arguments. A hook or loop of the config's own
    stays, and so does ``checkpoint=None``.

    Returns:
        What was changed, one line each.
    """
    changes: list[str] = []
    train = cfg.get('train_cfg')
    if train:
        if 'type' not in train:  # mmengine's short form
            by_epoch = train.pop('by_epoch', True)
            train['type'] = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
        _replace_type(train, 'train_cfg', changes)
    if not cfg.get('default_hooks'):
        cfg.default_hooks = dict()
    hooks = cfg.default_hooks
    hooks.setdefault('checkpoint', ConfigDict(type='CheckpointHook', interval=1))  # mmengine's own
    _replace_type(hooks.checkpoint, 'default_hooks.checkpoint', changes)
    for number, hook in enumerate(cfg.get('custom_hooks') or []):
        _replace_type(hook, f'custom_hooks.{number}', changes)
    # For what reads the config that is kept in the work directory.
    imports = cfg.setdefault('custom_imports', ConfigDict(imports=[], allow_failed_imports=False))
    if 'tresnet_det.engine' not in imports['imports']:
        imports['imports'] = [*imports['imports'], 'tresnet_det.engine']
    return changes


def _replace_type(part: object, where: str, changes: list[str]) -> None:
    for old, new in RESUMABLE.items():
        if isinstance(part, dict) and part.get('type') in (old, old.__name__):
            part['type'] = new
            changes.append(f'{where}: {new} instead of {old.__name__}')


def enable_amp(cfg: Config) -> None:
    """Train in mixed precision: float16 with a dynamically scaled loss, as MMDetection does.

    Raises:
        InputError: Without a GPU, which mmengine's mixed precision needs, or if the config's
            optimizer wrapper is not one that mixed precision can replace.
    """
    wrapper = cfg.optim_wrapper
    if get_device() == 'cpu':
        raise InputError('--amp needs a GPU and none is visible: train without it')
    if wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise InputError(f'--amp cannot replace optim_wrapper.type {wrapper["type"]!r}')
    wrapper['type'] = 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')


def enable_lr_scaling(cfg: Config) -> None:
    """Turn on the scaling of the learning rate to the real number of images per step.

    Raises:
        InputError: If the config does not say for which number its learning rate is meant.
    """
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise InputError(
            '--auto-scale-lr: the config does not say which batch size its learning rate is for; '
            'add auto_scale_lr=dict(base_batch_size=N)'
        )
    cfg.auto_scale_lr.enable = True


def use_this_machine(cfg: Config) -> None:
    """Choose what works here: NCCL and mixed precision need a GPU, gloo and float32 do not."""
    if not torch.cuda.is_available() and 'dist_cfg' in cfg.get('env_cfg', {}):
        cfg.env_cfg.dist_cfg.backend = 'gloo'
    if get_device() == 'cpu' and cfg.get('launcher', 'none') != 'none':
        # mmengine would give DistributedDataParallel a GPU's number.
        wrapper = dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        wrapper.update(cfg.get('model_wrapper_cfg') or {}, device_ids=None)
        cfg.model_wrapper_cfg = wrapper
    wrapper = cfg.get('optim_wrapper') or {}
    if wrapper.get('type') == 'AmpOptimWrapper' and get_device() == 'cpu':
        wrapper['type'] = 'OptimWrapper'
        dtype = wrapper.pop('dtype', None) or 'float16'
        for key in ('loss_scale', 'use_fsdp'):
            wrapper.pop(key, None)
        print_log(f'no GPU is visible: training in float32 instead of mixed {dtype}')
