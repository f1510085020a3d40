"""A folder of your own data: which layout it has, and which of its parts are for what."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ..errors import InputError, MissingFileError, few
from .files import SUFFIXES, child_folders, read_lines
from .findings import Findings
from .split import ROLES, Source, YoloData, role_of
from .voc import check_layout, find_lists
from .yolo import has_labels, number_names, read_data_yaml

KINDS = {
    'coco': "COCO's JSON",
    'voc': 'Pascal VOC',
    'yolo': "YOLO's label files",
    'csv': 'CSV',
    'folders': 'class folders',
}
OF_TASK = {
    'detection': ('coco', 'voc', 'yolo'),
    'multilabel': ('coco', 'voc', 'yolo', 'csv', 'folders'),
    'classification': ('folders',),
}
WANTED = {
    'coco': 'annotations/*.json or train/_annotations.coco.json',
    'voc': 'Annotations/, ImageSets/Main/ and JPEGImages/',
    'yolo': 'a data.yaml, or images/train/ with labels/train/ and a classes.txt',
    'csv': 'train.csv',
    'folders': 'train/ with a folder of images for each class',
}
OTHER_JSON = re.compile(r'^(captions|image_info|panoptic|person_keypoints|stuff)_')
COCO_NAMES = ('annotations/instances_*.json', '*/_annotations.coco.json')  # of nothing else
COCO_PATTERNS = (
    COCO_NAMES[0],
    'annotations/*.json',
    '*.json',
    COCO_NAMES[1],
    '*/annotations.json',
    '*/labels.json',
)
COCO_WORDS = (b'"annotations"', b'"image_id"')
ENDS = 1 << 20  # bytes at the start and the end of a file

T = TypeVar('T')


@dataclass(frozen=True)
class Layout:
    """What a folder of data was recognised as; nothing but its lists has been read.

    Attributes:
        kind: One of `KINDS`.
        root: The folder that has the layout: the given one, or one below it.
        splits: Of ``train``, ``val`` and ``test`` those that exist: a JSON, VOC's list of
            images, a CSV or a folder with class folders; YOLO's first place of images.
        sign: The file or folder that it was recognised by.
        notes: What was passed over, a line each.
        yolo: YOLO's data, with the faults that keep it from being trained on; of the kind
            ``'yolo'`` alone.
    """

    kind: str
    root: Path
    splits: dict[str, Path]
    sign: Path
    notes: list[str] = field(default_factory=list)
    yolo: YoloData | None = None

    @property
    def faults(self) -> list[InputError]:
        """Why it cannot be trained on, though it was recognised."""
        return self.yolo.faults if self.yolo else []


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
    if root.is_file() and root.suffix in ('.yaml', '.yml') and 'yolo' in OF_TASK[tasks[0]]:
        found = [_yolo_layout(root.parent, read_data_yaml(root))]
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
    kind, root = layout.kind, layout.root
    boxes = kind in OF_TASK['detection']
    return [
        Source(
            role,
            kind,
            layout.sign if kind == 'yolo' else layout.splits[role],
            {'voc': root / 'JPEGImages', 'folders': layout.splits[role]}.get(kind, root),
            training=role == 'train',
            # Label files and XML are read as boxes whatever they are for.
            detection=boxes and (task != 'multilabel' or kind != 'coco'),
            several=task == 'multilabel',
            own=True,
            search=kind in ('coco', 'csv'),
            role=role,
            xml_folder=root / 'Annotations' if kind == 'voc' else None,
            yolo=layout.yolo,
            optional=role == 'test' and len(roles) > 1,
            fills_in=True,
        )
        for role in roles
    ]


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
    kinds = KINDS if task is None else OF_TASK[task]
    wanted = '; '.join(f'{KINDS[kind]} ({WANTED[kind]})' for kind in kinds)
    return f'{f" for {task}" if task else ""}; expected: {wanted}; {there}'


def _search(root: Path, task: str, depth: int) -> list[Layout]:
    """Return the layout of a folder, or else those of the folders in it."""
    layout = _recognise(root, task)
    if layout or not depth:
        return [layout] if layout else []
    return [found for child in child_folders(root) for found in _search(child, task, depth - 1)]


def _recognise(root: Path, task: str) -> Layout | None:
    finders = dict(coco=_find_coco, voc=_find_voc, yolo=_find_yolo, csv=_find_csv)
    kinds = [kind for kind in OF_TASK[task] if kind in finders]
    found = [layout for kind in kinds if (layout := finders[kind](root))]
    if len(found) > 1:
        signs = ' and '.join(
            f'{KINDS[layout.kind]} ({layout.sign.relative_to(root)})' for layout in found
        )
        raise InputError(f'{root}: has several layouts, {signs}: move all but one of them away')
    if found:
        return found[0]
    # Folders of images are in every layout, so these are asked for last.
    return _find_class_folders(root) if 'folders' in OF_TASK[task] else None


def _find_coco(root: Path) -> Layout | None:
    for pattern in COCO_PATTERNS:
        sure = pattern in COCO_NAMES
        files = [f for f in sorted(root.glob(pattern)) if not OTHER_JSON.match(f.name)]
        found = _of_files('coco', root, [f for f in files if sure or _looks_like_coco(f)])
        if found:
            return found
    return None


def _find_csv(root: Path) -> Layout | None:
    files = sorted((*root.glob('*.csv'), *root.glob('annotations/*.csv')))
    return _of_files('csv', root, files or sorted(root.glob('*/_classes.csv')))


def _of_files(kind: str, root: Path, files: Sequence[Path]) -> Layout | None:
    """Return the layout with a file for each split; where they have one name, by their folders."""
    if not files:
        return None
    deep = files[0].parent not in (root, root / 'annotations')
    parts = [(file.parent.name if deep else file.stem, file) for file in files]
    splits, notes = assign_roles(parts, root)
    return Layout(kind, root, splits, files[0], notes)


def _looks_like_coco(file: Path) -> bool:
    """Whether a JSON file has annotations, from a look at its ends: the whole takes long."""
    with file.open('rb') as stream:
        text = stream.read(ENDS)
        stream.seek(max(file.stat().st_size - ENDS, 0))
        text += stream.read()
    return any(word in text for word in COCO_WORDS)


def _find_voc(root: Path) -> Layout | None:
    folder, lists = root / 'Annotations', root / 'ImageSets/Main'
    other = root / 'annotations'  # COCO's, or of VOC under names that are not its own
    if not any(folder.glob('*.xml')) and (
        any(other.glob('*.json')) or not any(other.glob('*.xml'))
    ):
        return None
    check_layout(root)
    splits, notes = assign_roles([(file.stem, file) for file in find_lists(lists)], lists)
    if 'test' in splits:  # VOC's own test images have come without annotations
        names = ' '.join(read_lines(splits['test'])).split()
        if not any(os.path.isfile(folder / f'{name}.xml') for name in names):
            notes.append(f'{splits.pop("test")} is skipped: its images have no annotations')
    return Layout('voc', root, splits, folder, notes)


def _find_yolo(root: Path) -> Layout | None:
    yamls = [file for file in sorted(root.glob('*.y*ml')) if file.is_file() and _has_names(file)]
    if len(yamls) > 1:
        raise InputError(f'{root}: has {few(f.name for f in yamls)}: name one of these files')
    if yamls:
        return _yolo_layout(root, read_data_yaml(yamls[0]))
    places = [(f.name, f) for f in child_folders(root / 'images') if role_of(f.name)]
    places = places or [
        (f.name, f / 'images')
        for f in child_folders(root)
        if role_of(f.name) and (f / 'images').is_dir() and (f / 'labels').is_dir()
    ]
    if not places and _has_images(root / 'images'):
        places = [('train', root / 'images')]
    # labels/ next to images/, or within each split
    folders = [root / 'labels', *(place.parent / 'labels' for _, place in places)]
    if not places or not any(folder.is_dir() for folder in folders):
        return None
    splits, notes = assign_roles(places, root)
    homes = [root, *folders, *(root / 'labels' / name for name, _ in places)]
    file = next((home / 'classes.txt' for home in homes if (home / 'classes.txt').is_file()), None)
    data = YoloData(file or root, (), {role: (p,) for role, p in splits.items()}, notes)
    if file is None:
        text = (
            f'{root}: has images and labels as YOLO does, and nothing that names the classes: '
            'write classes.txt, a name on each line, or a data.yaml'
        )
        data.faults.append(MissingFileError(text))
        return _yolo_layout(root, data)
    names = tuple(line.strip() for line in read_lines(file) if line.strip())
    if not names or len(set(names)) < len(names):
        names = number_names(len(names))
        data.faults.append(InputError(f'{file}: must have a name on each line, each once'))
    return _yolo_layout(root, replace(data, names=names))


def _yolo_layout(root: Path, data: YoloData) -> Layout:
    splits = {role: places[0] for role, places in data.splits.items()}
    if 'test' in splits and not has_labels(data, 'test'):
        del splits['test']
        data.notes.append('test is skipped: its images have no label files')
    return Layout('yolo', root, splits, data.source, data.notes, data)


def _has_names(file: Path) -> bool:
    """Whether a YAML file names classes, or has the place for it: a model's has no ``train``."""
    keys = set(re.findall(rb'^["\']?(names|nc|train)["\']?\s*:', file.read_bytes(), re.MULTILINE))
    return b'names' in keys or keys == {b'nc', b'train'}


