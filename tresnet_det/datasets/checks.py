"""Checks of COCO data before anything is built: what would stop or mislead a training, in one line.

MMDetection reports most of these faults late (at the end of the first epoch), far from their cause
(a ``KeyError`` in a worker) or not at all (an AP of 0 or -1).
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tresnet_det.datasets.coco_content import (
    check_annotations,
    check_categories,
    check_images,
    few,
    read_instances,
)
from tresnet_det.errors import InputError, MissingFileError

WRAPPERS = ('RepeatDataset', 'ClassBalancedDataset', 'MultiImageMixDataset', 'ConcatDataset')
WAYS_ON = (
    'get MS-COCO by `python tools/get_coco.py`, name your own data by `--data-root DIR`, '
    'or try the demo data by `--demo`'
)


def check_coco_data(
    ann_file: str | os.PathLike,
    img_dir: str | os.PathLike,
    classes: Sequence[str],
    num_classes: int | None = None,
) -> list[str]:
    """Check one split of a COCO detection data set.

    Args:
        ann_file: Instances JSON.
        img_dir: Folder that the JSON's ``file_name`` are relative to.
        classes: Class names in the order of the labels.
        num_classes: Number of classes of the model's head; None where it is not known.

    Returns:
        Warnings, one line each; empty where all is well.

    Raises:
        MissingFileError: The annotation file, the folder or pictures in it are not there.
        InputError: The JSON is broken, is no instances file, contradicts itself, or does not fit
            ``classes`` or ``num_classes``.
    """
    classes = _check_classes(classes, num_classes)
    ann_file, img_dir = Path(os.path.abspath(ann_file)), Path(os.path.abspath(img_dir))
    if not ann_file.is_file():
        raise MissingFileError(f'annotation file {ann_file} is not there: {WAYS_ON}')
    if not img_dir.is_dir():
        raise MissingFileError(f'image folder {img_dir} is not there: {WAYS_ON}')
    content = read_instances(ann_file)
    images, annotations = content['images'], content['annotations']
    check_images(ann_file, images)
    _check_files(ann_file, img_dir, [image['file_name'] for image in images])
    warnings = check_categories(ann_file, content, classes)
    warnings += check_annotations(ann_file, images, annotations)
    return warnings


def check_dataloader_cfg(cfg_dataset: Mapping, num_classes: int | None = None) -> list[str]:
    """Check every local ``CocoDataset`` in a dataset's config, as `check_coco_data` does.

    Args:
        cfg_dataset: A ``*_dataloader.dataset`` config. Wrappers (`WRAPPERS`) are looked into;
            datasets of other types, and those read from another machine, are passed over.
        num_classes: Number of classes of the model's head; None where it is not known.

    Returns:
        Warnings, one line each.

    Raises:
        MissingFileError: See `check_coco_data`.
        InputError: See `check_coco_data`; also a config that MMDetection would misread.
    """
    kind = cfg_dataset.get('type')
    kind = (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1]
    if kind in WRAPPERS:
        inner = cfg_dataset.get('datasets') or [cfg_dataset['dataset']]
        return [line for cfg in inner for line in check_dataloader_cfg(cfg, num_classes)]
    if kind != 'CocoDataset':
        return []
    ann_file, img_dir = _resolve_paths(cfg_dataset)
    backend = (cfg_dataset.get('backend_args') or {}).get('backend', 'local')
    if backend != 'local' or '://' in ann_file or '://' in img_dir:
        return []
    return check_coco_data(ann_file, img_dir, _resolve_classes(cfg_dataset), num_classes)


def _resolve_paths(cfg: Mapping) -> tuple[str, str]:
    """Join the annotation file and the image folder to ``data_root``, as mmengine does."""
    if not cfg.get('ann_file'):
        raise InputError('dataset.ann_file is not set: give the COCO JSON, relative to data_root')
    prefix = cfg.get('data_prefix') or {}
    if 'img' not in prefix:
        raise InputError(
            "dataset.data_prefix has no key 'img': write data_prefix=dict(img='FOLDER/')"
        )
    root = cfg.get('data_root') or ''
    remote = [path for path in (cfg['ann_file'], prefix['img']) if '://' in path]
    if remote:
        return remote[0], prefix['img']
    return os.path.join(root, cfg['ann_file']), os.path.join(root, prefix['img'])


def _resolve_classes(cfg: Mapping) -> Sequence[str]:
    metainfo = cfg.get('metainfo') or {}
    if 'CLASSES' in metainfo:
        raise InputError(
            'dataset.metainfo.CLASSES is the key of older versions and would be passed over for '
            "COCO's 80 names: write metainfo.classes"
        )
    classes = metainfo.get('classes')
    if classes is None:
        from mmdet.datasets import CocoDataset

        return CocoDataset.METAINFO['classes']
    if isinstance(classes, str) and os.path.isfile(classes):  # mmengine reads such a file, too
        return Path(classes).read_text(encoding='utf-8').splitlines()
    return classes


def _check_classes(classes: Sequence[str], num_classes: int | None) -> list[str]:
    if isinstance(classes, str):
        raise InputError(
            f'metainfo.classes is the text {classes!r}, not a tuple of names: '
            f'write metainfo=dict(classes=({classes!r},))'
        )
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(f'metainfo.classes names {few(twice)} more than once')
    if num_classes is not None and num_classes != len(classes):
        raise InputError(
            f'model.bbox_head.num_classes is {num_classes} and the data has {len(classes)} classes '
            f'({few(classes)}): set model.bbox_head.num_classes={len(classes)}, '
            'or metainfo.classes to the right names'
        )
    return list(classes)


def _check_files(ann_file: Path, img_dir: Path, names: list[str]) -> None:
    """Find every picture, by listing each folder once instead of asking for every file."""
    folders = {os.path.split(name)[0] for name in names}
    there = {}
    for folder in folders:
        try:
            with os.scandir(os.path.join(img_dir, folder)) as entries:
                there[folder] = {entry.name for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            there[folder] = set()
    split = (os.path.split(name) for name in names)
    lost = [os.path.join(folder, name) for folder, name in split if name not in there[folder]]
    if lost:
        raise MissingFileError(
            f'{img_dir}: {len(lost)} of {len(names)} pictures that {ann_file} names are not in it, '
            f'the first is {lost[0]!r}: '
            + ('complete the folder' if len(lost) < len(names) else 'is data_prefix.img right?')
        )
