"""Where data to be checked lies: layouts of folders, single files, the datasets of a config."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.checks import WRAPPERS, check_coco_classes, resolve_coco_classes, resolve_paths
from ..datasets.classification import resolve_classes
from ..datasets.formats.image_folders import find_images
from ..datasets.formats.layouts import OF_TASK, Layout, find_layout
from ..datasets.formats.roles import role_of
from ..datasets.formats.yolo import YoloData
from ..errors import InputError, MissingFileError
from .findings import Findings

NO_CLASS = -1  # in place of a class number
ONE_LABEL = ('list', 'folders')  # kinds of sources with one label per image
FILE_KINDS = {'.json': 'coco', '.csv': 'csv', '.txt': 'list'}


@dataclass(frozen=True)
class Source:
    """A split of a data set, not yet read.

    Attributes:
        name: Of the split, unique in a report.
        kind: ``'coco'``, ``'voc'``, ``'yolo'``, ``'csv'``, ``'list'`` (``NAME LABEL``) or
            ``'folders'``.
        ann_file: What is read; the list of images for VOC, what names the classes for YOLO, the
            folder itself for class folders.
        folder: Of the images, or what they lie below.
        training: Whether it is learnt from, and not measured on.
        detection: Whether its boxes are what is learnt.
        classes: Names in the order of the labels; None takes them from the data.
        needs_truth: False where predictions are only written down.
        search: Whether the images are looked for below ``folder``, by their names.
        role: ``'train'``, ``'val'`` or ``'test'`` in the layout, whatever it is taken for.
        xml_folder: Of VOC's XML files; with the kind ``'voc'`` alone.
        yolo: YOLO's data; with the kind ``'yolo'`` alone.
        optional: Whether it is left out where it has no annotations.
    """

    name: str
    kind: str
    ann_file: Path
    folder: Path
    training: bool = True
    detection: bool = False
    classes: tuple[str, ...] | None = None
    needs_truth: bool = True
    search: bool = False
    role: str = 'train'
    xml_folder: Path | None = None
    yolo: YoloData | None = None
    optional: bool = False


@dataclass
class Boxes:
    """The boxes of ``M`` objects.

    Attributes:
        xywh: ``(M, 4)``: left, top, width and height in pixels of the image.
        areas: ``(M,)`` in square pixels, NaN where nothing is said.
        ignored: ``(M,)``, whether it is a crowd, or difficult, and so not learnt.
    """

    xywh: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray

    def take(self, rows: np.ndarray) -> 'Boxes':
        """Return the boxes of some objects."""
        return Boxes(self.xywh[rows], self.areas[rows], self.ignored[rows])


@dataclass
class Split:
    """A split that has been read: ``N`` images, ``M`` objects (boxes, or labels of images).

    Attributes:
        source: Where it is from.
        folder: Of the images.
        classes: Names in the order of the labels.
        files: ``N`` files, relative to ``folder``.
        sizes: ``(N, 2)``, width and height in pixels as annotated; NaN where nothing is said.
        rows: ``(M,)``, the image of each object.
        labels: ``(M,)``, class numbers; `NO_CLASS` for what is no class.
        name_object: Says of an object where it is.
        named: All files that the annotations name, also those of entries that are no good.
        annotated: ``(N,)``, whether anything is said of an image, good or bad.
        absent: Classes that the data has no place for, as a category or a folder.
        lacking: ``(N,)``, whether an image lacks the label file of its own; with YOLO's.
        boxes: Of the objects; None for labels of images.
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
    boxes: Boxes | None = None

    @property
    def name(self) -> str:
        """Its source's."""
        return self.source.name

    def path(self, row: int) -> str:
        """Return an image's file."""
        return os.path.join(self.folder, self.files[row])


def find_folder(source: Source, files: list[str], findings: Findings) -> Path:
    """Return the folder of a source's images.

    Args:
        source: Where they lie, or below what.
        files: Their names.
        findings: Gets it where no folder below has them; the one above is returned then.
    """
    if source.search and files:
        try:
            return find_images(source.folder, files, source.ann_file, source.role)
        except InputError as error:
            findings.add(source.name, 'images-not-found', [str(error)])
    return source.folder


def find_sources(findings: Findings, path: Path, img_dir: Path | None = None) -> list[Source]:
    """Recognise the data at a path that a user gave.

    Args:
        findings: Gets what of a layout is wrong or left out.
        path: An annotation file (``.json``, ``.csv``, ``.txt``), or what `find_layout` recognises.
        img_dir: The images of an annotation file; without it they are looked for around it.

    Raises:
        MissingFileError: A path is not there.
        InputError: There is no data that is known.
    """
    if img_dir is not None and not img_dir.is_dir():
        raise MissingFileError(f'{img_dir}: no folder there; give the folder of the images')
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
    if name.startswith('_annotations'):  # beside the images, as Roboflow exports
        name = path.parent.name
    root = path.parent.parent if path.parent.name in ('annotations', 'meta') else path.parent
    kind, role = FILE_KINDS[path.suffix.lower()], role_of(name)
    role = role if role in ('val', 'test') else 'train'
    return Source(
        name,
        kind,
        path,
        img_dir or root,
        training=role == 'train',
        detection=kind == 'coco',
        search=img_dir is None,
        role=role,
    )


def _layout_source(layout: Layout, role: str) -> Source:
    place, kind = layout.splits[role], layout.kind
    folders = {'voc': layout.root / 'JPEGImages', 'folders': place}
    return Source(
        role,
        kind,
        layout.sign if kind == 'yolo' else place,
        folders.get(kind, layout.root),
        training=role == 'train',
        detection=kind in OF_TASK['detection'],
        search=kind in ('coco', 'csv'),
        role=role,
        xml_folder=layout.root / 'Annotations' if kind == 'voc' else None,
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
    source = partial(Source, name, training=training, needs_truth=needs_truth)
    if (cfg.get('backend_args') or {}).get('backend', 'local') != 'local' or '://' in ann_file:
        return None
    if kind in ('ImageFolderDataset', 'MultiLabelDataset'):
        folder = root / (cfg.get('data_prefix') or {}).get('img', '')
        path = root / ann_file if ann_file else folder
        reader = 'folders' if not ann_file else 'list'
        if ann_file and kind == 'MultiLabelDataset':
            if path.suffix.lower() not in ('.json', '.csv'):
                raise InputError(f'ann_file {path} must be a .json (COCO) or .csv file')
            reader = FILE_KINDS[path.suffix.lower()]
        return source(reader, path, folder, classes=resolve_classes(cfg.get('metainfo')))
    is_known = isinstance(found, type) and issubclass(found, (CocoDataset, XMLDataset))
    # The images of LVIS have a coco_url in place of a file_name.
    if not is_known or kind.startswith('LVIS'):
        return None
    classes = _names(cfg, found.METAINFO)
    if issubclass(found, XMLDataset):
        place = root / (cfg.get('data_prefix') or {}).get('sub_data_root', '')
        return source(
            'voc',
            root / ann_file,
            place / cfg.get('img_subdir', 'JPEGImages'),
            detection=True,
            classes=classes,
            xml_folder=place / cfg.get('ann_subdir', 'Annotations'),
        )
    path, folder = map(Path, resolve_paths(cfg))
    return source('coco', path, folder, detection=True, classes=classes)


def _names(cfg: Mapping, metainfo: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes of a dataset of MMDetection, whose own are in ``metainfo``."""
    own = (cfg.get('metainfo') or {}).get('classes') is None and metainfo.get('classes')
    return tuple(check_coco_classes(own or resolve_coco_classes(cfg), None))
