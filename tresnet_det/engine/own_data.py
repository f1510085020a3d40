"""``--data FOLDER``: what a config becomes for a folder of your own data."""

import copy
import math
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS, METRICS
from mmengine.config import Config, ConfigDict
from mmengine.dist import get_world_size, is_main_process
from mmengine.logging import print_log
from mmengine.registry import Registry

from ..checkpoints import read_checkpoint
from ..datasets import MultiLabelDataset
from ..errors import InputError, few, printable
from ..readers.data import check_left
from ..readers.kinds import KINDS
from ..readers.layouts import find_layout
from ..readers.prepare import OwnData, ReadySplit, prepare_splits, summarize
from ..tasks import Task, built_type, find_task, metric_prefixes, type_name
from . import config as edit
from .train_loops import fit_warmup

KEPT = ('pipeline', 'filter_cfg', 'test_mode')  # of a dataset of another type
PATIENCE = 5  # validations, or a quarter of them where that is more
LONGEST_WARMUP = 0.5  # share of the training


def use_folder(
    cfg: Config, folder: str | os.PathLike, out_dir: str | os.PathLike, checkpoint: str | None
) -> OwnData:
    """Point a config at a folder of data whose layout is recognised.

    Datasets, evaluators and the heads' number of classes follow the data. For a training, the
    learning rate is scaled to the batch where the config says what it is for, and the best
    checkpoint and early stopping are turned on where they are not.

    Args:
        cfg: Changed in place.
        folder: See :func:`~tresnet_det.readers.layouts.find_layout`.
        out_dir: Gets annotations that must be converted.
        checkpoint: What is tested, None for a training. The data must have no class that it does
            not know.

    Returns:
        What the config now trains or is tested on.

    Raises:
        InputError: The data is not recognised, is wrong, or does not fit the config or checkpoint.
    """
    task = find_task(cfg)
    layout = find_layout(folder, task.name)
    classes = None if checkpoint is None else read_checkpoint(checkpoint).classes
    data = prepare_splits(layout, task.name, out_dir, classes, testing=checkpoint is not None)
    check_masks(cfg, layout.root, data.has_masks)
    if checkpoint is not None and classes is None:
        data.notes.append(f'{checkpoint} does not say what its classes are: they are not compared')
    measured = data.splits.get('test') or data.splits['val']
    chosen = {'test': measured, 'val': data.splits.get('val') or measured}
    if 'train' in data.splits:
        chosen['train'] = data.splits['train']
    for role, split in chosen.items():
        if cfg.get(f'{role}_dataloader'):
            _set_dataset(cfg, role, task, split, data)
    if task.detects:
        for role in ('val', 'test'):
            if cfg.get(f'{role}_evaluator'):
                _set_evaluator(cfg, f'{role}_evaluator', str(chosen[role].ann_file))
    edit.set_num_classes(cfg, len(data.classes))
    if checkpoint is None:
        if 'base_batch_size' in (cfg.get('auto_scale_lr') or {}):
            cfg.auto_scale_lr.enable = True
        if cfg.get('val_dataloader') and cfg.get('val_evaluator'):
            _stop_early(cfg, task)
    return data


