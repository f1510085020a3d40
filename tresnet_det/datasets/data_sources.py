"""Where data to be checked lies: layouts of folders, single files, the datasets of a config."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingFileError
from .checks import WRAPPERS, check_coco_classes, resolve_coco_classes, resolve_paths
from .classification import resolve_classes
from .data_findings import Findings
from .multilabel_readers import SUFFIXES
from .voc import check_layout

OTHER_JSON = re.compile(r'^(captions|image_info|panoptic|person_keypoints|stuff)_')
COCO_WORDS = (b'"annotations"', b'"image_id"')
ENDS = 1 << 20  # bytes at the start and the end of a file
SPLIT_FOLDERS = ('train', 'training', 'val', 'valid', 'validation', 'test', 'dev')
WANTED = (
    "COCO's annotations/*.json, Pascal VOC's Annotations, ImageSets and JPEGImages, a .csv file, "
    'or class folders (also below train/ and val/)'
)


@dataclass(frozen=True)
class Source:
    """A split of a data set, not yet read.

    Attributes:
        name: Of the split, unique in a report.
        kind: ``'coco'``, ``'voc'``, ``'csv'``, ``'list'`` (``NAME LABEL``) or ``'folders'``.
        ann_file: What is read; the list of pictures for VOC, the folder itself for class folders.
        folders: Where the pictures may be; the first that has them is taken.
        training: Whether it is learnt from, and not measured on.
        detection: Whether its boxes are what is learnt.
        classes: Names in the order of the labels; None takes them from the data.
        needs_truth: False where predictions are only written down.
        voc_root: Has VOC's ``Annotations``.
    """

    name: str
    kind: str
    ann_file: Path
    folders: tuple[Path, ...]
    training: bool = True
    detection: bool = False
    classes: tuple[str, ...] | None = None
    needs_truth: bool = True
    voc_root: Path | None = None


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
    boxes: np.ndarray | None = None
    areas: np.ndarray | None = None
    ignored: np.ndarray | None = None

    @property
    def name(self) -> str:
        return self.source.name

    def path(self, row: int) -> str:
        """Return a picture's file."""
        return os.path.join(self.folder, self.files[row])


def choose_folder(source: Source, files: list[str]) -> Path:
    """Return the first folder that has one of the first pictures, or else the first that exists."""
    for folder in source.folders:
        if any((folder / name).is_file() for name in files[:20]):
            return folder
    return next((folder for folder in source.folders if folder.is_dir()), source.folders[0])


def find_sources(path: Path, img_dir: Path | None = None) -> list[Source]:
    """Recognise the data at a path that a user gave.

    Args:
        path: An annotation file (``.json``, ``.csv``, ``.txt``) or a folder.
        img_dir: The pictures of an annotation file; without it they are looked for beside it.

    Raises:
        MissingFileError: A path is not there.
        InputError: There is no data that is known.
    """
    for given in filter(None, (path, img_dir)):
        if not given.exists():
            raise MissingFileError(f'{given}: no such file or folder')
    if path.is_file():
        kinds = {'.json': 'coco', '.csv': 'csv', '.txt': 'list'}
        if path.suffix.lower() not in kinds:
            raise InputError(
                f'{path}: give a config (.py), a .json, .csv or .txt file, or a folder'
            )
        if img_dir is not None and not img_dir.is_dir():
            raise InputError(f'{img_dir}: is no folder; give the folder of the pictures')
        return [_file_source(path, kinds[path.suffix.lower()], img_dir)]
    if img_dir is not None:
        raise InputError(
            f'{path} is a folder already, so what is {img_dir}? Give one folder, an annotation '
            'file and its folder, or name the validation data by --val'
        )
    for find in (_find_voc, _find_coco, _find_csv, _find_class_folders):
        sources = find(path)
        if sources:
            return _with_unique_names(sorted(sources, key=lambda source: not source.training))
    inner = [child for child in sorted(path.glob('*/')) if _find_voc(child)]
    hint = f'; did you mean {inner[0]}?' if inner else ''
    raise InputError(f'{path}: no data in it that is known, wanted is {WANTED}{hint}')


def is_training(name: str) -> bool:
    """Whether a split of that name is learnt from."""
    return name.lower().startswith('train') or not re.search('val|test|dev', name.lower())


def _with_unique_names(sources: list[Source]) -> list[Source]:
    names = [source.name for source in sources]
    if len(set(names)) == len(names):
        return sources
    return [replace(source, name=str(source.ann_file)) for source in sources]


