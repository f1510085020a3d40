"""Checks of COCO data before anything is built: what would stop or mislead a training, in one line.

MMDetection reports most of these faults late (at the end of the first epoch), far from their cause
(a ``KeyError`` in a worker) or not at all (an AP of 0 or -1).
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import is_main_process

from ..compat.own_files import tool_command
from ..errors import InputError, MissingFileError, few, shown
from .formats.coco_content import check_annotations, check_categories, check_images, read_instances

WRAPPERS = ('RepeatDataset', 'ClassBalancedDataset', 'MultiImageMixDataset', 'ConcatDataset')
_NOTHING_TO_LEARN = "the list 'annotations' is empty, nothing to learn from it"
_COCO_FILE = re.compile(r'instances_(?:train|val)(2014|2017)\.json')


def check_coco_data(
    ann_file: str | os.PathLike,
    img_dir: str | os.PathLike,
    classes: Sequence[str],
    num_classes: int | None = None,
    needs_annotations: bool = True,
    test_mode: bool = True,
) -> list[str]:
    """Check one split of a COCO detection data set.

    Args:
        ann_file: Instances JSON.
        img_dir: Folder that the JSON's ``file_name`` are relative to.
        classes: Class names in the order of the labels.
        num_classes: Number of classes of the model's head; None where it is not known.
        needs_annotations: False where predictions are only written down (``format_only``): the
            file may then be one without annotations, such as test-dev's.
        test_mode: False for data to train on, which may do without ``iscrowd`` and, as a part of
            more, without any annotation.

    Returns:
        Warnings, one line each; empty where all is well.

    Raises:
        MissingFileError: The annotation file, the folder or images in it are not there.
        InputError: The JSON is broken, is no instances file, contradicts itself, does not fit
            ``classes`` or ``num_classes``, or something cannot be read.
    """
    classes = check_coco_classes(classes, num_classes)
    ann_file, img_dir = Path(os.path.abspath(ann_file)), Path(os.path.abspath(img_dir))
    with _readable():
        if not ann_file.is_file():
            raise MissingFileError(f'annotation file {ann_file} is not there: {_ways_on(ann_file)}')
        if not img_dir.is_dir():
            raise MissingFileError(f'image folder {img_dir} is not there: {_ways_on(ann_file)}')
        content = read_instances(ann_file, needs_annotations, test_mode)
        images, annotations = content['images'], content['annotations']
        check_images(ann_file, images)
        _check_files(ann_file, img_dir, [image['file_name'] for image in images])
    warnings = check_categories(ann_file, content, classes)
    if annotations:
        return warnings + check_annotations(ann_file, images, annotations)
    if needs_annotations:
        warnings.append(f'{ann_file}: {_NOTHING_TO_LEARN}')
    return warnings


def check_dataloader_cfg(
    cfg_dataset: Mapping,
    num_classes: int | None = None,
    needs_annotations: bool = True,
    in_concatenation: bool = False,
) -> list[str]:
    """Check every local ``CocoDataset`` in a dataset's config, as `check_coco_data` does.

    In a training of several processes only the first one does: the data is the same for all, and
    parsing COCO's annotations once on each would cost gigabytes and print each warning as often.

    Args:
        cfg_dataset: A ``*_dataloader.dataset`` config. Wrappers (`WRAPPERS`) are looked into;
            datasets of other types, and those read from another machine, are passed over.
        num_classes: Number of classes of the model's head; None where it is not known.
        needs_annotations: See `check_coco_data`.
        in_concatenation: Whether it is one of several datasets, which may lack annotations.

    Returns:
        Warnings, one line each.

    Raises:
        MissingFileError: See `check_coco_data`.
        InputError: See `check_coco_data`; also training data without annotations, and a config
            that MMDetection would misread.
    """
    if not is_main_process():
        return []
    kind = cfg_dataset.get('type')
    kind = (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1]
    if kind in WRAPPERS:
        inner = cfg_dataset.get('datasets') or [cfg_dataset['dataset']]
        many = in_concatenation or kind == 'ConcatDataset'
        parts = (check_dataloader_cfg(cfg, num_classes, needs_annotations, many) for cfg in inner)
        return [line for part in parts for line in part]
    if kind != 'CocoDataset':
        return []
    ann_file, img_dir = resolve_paths(cfg_dataset)
    backend = (cfg_dataset.get('backend_args') or {}).get('backend', 'local')
    if backend != 'local' or '://' in ann_file or '://' in img_dir:
        return []
    classes = resolve_coco_classes(cfg_dataset)
    test_mode = bool(cfg_dataset.get('test_mode', False))
    lines = check_coco_data(ann_file, img_dir, classes, num_classes, needs_annotations, test_mode)
    for line in lines:  # a part of a concatenation may be images without objects, not the whole
        if line.endswith(_NOTHING_TO_LEARN) and not in_concatenation:
            raise InputError(line)
    return lines


@contextmanager
def _readable() -> Iterator[None]:
    """Turn what the file system reports (no permission, a broken disk) into one line."""
    try:
        yield
    except MissingFileError:
        raise
    except OSError as error:
        raise InputError(f'{error.filename}: cannot be read ({error.strerror or error})') from error


def resolve_paths(cfg: Mapping) -> tuple[str, str]:
    """Join the annotation file and the image folder to ``data_root``, as mmengine does.

    Args:
        cfg: A ``CocoDataset``'s config.

    Raises:
        InputError: One of the two is not set.
    """
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


def resolve_coco_classes(cfg: Mapping) -> Sequence[str]:
    """Return the class names that MMDetection takes for a dataset, COCO's 80 where none are set.

    Args:
        cfg: A ``CocoDataset``'s config.

    Raises:
        InputError: ``metainfo`` has the key of older versions, or names a file that cannot be read.
    """
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
        with _readable():
            return Path(classes).read_text(encoding='utf-8').splitlines()
    return classes


def coco_download(ann_file: str | os.PathLike) -> str | None:
    """Return the command that brings one of MS-COCO's own files, None for another file."""
    coco = _COCO_FILE.fullmatch(Path(ann_file).name)
    if coco is None:
        return None
    return tool_command('get_coco') + (' --year 2014' if coco[1] == '2014' else '')