def fit_training(cfg: Config, data: OwnData, options: Mapping[str, object]) -> list[str]:
    """Fit batch, processes and warm-up to the number of training images.

    A batch is no larger than the training set, and then no part of it is dropped; there are no more
    processes than batches. A warm-up by steps that would take more than half of the training is
    shortened to a tenth of it.

    Args:
        cfg: With all options put over it; changed in place.
        data: Of :func:`use_folder`, for a training.
        options: ``--cfg-options``: what they set is left alone.

    Returns:
        What was changed and what holds for the training, a line each.
    """
    world = get_world_size()
    split, loader = data.splits['train'], cfg.train_dataloader
    dataset = _own_dataset(loader['dataset'])
    kept, lines = split.counts.kept(filter_of(dataset))
    count = len(kept)
    if _filters_by_itself(dataset):
        count = len(DATASETS.build({**dataset, 'pipeline': []}))
        dropped = split.counts.num_images - count
        lines = [f'{dropped} training images are dropped by {type_name(dataset)}']
    check_left(data.layout.root, count, lines)
    share = max(1, math.ceil(count / world))
    if loader.get('batch_size', 0) > share:
        lines.append(f'batch of {share} instead of {loader["batch_size"]}: there are no more')
        loader['batch_size'] = share
        for part in (loader, loader.get('batch_sampler') or {}):
            if 'drop_last' in part:
                part['drop_last'] = False
    batch = loader.get('batch_size', 1)
    steps = share * _repeats(loader['dataset']) / batch
    steps = max(1, math.floor(steps) if loader.get('drop_last') else math.ceil(steps))
    measured = data.splits['val']
    tested = data.splits.get('test', measured)
    if tested is measured:
        lines += _test_as_val(cfg, options)
    images = dict(val=measured.counts.num_images, test=tested.counts.num_images, train=share)
    for role in images:
        loader = cfg.get(f'{role}_dataloader')
        if loader and loader.get('num_workers'):
            batches = math.ceil(images[role] / loader.get('batch_size', 1))
            loader['num_workers'] = min(loader['num_workers'], max(1, batches))
    lines += _fit_warmup(cfg, steps, options)
    lines.append(_describe_schedule(cfg, batch, world, steps))
    lines.append(_describe_hooks(cfg))
    return lines


def _test_as_val(cfg: Config, options: Mapping[str, object]) -> list[str]:
    """Measure the same images in one way: what is set of ``val_dataloader``, ``test`` has, too."""
    loaders = cfg.get('val_dataloader'), cfg.get('test_dataloader')
    if not all(loaders) or any(key.startswith('test_dataloader') for key in options):
        return []
    val, test = (
        [type_name(d) for d in loader['dataset'].get('pipeline') or ()] for loader in loaders
    )
    if val != test:  # a place in one is another transform in the other
        return []
    same = {
        key.replace('val_dataloader', 'test_dataloader', 1): value
        for key, value in options.items()
        if key.startswith('val_dataloader.')
    }
    edit.override(cfg, same)
    return [f'set as for val_dataloader: {few(sorted(same))}'] if same else []


def describe(data: OwnData) -> list[str]:
    """Say what was recognised and decided, a line each."""
    lines = [f'--data: {KINDS[data.layout.kind]} at {data.layout.root}']
    for role, split in data.splits.items():
        counts, place = split.counts, split.ann_file or split.folder
        empty = f', {counts.num_empty} images without any' if counts.num_empty else ''
        found = f'{counts.num_images} images, {counts.num_objects} {data.unit}{empty}'
        lines.append(f'  {role:<8}{found}: {place}')
    if 'test' not in data.splits:
        lines.append('  test    = val: there is no test split')
    lines.append(f'  classes {len(data.classes)}: {few(data.classes, 20)}')
    files = [split.ann_file for split in data.splits.values() if split.written]
    written = sorted({str(file.parent) for file in files if file})
    lines += [f'  written to {folder}; nothing in the data folder is changed' for folder in written]
    return lines + [f'  {note}' for note in data.notes]


def summarize_data(cfg: Config, data: OwnData) -> str:
    """Say in a line what is trained and measured on, after the datasets' own filters."""
    loaders = {role: cfg.get(f'{role}_dataloader') for role in data.splits}
    filters = {role: filter_of(one['dataset']) for role, one in loaders.items() if one}
    counts = {role: split.counts for role, split in data.splits.items()}
    return summarize(counts, data.classes, find_task(cfg).name, filters)


def print_lines(lines: list[str]) -> None:
    """Print lines, on the first process only."""
    if lines and is_main_process():
        print_log('\n'.join(map(printable, lines)))


