"""Where data to be checked lies: layouts of folders, single files, the datasets of a config."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.checks import WRAPPERS, check_coco_classes, resolve_coco_classes, resolve_paths
from ..datasets.classification import resolve_classes
from ..datasets.formats.layouts import OF_TASK, Layout, find_layout, find_pictures, role_of
from ..datasets.formats.yolo import YoloData
from ..errors import InputError, MissingFileError
from .findings import Findings

FILE_KINDS = {'.json': 'coco', '.csv': 'csv', '.txt': 'list'}


@dataclass(frozen=True)
class Source:
    """A split of a data set, not yet read.

    Attributes:
        name: Of the split, unique in a report.
        kind: ``'coco'``, ``'voc'``, ``'yolo'``, ``'csv'``, ``'list'`` (``NAME LABEL``) or
            ``'folders'``.
        ann_file: What is read; the list of pictures for VOC, what names the classes for YOLO, the
            folder itself for class folders.
        folder: Of the pictures; None where they are looked for below ``root`` by their names.
        training: Whether it is learnt from, and not measured on.
        detection: Whether its boxes are what is learnt.
        classes: Names in the order of the labels; None takes them from the data.
        needs_truth: False where predictions are only written down.
        root: The folder that has the layout, such as VOC's ``Annotations``.
        role: ``'train'``, ``'val'`` or ``'test'`` in the layout, whatever it is taken for.
        yolo: YOLO's data.
        optional: Whether it is left out where it has no annotations.
    """

    name: str
    kind: str
    ann_file: Path
    folder: Path | None = None
    training: bool = True
    detection: bool = False
    classes: tuple[str, ...] | None = None
    needs_truth: bool = True
    root: Path | None = None
    role: str = 'train'
    yolo: YoloData | None = None
    optional: bool = False


@dataclass
class Split:
    """A split that has been read: ``N`` pictures, ``M`` objects (boxes, or labels of pictures).

    Attributes:
        source: Where it is from.
        folder: Of the pictures.
        classes: Names in the order of the labels.
        files: ``N`` files, relative to ``folder``.
        sizes: ``(N, 2)``, width and height as annotated; NaN where nothing is said.
        rows: ``(M,)``, the picture of each object.
        labels: ``(M,)``, class numbers; -1 for what is no class.
        name_object: Says of an object where it is.
        named: All files that the annotations name, also those of entries that are no good.
        annotated: ``(N,)``, whether anything is said of a picture, good or bad.
        absent: Classes that the data has no place for, as a category or a folder.
        lacking: ``(N,)``, whether a picture lacks the label file of its own; with YOLO's.
        boxes: ``(M, 4)``: x, y, width and height in pixels; None for labels of pictures.
        areas: ``(M,)`` in pixels, NaN where nothing is said; with ``boxes``.
        ignored: ``(M,)``: crowds, which are not learnt; with ``boxes``.
    """

    source: Source
    folder: Path
    classes: tuple[str, ...]
    files: list[str]
    sizes: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    name_object: Callable[[int], str]
    named: set[str]
    annotated: np.ndarray
    absent: frozenset[str] = frozenset()
    lacking: np.ndarray | None = None
    boxes: np.ndarray | None = None
    areas: np.ndarray | None = None
    ignored: np.ndarray | None = None

    @property
    def name(self) -> str:
        return self.source.name

    def path(self, row: int) -> str:
        """Return a picture's file."""
        return os.path.join(self.folder, self.files[row])


def find_folder(source: Source, files: list[str], findings: Findings) -> Path:
    """Return the folder of a source's pictures; where none is found, the findings say so."""
    if source.folder is not None or not files:
        return source.folder or source.root
    try:
        return find_pictures(source.root, files, source.ann_file, source.role)
    except InputError as error:
        findings.add(source.name, 'pictures-not-found', [str(error)])
        return source.root


def find_sources(findings: Findings, path: Path, img_dir: Path | None = None) -> list[Source]:
    """Recognise the data at a path that a user gave.

    Args:
        findings: Gets what of a layout is wrong or left out.
        path: An annotation file (``.json``, ``.csv``, ``.txt``), or what `find_layout` recognises.
        img_dir: The pictures of an annotation file; without it they are looked for around it.

    Raises:
        MissingFileError: A path is not there.
        InputError: There is no data that is known.
    """
    if img_dir is not None and not img_dir.is_dir():
        raise MissingFileError(f'{img_dir}: no folder there; give the folder of the pictures')
    if path.suffix.lower() in FILE_KINDS and not path.is_dir():
        if not path.is_file():
            raise MissingFileError(f'{path}: no file there')
        return [_file_source(path, img_dir)]
    if path.is_file() and path.suffix not in ('.yaml', '.yml'):
        raise InputError(f'{path}: give a config (.py), a .json, .csv or .txt file, or a folder')
    if img_dir is not None:
        raise InputError(
            f'{path} is all of the data already, so what is {img_dir}? Give one folder, an '
            'annotation file and its folder, or name the validation data by --val'
        )
    layout = find_layout(path, None, strict=False)
    where = f'{layout.root.name}/'
    findings.add(where, 'bad-layout', layout.faults)
    findings.add(where, 'left-out', layout.notes)
    return [_layout_source(layout, role) for role in layout.splits]


