"""Where the data is that a config or a user names, and its checks before anything is built."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mmengine.dist import is_main_process

from ..errors import InputError, MissingFileError, few
from .data import layout_sources, read_data
from .files import YAML, not_found, read_lines
from .findings import Findings, Named, compare_classes
from .kinds import first_task
from .layouts import check_training, find_layout
from .split import Source, role_of

SAMPLE = 1000  # images of a config's file that are opened before the training
FILE_KINDS = {'.json': 'coco', '.csv': 'csv', '.txt': 'list'}


def check_detection(
    cfg_dataset: Mapping, name: str, num_classes: int | None = None, needs_truth: bool = True
) -> list[str]:
    """Check every local ``CocoDataset`` in a dataset's config, as ``check_data.py`` does.

    In a training of several processes only the first one does: the data is the same for all, and
    parsing COCO's annotations once on each would cost gigabytes and print each warning as often.

    Args:
        cfg_dataset: A ``*_dataloader.dataset`` config.
        name: Of the split; ``'train'`` is learnt from.
        num_classes: Of the model's head; None where it is not known.
        needs_truth: False where predictions are only written down (``format_only``).

    Returns:
        Warnings, one line each.

    Raises:
        InputError: The first error in the config or the data.
    """
    if not is_main_process():
        return []
    findings = Findings(strict=True)
    sources = find_config_sources(cfg_dataset, name, name == 'train', findings, needs_truth)
    read_data([s for s in sources if s.kind == 'coco'], findings, num_classes, headers=SAMPLE)
    return findings.warnings()


def read_classes(cfg_dataset: Mapping) -> tuple[str, ...]:
    """Return the classes of a classification dataset's config, by building it.

    Raises:
        InputError: What its files have wrong, or it has no classes.
    """
    from mmdet.registry import DATASETS

    classes = DATASETS.build(cfg_dataset).metainfo.get('classes')
    if not classes:
        raise InputError(f'{cfg_dataset["type"]} names no classes: set metainfo.classes')
    return tuple(classes)


def check_classification(datasets: Mapping[str, Mapping], num_classes: int | None) -> None:
    """Compare the classes of data loaders with the model's and each other's.

    The datasets check their own files and rows when they are built. Of several processes each
    does: a dataset that downloads lets one go first, and all must build it as often.

    Args:
        datasets: ``*_dataloader.dataset`` configs by the name of the split; each is built once.
        num_classes: Of the model's head; None where it is not known.

    Raises:
        InputError: They do not fit, or a file of the data is wrong.
    """
    findings = Findings(strict=True)
    named: list[Named] = []
    for name, cfg in datasets.items():
        classes = read_classes(cfg)
        sources = find_config_sources(cfg, name, name == 'train', findings)
        file = sources[0].ann_file if sources else str(cfg['type'])
        named.append((name, file, classes))
        compare_classes(named[-1:], named[0], num_classes, findings)


def find_config_sources(
    cfg: Mapping, name: str, training: bool, findings: Findings, needs_truth: bool = True
) -> list[Source]:
    """Find what a dataset's config reads; wrappers and concatenations are looked into.

    Args:
        cfg: A ``*_dataloader.dataset`` config.
        name: Of the split; the parts of a concatenation are numbered.
        training: Whether it is learnt from.
        findings: Gets what of the config does not fit.
        needs_truth: False where predictions are only written down.
    """
    parts = _unwrap(cfg)
    names = [name] if len(parts) == 1 else [f'{name}[{i}]' for i in range(len(parts))]
    sources = []
    for part, part_name in zip(parts, names, strict=True):
        add = findings.about(part_name, 'the config')
        source = partial(Source, part_name, training=training, needs_truth=needs_truth)
        try:
            found = _config_source(part, source)
        except InputError as error:
            add('bad-config', [error])
            continue
        if found is None:
            add('not-checked', [getattr(part.get('type'), '__name__', part.get('type'))])
        else:
            sources.append(found)
    return sources


def _unwrap(cfg: Mapping) -> list[Mapping]:
    inner = cfg.get('datasets') or [part for part in [cfg.get('dataset')] if part]
    return [part for entry in inner for part in _unwrap(entry)] or [cfg]


def _config_source(cfg: Mapping, source: Callable[..., Source]) -> Source | None:
    """Return the source of a dataset with files of its own, None where it is not known."""
    from mmdet.datasets import CocoDataset, XMLDataset
    from mmdet.registry import DATASETS

    found = cfg.get('type')
    found = DATASETS.get(found) if isinstance(found, str) else found
    kind = getattr(found, '__name__', '')
    root, ann_file = str(cfg.get('data_root') or ''), str(cfg.get('ann_file') or '')
    prefix = cfg.get('data_prefix') or {}
    backend = (cfg.get('backend_args') or {}).get('backend', 'local')
    if backend != 'local' or any('://' in str(path) for path in (root, ann_file, *prefix.values())):
        return None
    if kind in ('ImageFolderDataset', 'MultiLabelDataset'):
        several = kind == 'MultiLabelDataset'
        metainfo = cfg.get('metainfo')
        return label_source(root, ann_file, prefix, metainfo, several, source)
    known = isinstance(found, type) and issubclass(found, (CocoDataset, XMLDataset))
    # The images of LVIS have a coco_url in place of a file_name.
    if not found or not known or kind.startswith('LVIS'):
        return None
    own = {'classes': found.METAINFO.get('classes')}
    classes = resolve_classes(cfg.get('metainfo')) or resolve_classes(own)
    if issubclass(found, XMLDataset):
        place = Path(root, prefix.get('sub_data_root', ''))
        return source(
            'voc',
            Path(root, ann_file),
            place / cfg.get('img_subdir', 'JPEGImages'),
            detection=True,
            classes=classes,
            xml_folder=place / cfg.get('ann_subdir', 'Annotations'),
        )
    if not ann_file:
        raise InputError('dataset.ann_file is not set: give the COCO JSON, relative to data_root')
    if 'img' not in prefix:
        raise InputError(
            "dataset.data_prefix has no key 'img': write data_prefix=dict(img='FOLDER/')"
        )
    folder = _absolute(root, prefix['img'])
    return source(
        'coco',
        _absolute(root, ann_file),
        folder,
        detection=True,
        classes=classes,
        filter_cfg={} if cfg.get('test_mode') else cfg.get('filter_cfg') or {},
    )


def label_source(
    data_root: str,
    ann_file: str,
    data_prefix: Mapping | None,
    metainfo: Mapping | None,
    several: bool,
    source: Callable[..., Source] | None = None,
) -> Source:
    """Return what an `ImageFolderDataset`, or with ``several`` a `MultiLabelDataset`, reads.

    Args:
        data_root: Folder that the other paths are relative to.
        ann_file: Of the labels; empty for class folders.
        data_prefix: ``dict(img=FOLDER)`` for the images' folder below ``data_root``.
        metainfo: ``dict(classes=...)``.
        several: Whether an image may have several labels.
        source: Makes it of what these say; None for one without a name.

    Raises:
        MissingFileError: The folder, or the file of the classes, does not exist.
        InputError: A setting is wrong.
    """
    prefix = dict(data_prefix or {})
    folder = _absolute(data_root, prefix.pop('img', ''))
    if prefix:
        raise InputError(
            f"data_prefix has the key {next(iter(prefix))!r}: write data_prefix=dict(img='FOLDER/')"
        )
    if not folder.is_dir():
        raise MissingFileError(not_found('image folder', folder))
    path = _absolute(data_root, ann_file) if ann_file else folder
    kind = 'folders' if not ann_file else 'list'
    if ann_file and several:
        kind = FILE_KINDS.get(path.suffix.lower(), '')
        if kind not in ('coco', 'csv'):
            raise InputError(f'ann_file {path} must be a .json (COCO) or .csv file')
    make = source or partial(Source, 'dataset')
    return make(kind, path, folder, several=several, classes=resolve_classes(metainfo))


def resolve_classes(metainfo: Mapping | None) -> tuple[str, ...] | None:
    """Return ``metainfo['classes']``, None where it is not set.

    They may be a text file with a name on each line, as MMEngine allows.

    Raises:
        MissingFileError: There is no such file.
        InputError: They are no names, or one occurs twice.
    """
    metainfo = metainfo or {}
    if 'CLASSES' in metainfo:
        raise InputError(
            'dataset.metainfo.CLASSES is the key of older versions and would be ignored: write '
            'metainfo.classes'
        )
    classes = metainfo.get('classes')
    if classes is None:
        return None
    if isinstance(classes, str):
        if not os.path.isfile(classes):
            raise MissingFileError(
                f'metainfo.classes is {classes!r}, which is no file: give a tuple of names '
                f'(one name: ({classes!r},)), or a text file with a name on each line'
            )
        lines = read_lines(Path(classes))
        classes = [line.strip() for line in lines if line.strip()]
    odd = [name for name in classes if not isinstance(name, str)]
    if odd or not classes:
        raise InputError(f'metainfo.classes must be names, got {str(odd or classes)[:80]}')
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise InputError(f'metainfo.classes names {few(twice)} more than once')
    return tuple(classes)


def _absolute(root: str, path: str) -> Path:
    return Path(os.path.abspath(os.path.join(root, path)))


def find_sources(
    findings: Findings,
    path: Path,
    img_dir: Path | None = None,
    *,
    alone: bool = False,
    task: str | None = None,
) -> list[Source]:
    """Recognise the data at a path that a user gave.

    Args:
        findings: Gets what of a layout is wrong or skipped.
        path: An annotation file (``.json``, ``.csv``, ``.txt``), or what `find_layout` recognises.
        img_dir: The images of an annotation file; without it they are looked for around it.
        alone: Whether it is all of the data, so that a folder must have a part for training.
        task: What a folder is for; None takes the first task that its layout serves.

    Raises:
        MissingFileError: A path does not exist.
        InputError: There is no data that is known.
    """
    if img_dir is not None and not img_dir.is_dir():
        raise MissingFileError(f'{img_dir}: not found; give the folder of the images')
    if path.suffix.lower() in FILE_KINDS and not path.is_dir():
        if not path.is_file():
            raise MissingFileError(f'{path}: not found')
        return [_file_source(path, img_dir)]
    if path.is_file() and path.suffix not in YAML:
        raise InputError(f'{path}: give a config (.py), a .json, .csv or .txt file, or a folder')
    if img_dir is not None:
        raise InputError(
            f'{path} is all of the data already, so what is {img_dir}? Give one folder, an '
            'annotation file and its folder, or name the validation data by --val'
        )
    layout = find_layout(path, task, strict=False)
    add = findings.about(f'{layout.root.name}/', layout.root)
    add('bad-layout', layout.faults)
    add('left-out', layout.notes)
    if alone and not layout.faults:
        check_training(layout, findings)
    return layout_sources(layout, list(layout.splits), task or first_task(layout.kind))


def _file_source(path: Path, img_dir: Path | None) -> Source:
    name = re.sub('^instances_', '', path.stem)
    if name.startswith('_annotations'):  # next to the images, as Roboflow exports
        name = path.parent.name
    root = path.parent.parent if path.parent.name in ('annotations', 'meta') else path.parent
    kind, role = FILE_KINDS[path.suffix.lower()], role_of(name)
    role = role if role in ('val', 'test') else 'train'
    return Source(
        name,
        kind,
        Path(os.path.abspath(path)),
        Path(os.path.abspath(img_dir or root)),
        training=role == 'train',
        detection=kind == 'coco',
        own=True,
        search=img_dir is None,
        role=role,
    )