def check_masks(cfg: Config, root: object, has_masks: bool) -> None:
    """Raise an InputError where a config learns outlines, and the data has none."""
    loads = edit.iterate_dicts((cfg.get('train_dataloader') or {}).get('dataset'))
    if not has_masks and any(step.get('with_mask') for step in loads):
        raise InputError(
            f'{root}: has boxes without outlines, and the config learns outlines '
            '(with_mask=True): take a config that learns boxes'
        )


def _own_dataset(dataset: dict[str, Any]) -> dict[str, Any]:
    """Return the dataset with files of its own out of wrappers; a concatenation becomes its first.

    Args:
        dataset: Changed in place where it, or what it wraps, is a concatenation.
    """
    while dataset.get('datasets') or dataset.get('dataset'):
        if dataset.get('datasets'):
            first = dataset['datasets'][0]
            dataset.clear()
            dataset.update(first)
        else:
            dataset = dataset['dataset']
    return dataset


def _repeats(dataset: Mapping) -> int:
    times = dataset.get('times', 1)
    inner = dataset.get('dataset')
    return times * _repeats(inner) if inner else times


def _set_dataset(cfg: Config, role: str, task: Task, split: ReadySplit, data: OwnData) -> None:
    # Most configs test on the very loader that they validate with: one object under two names.
    cfg[f'{role}_dataloader'] = copy.deepcopy(cfg[f'{role}_dataloader'])
    dataset = _own_dataset(cfg[f'{role}_dataloader']['dataset'])
    if not _reads(dataset, task):
        kept = {key: dataset[key] for key in KEPT if key in dataset}
        if not task.detects:
            kept.pop('filter_cfg', None)
        dataset.clear()
        dataset.update(kept)
        dataset['type'] = task.dataset
    root = data.layout.root
    dataset['data_root'] = str(root)
    dataset['ann_file'] = '' if split.ann_file is None else _relative(split.ann_file, root)
    dataset['data_prefix'] = ConfigDict(img=_relative(split.folder, root))
    dataset['metainfo'] = ConfigDict(classes=data.classes)
    if role != 'train':
        dataset['test_mode'] = True


def _reads(dataset: Mapping, task: Task) -> bool:
    """Whether a dataset is the task's own, or a user's child of it, which reads what it reads.

    MMDetection's own children of its ``CocoDataset`` read other formats.
    """
    own, kind = built_type(DATASETS, dict(type=task.dataset)), built_type(DATASETS, dataset)
    if own is None or kind is None or not issubclass(kind, own):
        return False
    return kind is own or not _is_mmdets(DATASETS, dataset)


def _is_mmdets(registry: Registry, part: Mapping) -> bool:
    return getattr(built_type(registry, part), '__module__', '').startswith('mmdet.')


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else os.path.abspath(path)


def _set_evaluator(cfg: Config, name: str, ann_file: str) -> None:
    cfg[name] = copy.deepcopy(cfg[name])
    own = [part for part in edit.iterate_dicts(cfg[name]) if 'ann_file' in part]
    for part in own:
        part['ann_file'] = os.path.abspath(ann_file)
    if not own and all(_is_mmdets(METRICS, part) for part in edit.iterate_dicts(cfg[name])):
        # The metric of another format, such as VOC's.
        cfg[name] = ConfigDict(
            type='CocoTwelveMetric', metric='bbox', ann_file=os.path.abspath(ann_file)
        )