def _ways_on(ann_file: Path) -> str:
    """Say how to come by the data that is missing."""
    command = coco_download(ann_file)
    if command:
        first = f'get MS-COCO by `{command}`'
    else:
        first = f'convert Pascal VOC by `{tool_command("voc_to_coco")}`'
    return f'{first}, name your own data by `--data-root DIR`, or try the demo data by `--demo`'


def check_coco_classes(classes: Sequence[str], num_classes: int | None) -> list[str]:
    """Return class names as a list, held against the model's head.

    Args:
        classes: Names in the order of the labels.
        num_classes: Of the model's head; None where it is not known.

    Raises:
        InputError: They are a text, one is there twice, or there are more or fewer of them.
    """
    if isinstance(classes, str):
        raise InputError(
            f'metainfo.classes is the text {classes!r}, not a tuple of names: '
            f'write metainfo=dict(classes=({classes!r},))'
        )
    check_unique(classes)
    if num_classes is not None and num_classes != len(classes):
        raise InputError(
            f'model.bbox_head.num_classes is {num_classes} and the data has {len(classes)} classes '
            f'({few(classes)}): set model.bbox_head.num_classes={len(classes)}, '
            'or metainfo.classes to the right names'
        )
    return list(classes)


def check_unique(classes: Sequence[str]) -> None:
    """Hold that ``metainfo.classes`` names no class twice.

    Raises:
        InputError: It does.
    """
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(f'metainfo.classes names {few(twice)} more than once')


def find_absent_images(folder: Path, names: Sequence[str]) -> list[int]:
    """Return which images are not there, by listing each folder once, not asking for every file.

    Args:
        folder: Holds the images.
        names: Image files, relative to it.

    Returns:
        Positions in ``names``.

    Raises:
        InputError: A folder cannot be listed.
    """
    there: dict[str, set[str]] = {}
    with _readable():
        for part in {os.path.dirname(name) for name in names}:
            try:
                there[part] = set(os.listdir(folder / part))
            except (FileNotFoundError, NotADirectoryError, ValueError):  # of a name with a NUL
                there[part] = set()
    split = (os.path.split(name) for name in names)
    return [i for i, (part, name) in enumerate(split) if name not in there[part]]


def _check_files(ann_file: Path, img_dir: Path, names: list[str]) -> None:
    lost = find_absent_images(img_dir, names)
    if lost:
        raise MissingFileError(
            f'{img_dir}: {len(lost)} of {len(names)} images that {ann_file} names are not in it, '
            f'the first is {shown(names[lost[0]])}: '
            + ('complete the folder' if len(lost) < len(names) else 'is data_prefix.img right?')
        )
