"""A folder of your own data: which layout it has, and which of its parts are for what."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError, MissingFileError, few
from .data_yaml import read_data_yaml
from .exports import KEYS, PARSERS, SIGNS, sniff
from .files import SUFFIXES, YAML, child_folders, walk
from .findings import Findings
from .recognise import (
    FINDERS,
    IMAGE_FOLDERS,
    XML_FOLDERS,
    Layout,
    find_class_folders,
    has_images,
    yolo_layout,
)
from .split import Source

KINDS = {
    'coco': "COCO's JSON",
    'voc': 'Pascal VOC',
    'yolo': "YOLO's label files",
    'labelme': "LabelMe's JSON",
    'via': "VGG Image Annotator's JSON",
    'datumaro': "Datumaro's JSON",
    'supervisely': "Supervisely's JSON",
    'boxes': 'a CSV of boxes',
    'csv': 'CSV',
    'folders': 'class folders',
}
OF_TASK = {
    'detection': ('coco', 'voc', 'yolo', *PARSERS),
    'multilabel': ('coco', 'voc', 'yolo', *PARSERS, 'csv', 'folders'),
    'classification': ('folders',),
}
COCO_KEYS = ('images', 'annotations', 'categories')
MOST_FILES = 10_000  # that are looked at for a layout that comes close
WANTED = {
    'coco': 'annotations/*.json or train/_annotations.coco.json',
    'voc': 'Annotations/, ImageSets/Main/ and JPEGImages/, or XML files and images',
    'yolo': 'a data.yaml, or images/train/ with labels/train/ and a classes.txt',
    'csv': 'train.csv',
    'folders': 'train/ with a folder of images for each class',
}


def find_layout(path: str | os.PathLike, task: str | None, strict: bool = True) -> Layout:
    """Recognise a folder of data, or one that lies alone in it or in its folders.

    Args:
        path: The folder, or a ``data.yaml`` of YOLO's.
        task: ``'detection'``, ``'multilabel'`` or ``'classification'``, which see `OF_TASK`; None
            where it may be any: detection's layouts come first, then the others.
        strict: Whether to raise the first of the layout's faults, and not leave them to the caller.

    Raises:
        MissingFileError: It, or a part of its layout, does not exist.
        InputError: It has no layout that serves the task, or several, or its splits cannot be told
            apart.
    """
    root = Path(os.path.abspath(path))
    tasks = ('detection', 'multilabel') if task is None else (task,)
    if root.is_file() and root.suffix in YAML and 'yolo' in OF_TASK[tasks[0]]:
        found = [yolo_layout(root.parent, read_data_yaml(root))]
    elif root.is_dir():
        # in it (BCCD/), or in that (VOCdevkit/VOC2012/)
        found = next(filter(None, (_search(root, each, 2) for each in tasks)), [])
    else:
        raise MissingFileError(f'{root}: not found; give the folder of the data')
    if len(found) > 1:
        inner = few(str(layout.root.relative_to(root)) for layout in found)
        raise InputError(
            f'{root}: has {len(found)} datasets in it ({inner}): name one of these folders'
        )
    if not found:
        raise InputError(f'{root}: no layout that is known{_describe_unknown(root, task)}')
    if strict and found[0].faults:
        raise found[0].faults[0]
    return found[0]


def layout_sources(layout: Layout, roles: Sequence[str], task: str | None = None) -> list[Source]:
    """Return where the splits of a layout are.

    Args:
        layout: Of `find_layout`.
        roles: Those of its splits that are wanted.
        task: What they are for; None takes boxes for detection, class folders for single labels.
    """
    kind = layout.kind
    boxes = kind in OF_TASK['detection']
    return [
        Source(
            role,
            kind,
            layout.sign if kind == 'yolo' else layout.splits[role],
            image_folder(layout, role),
            training=role == 'train',
            # Label files and XML are read as boxes whatever they are for.
            detection=boxes and (task != 'multilabel' or kind != 'coco'),
            several=task == 'multilabel',
            own=True,
            search=kind in ('coco', 'csv', *PARSERS),
            role=role,
            xml_folder=_xml_folder(layout, role) if kind == 'voc' else None,
            yolo=layout.yolo,
            optional=role == 'test' and len(roles) > 1,
            fills_in=True,
        )
        for role in roles
    ]


def image_folder(layout: Layout, role: str) -> Path:
    """Return the folder of a split's images, or one above it."""
    if layout.kind != 'voc':
        return layout.splits[role] if layout.kind == 'folders' else layout.root
    xmls = _xml_folder(layout, role)
    if xmls.name not in XML_FOLDERS:  # the images are next to the XML files
        return xmls
    places = (xmls.parent / name for name in IMAGE_FOLDERS)
    beside = xmls if has_images(xmls) else xmls.parent
    return next(filter(Path.is_dir, places), beside)