def _file_source(path: Path, img_dir: Path | None) -> Source:
    name = re.sub('^instances_', '', path.stem)
    if name.startswith('_annotations'):  # beside the pictures, as Roboflow exports
        name = path.parent.name
    root = path.parent.parent if path.parent.name in ('annotations', 'meta') else path.parent
    kind, role = FILE_KINDS[path.suffix.lower()], role_of(name)
    role = role if role in ('val', 'test') else 'train'
    where = dict(folder=img_dir, root=root, role=role)
    return Source(name, kind, path, training=role == 'train', detection=kind == 'coco', **where)


def _layout_source(layout: Layout, role: str) -> Source:
    place, kind = layout.splits[role], layout.kind
    folders = {'voc': layout.root / 'JPEGImages', 'folders': place}
    return Source(
        role,
        kind,
        layout.sign if kind == 'yolo' else place,
        folders.get(kind),
        training=role == 'train',
        detection=kind in OF_TASK['detection'],
        root=layout.root,
        role=role,
        yolo=layout.yolo,
        optional=role == 'test',
    )


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
        try:
            source = _config_source(part, part_name, training, needs_truth)
        except InputError as error:
            findings.add(part_name, 'bad-config', [str(error)])
            continue
        if source is None:
            findings.add(part_name, 'not-checked', [_type_name(part)])
        else:
            sources.append(source)
    return sources


def _unwrap(cfg: Mapping) -> list[Mapping]:
    if _type_name(cfg) not in WRAPPERS:
        return [cfg]
    inner = cfg.get('datasets') or [cfg['dataset']]
    return [part for entry in inner for part in _unwrap(entry)]


def _type_name(cfg: Mapping) -> str:
    kind = cfg.get('type', '')
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1]


def _config_source(cfg: Mapping, name: str, training: bool, needs_truth: bool) -> Source | None:
    """Return the source of a dataset with files of its own, None where it is not known."""
    from mmdet.datasets import CocoDataset, XMLDataset
    from mmdet.registry import DATASETS

    kind = _type_name(cfg)
    root, ann_file = Path(cfg.get('data_root') or ''), cfg.get('ann_file') or ''
    found = DATASETS.get(kind)
    common = dict(name=name, training=training, needs_truth=needs_truth)
    if (cfg.get('backend_args') or {}).get('backend', 'local') != 'local' or '://' in ann_file:
        return None
    if kind in ('ImageFolderDataset', 'MultiLabelDataset'):
        folder = root / (cfg.get('data_prefix') or {}).get('img', '')
        path = root / ann_file if ann_file else folder
        reader = 'folders' if not ann_file else 'list'
        if ann_file and kind == 'MultiLabelDataset':
            reader = {'.json': 'coco', '.csv': 'csv'}.get(path.suffix.lower())
            if reader is None:
                raise InputError(f'ann_file {path} must be a .json (COCO) or .csv file')
        classes = resolve_classes(cfg.get('metainfo'))
        return Source(kind=reader, ann_file=path, folder=folder, classes=classes, **common)
    if not isinstance(found, type) or not issubclass(found, (CocoDataset, XMLDataset)):
        return None
    if kind.startswith('LVIS'):  # whose images have a coco_url in place of a file_name
        return None
    common['detection'] = True
    classes = _names(cfg, found)
    if issubclass(found, XMLDataset):
        place = root / (cfg.get('data_prefix') or {}).get('sub_data_root', '')
        folder = place / cfg.get('img_subdir', 'JPEGImages')
        paths = dict(ann_file=root / ann_file, folder=folder, root=place)
        return Source(kind='voc', classes=classes, **paths, **common)
    path, folder = map(Path, resolve_paths(cfg))
    return Source(kind='coco', ann_file=path, folder=folder, classes=classes, **common)


def _names(cfg: Mapping, kind: type) -> tuple[str, ...]:
    """Return the classes of a dataset of MMDetection."""
    own = (cfg.get('metainfo') or {}).get('classes') is None and kind.METAINFO.get('classes')
    return tuple(check_coco_classes(own or resolve_coco_classes(cfg), None))