def _find_class_folders(root: Path) -> Layout | None:
    children = child_folders(root)
    named = [child for child in children if role_of(child.name)]
    parts = [(child.name, child) for child in named if _has_class_folders(child)]
    if parts:
        splits, notes = assign_roles(parts, root)
        known = [child for _, child in parts]
        notes += [
            f'{child.name} is skipped: it has images, but no class folders'
            for child in named
            if child not in known and _has_images(child)
        ]
        return Layout('folders', root, splits, parts[0][1], notes)
    # Not train/ and val/ with the images of all classes in them.
    if any(_has_images(child) for child in children if child not in named):
        return Layout('folders', root, {'train': root}, root)
    return None


def _has_class_folders(root: Path) -> bool:
    return any(map(_has_images, child_folders(root)))


def _has_images(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(SUFFIXES) for entry in entries)


def assign_roles(parts: Sequence[tuple[str, T]], where: Path) -> tuple[dict[str, T], list[str]]:
    """Give each role its part.

    A part for both training and validation is for training where there is neither; so is the only
    one whose name is of no role, where there is none for training.

    Args:
        parts: Names and what they name.
        where: For messages.

    Returns:
        The parts by role, and a line for each that was skipped.

    Raises:
        InputError: Several could be for one role.
    """
    by_role: dict[str | None, list[tuple[str, T]]] = {}
    for name, item in parts:
        by_role.setdefault(role_of(name), []).append((name, item))
    spare = by_role.pop('trainval', [])
    if not by_role.keys() & {'train', 'val'}:  # it holds both
        by_role.setdefault('train', []).extend(spare)
    others = by_role.pop(None, [])
    if not by_role.get('train'):
        by_role['train'], others = others, []
    splits = {}
    for role in ROLES:
        candidates = by_role.get(role) or []
        if len(candidates) > 1:
            raise InputError(
                f'{where}: {few(name for name, _ in candidates)} could all be for {role}: keep '
                'one, and put train, val or test into the names'
            )
        if candidates:
            splits[role] = candidates[0][1]
    return splits, [f'{name} is skipped: its name is of no split' for name, _ in others]