def _xml_folder(layout: Layout, role: str) -> Path:
    place = layout.splits[role]
    return place if place.is_dir() else layout.root / 'Annotations'


def check_training(layout: Layout, findings: Findings) -> None:
    """Find that a layout has nothing to train on."""
    if 'train' not in layout.splits:
        text = (
            f'{layout.root}: nothing in it is for training, there is {few(layout.splits)}: put '
            'train into the name of the part to learn from'
        )
        findings.add(f'{layout.root.name}/', layout.root, 'no-training-split', [text])


def _describe_unknown(root: Path, task: str | None) -> str:
    entries = sorted(name + '/' * (root / name).is_dir() for name in os.listdir(root))
    there = f'in it are {few(entries)}' if entries else 'it is empty'
    kinds = tuple(KINDS) if task is None else OF_TASK[task]
    wanted = '; '.join(f'{KINDS[kind]} ({WANTED[kind]})' for kind in kinds if kind in WANTED)
    wanted += '; or another of docs/data.md' * (task != 'classification')
    near = [f'{KINDS[kind]} lacks {what}' for kind, what in _find_closest(root) if kind in kinds]
    closest = f'; closest: {", ".join(near)}' if near else ''
    return f'{f" for {task}" if task else ""}; expected: {wanted}{closest}; {there}'


def _find_closest(root: Path) -> Iterator[tuple[str, str]]:
    """Yield layouts of which one thing is not found, and that thing."""
    found = (Path(place, name) for place, _, names in walk(root) for name in names)
    first = {file.suffix.lower(): file for file in itertools.islice(found, MOST_FILES)}
    if not first.keys() & {*SUFFIXES}:
        if '.xml' in first:
            yield 'voc', 'the images'
        return
    if '.json' in first:
        keys = {key.decode() for key in KEYS.findall(sniff(first['.json'])[1])}
        for kind, words in (('coco', COCO_KEYS), *SIGNS.items()):
            lost = [word for word in words if word not in keys]
            if len(lost) == 1:
                yield kind, f'{lost[0]!r} in {first[".json"].relative_to(root)}'
    if '.xml' in first:
        yield 'voc', f'<annotation> in {first[".xml"].relative_to(root)}'
    if '.csv' in first:
        yield 'boxes', f'columns of boxes in {first[".csv"].relative_to(root)}'
    if '.txt' in first:
        yield 'yolo', 'a classes.txt or data.yaml next to the images and their .txt files'
    if len(first) == 1:
        yield 'folders', 'a folder of images for each class'


def _search(root: Path, task: str, depth: int) -> list[Layout]:
    """Return the layout of a folder, or else those of the folders in it."""
    layout = _recognise(root, task)
    if layout or not depth:
        return [layout] if layout else []
    return [found for child in child_folders(root) for found in _search(child, task, depth - 1)]


def _recognise(root: Path, task: str) -> Layout | None:
    finders = dict.fromkeys(FINDERS[kind] for kind in OF_TASK[task] if kind in FINDERS)
    found = [layout for find in finders if (layout := find(root))]
    if len(found) > 1:
        signs = ' and '.join(
            f'{KINDS[layout.kind]} ({layout.sign.relative_to(root)})' for layout in found
        )
        raise InputError(f'{root}: has several layouts, {signs}: move all but one of them away')
    if found:
        return found[0]
    # Folders of images are in every layout, so these are asked for last.
    return find_class_folders(root) if 'folders' in OF_TASK[task] else None