def _stop_early(cfg: Config, task: Task) -> None:
    """Save the best checkpoint and stop when there is no better one, where the config does not."""
    if not cfg.get('default_hooks'):
        cfg.default_hooks = dict()
    saving = cfg.default_hooks.get('checkpoint') or ConfigDict(
        type='SafeCheckpointHook', interval=1
    )
    cfg.default_hooks['checkpoint'] = saving
    known = task.measures_headline(cfg.val_evaluator)
    best = saving.get('save_best')
    best = best[0] if isinstance(best, list) and best else best  # of several, the first
    prefix, slash, _ = str(best).partition('/')
    if not best or (slash and prefix not in metric_prefixes(cfg.val_evaluator)):
        # None, or of an evaluator that was replaced, such as VOC's. Of a metric of the user's own,
        # mmengine takes the first number.
        best = task.headline if known else 'auto'
        saving.update(save_best=best, rule='greater')
    hooks = list(cfg.get('custom_hooks') or [])
    if 'EarlyStoppingHook' in map(type_name, hooks) or (best == 'auto' and not known):
        return
    train = cfg.get('train_cfg') or {}
    length = train.get('max_epochs') or train.get('max_iters') or 0
    stopping = ConfigDict(
        type='EarlyStoppingHook',
        monitor=task.headline if best == 'auto' else best,
        rule='less' if saving.get('rule') == 'less' else 'greater',
        min_delta=0.0,  # since a detector's first validations may all give 0
        patience=max(PATIENCE, length // (train.get('val_interval') or 1) // 4),
    )
    cfg.custom_hooks = [*hooks, stopping]


def filter_of(dataset: Mapping) -> Mapping:
    """Return by what a dataset's config drops images: MMDetection's ``filter_cfg``, ``indices``.

    Of a wrapper, that of what it wraps; of a concatenation, that of its first.
    """
    inner = dataset.get('dataset') or next(iter(dataset.get('datasets') or ()), None)
    if inner:
        return filter_of(inner)
    # Of what is registered by now: asking for others imports MMDetection's, and none is its child.
    if issubclass(DATASETS.module_dict.get(type_name(dataset), object), MultiLabelDataset):
        return dict(filter_empty_gt=dataset.get('filter_empty', True))
    filters = {} if dataset.get('test_mode') else dataset.get('filter_cfg') or {}
    return {**filters, 'indices': dataset.get('indices')}


def _filters_by_itself(dataset: Mapping) -> bool:
    """Whether a user's own dataset drops images by a rule of its own."""
    from mmdet.datasets import CocoDataset

    own = getattr(built_type(DATASETS, dataset), 'filter_data', None)
    return own not in (None, CocoDataset.filter_data)


def _fit_warmup(cfg: Config, steps: int, options: Collection[str]) -> list[str]:
    if any(key.split('.')[0] == 'param_scheduler' for key in options):
        return []
    train = cfg.get('train_cfg') or {}
    epochs = train.get('max_epochs')
    total = steps * epochs if epochs else train.get('max_iters') or 0
    schedulers = cfg.get('param_scheduler')
    return fit_warmup(schedulers, steps, total, bool(epochs), LONGEST_WARMUP) if total else []


def _describe_schedule(cfg: Config, batch: int, world: int, steps: int) -> str:
    train = cfg.get('train_cfg') or {}
    epochs = train.get('max_epochs')
    length = f'{epochs} epochs of {steps} steps' if epochs else f'{train.get("max_iters")} steps'
    rate = ((cfg.get('optim_wrapper') or {}).get('optimizer') or {}).get('lr')
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    text = f'{length}, batch {batch}' + f' on each of {world} processes' * (world > 1)
    if rate is None:
        return text
    if base and cfg.auto_scale_lr.get('enable'):
        real = batch * world * cfg.optim_wrapper.get('accumulative_counts', 1)
        return f'{text}, learning rate {rate * real / base:g} ({rate:g} for a batch of {base})'
    return f'{text}, learning rate {rate:g}, not scaled to the batch'


def _describe_hooks(cfg: Config) -> str:
    best = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    parts = [f'best checkpoint by {best}'] if best else []
    for hook in cfg.get('custom_hooks') or ():
        if type_name(hook) == 'EMAHook':
            parts.append('averaged weights (EMA)')
        elif type_name(hook) == 'EarlyStoppingHook':
            parts.append(f'stops after {hook.get("patience", 5)} validations without a better one')
    return ', '.join(parts)