def _file_source(path: Path, kind: str, img_dir: Path | None = None) -> Source:
    name = re.sub('^instances_', '', path.stem)
    if name.startswith('_annotations'):  # beside the pictures, as Roboflow exports
        name = path.parent.name
    root = path.parent.parent if path.parent.name in ('annotations', 'meta') else path.parent
    plain = name.rstrip('0123456789')
    around = (root / name, root / 'images' / name, root / name / 'images', root / plain,
              root / 'images' / plain, root / 'images', root / 'img', root / 'JPEGImages',
              path.parent, root)  # fmt: skip
    folders = (img_dir,) if img_dir is not None else around
    return Source(name, kind, path, folders, training=is_training(name), detection=kind == 'coco')


def _find_voc(root: Path) -> list[Source]:
    if not ((root / 'Annotations').is_dir() and (root / 'JPEGImages').is_dir()):
        return []
    check_layout(root)
    lists = {}
    for file in sorted((root / 'ImageSets/Main').glob('*.txt')):
        text = file.read_text(encoding='utf-8', errors='replace')  # whose reader will tell
        rows = [row.split() for row in text.splitlines() if row.strip()]
        if rows and all(len(row) == 1 for row in rows):  # others are lists of one class
            lists[file.stem] = file
    if {'train', 'val'} <= lists.keys():
        lists.pop('trainval', None)
    if not lists:
        raise InputError(f'{root / "ImageSets/Main"}: has no list of pictures, such as train.txt')
    return [
        Source(name, 'voc', file, (root / 'JPEGImages',), is_training(name), True, voc_root=root)
        for name, file in lists.items()
    ]


def _find_coco(root: Path) -> list[Source]:
    for pattern in ('annotations/instances_*.json', 'annotations/*.json', '*.json',
                    '*/_annotations.coco.json'):  # fmt: skip
        files = [
            file
            for file in sorted(root.glob(pattern))
            if not OTHER_JSON.match(file.name) and (pattern != '*.json' or _looks_like_coco(file))
        ]
        if files:
            return [_file_source(file, 'coco') for file in files]
    return []


def _looks_like_coco(file: Path) -> bool:
    """Whether a JSON file has annotations, from a look at its ends: the whole takes long."""
    with file.open('rb') as stream:
        text = stream.read(ENDS)
        stream.seek(max(file.stat().st_size - ENDS, 0))
        text += stream.read()
    return any(word in text for word in COCO_WORDS)


def _find_csv(root: Path) -> list[Source]:
    files = sorted((*root.glob('*.csv'), *root.glob('annotations/*.csv')))
    return [_file_source(file, 'csv') for file in files]


def _find_class_folders(root: Path) -> list[Source]:
    parts = [root / name for name in SPLIT_FOLDERS if _has_class_folders(root / name)]
    return [
        Source(part.name, 'folders', part, (part,), is_training(part.name))
        for part in parts or [root] * _has_class_folders(root)
    ]


def _has_class_folders(root: Path) -> bool:
    if not root.is_dir():
        return False
    inner = (e for e in os.scandir(root) if e.is_dir() and not e.name.startswith('.'))
    return any(
        file.lower().endswith(SUFFIXES)
        for folder in inner
        for _, _, files in os.walk(folder)
        for file in files
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
        return Source(kind=reader, ann_file=path, folders=(folder,), classes=classes, **common)
    if not isinstance(found, type) or not issubclass(found, (CocoDataset, XMLDataset)):
        return None
    if kind.startswith('LVIS'):  # whose images have a coco_url in place of a file_name
        return None
    common['detection'] = True
    classes = _names(cfg, found)
    if issubclass(found, XMLDataset):
        place = root / (cfg.get('data_prefix') or {}).get('sub_data_root', '')
        folder = place / cfg.get('img_subdir', 'JPEGImages')
        paths = dict(ann_file=root / ann_file, folders=(folder,), voc_root=place)
        return Source(kind='voc', classes=classes, **paths, **common)
    path, folder = map(Path, resolve_paths(cfg))
    return Source(kind='coco', ann_file=path, folders=(folder,), classes=classes, **common)


def _names(cfg: Mapping, kind: type) -> tuple[str, ...]:
    """Return the classes of a dataset of MMDetection."""
    own = (cfg.get('metainfo') or {}).get('classes') is None and kind.METAINFO.get('classes')
    return tuple(check_coco_classes(own or resolve_coco_classes(cfg), None))
