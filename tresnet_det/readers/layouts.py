"""A folder of your own data: which layout it has, by its files, and which part is for what."""

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, MissingFileError, few
from ..files import check_regular
from .files import (
    ENDS,
    SUFFIXES,
    YAML,
    child_folders,
    find,
    glob,
    has_images,
    read_bytes,
    read_ends,
    read_lines,
    walk,
)
from .findings import Findings
from .labelling_tools import KEYS, TOOLS, tool_of
from .split import ROLES, Layout, assign_roles, role_of
from .voc import find_lists
from .yolo_layout import find_yolo, read_data_yaml

KINDS = {
    'coco': "COCO's JSON",
    'voc': 'Pascal VOC',
    'yolo': "YOLO's label files",
    **{kind: tool.title for kind, tool in TOOLS.items()},
    'csv': 'CSV',
    'folders': 'class folders',
}
NAMED = ('voc', *TOOLS)  # kinds whose classes go by name
CONVERTED = ('yolo', *NAMED)  # to COCO's
OF_TASK = {
    'detection': ('coco', *CONVERTED),
    'classification': ('folders',),
    'multilabel': ('coco', *CONVERTED, 'csv', 'folders'),
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
OTHER_JSON = re.compile(r'^(captions|image_info|panoptic|person_keypoints|stuff)_')
COCO_NAMES = ('annotations/instances_*.json', '*/_annotations.coco.json')  # of nothing else
COCO_PATTERNS = (
    COCO_NAMES[0],
    'annotations/*.json',
    '*.json',
    COCO_NAMES[1],
    '*/annotations.json',
    '*/labels.json',
    '*/*coco*.json',
)
EXPORT_PATTERNS = [
    *('*.json', 'annotations/*.json', '*/*.json', '*/*/*.json'),
    *('*/*/*/*.json', '*/*/*/*/*.json'),  # Supervisely's datasets in datasets
    *('*.csv', 'annotations/*.csv', '*/_annotations.csv', '*.xml', '*/annotations.xml'),
]
SUBSET = re.compile(rb'<image [^>]*\bsubset="([^"]*)"')  # of CVAT's projects
FEW = 20  # files that are looked into
XML_FOLDERS = ('annotations', 'xml', 'xmls', 'labels', '.')


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
    check_regular(root)
    tasks = ('detection', 'multilabel') if task is None else (task,)
    if root.is_file() and root.suffix.lower() in YAML and 'yolo' in OF_TASK[tasks[0]]:
        found = [read_data_yaml(root)]
    elif root.is_dir():
        # in it (BCCD/), or in that (VOCdevkit/VOC2012/)
        found = next(filter(None, (_search(root, each, 2) for each in tasks)), [])
        found = _join(root, found)
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
    place = found[0].root
    if has_images(place) or _has_class_folders(place, True) or not root.is_dir():
        return found[0]
    return replace(found[0], root=root)  # where the images are in another folder of it


def check_training(layout: Layout, findings: Findings) -> None:
    """Find that a layout has nothing to train on."""
    if 'train' not in layout.splits:
        text = (
            f'{layout.root}: nothing in it is for training, there is {few(layout.splits)}: put '
            'train into the name of the part to learn from'
        )
        findings.add(f'{layout.root.name}/', layout.root, 'no-training-split', [text])


def first_task(kind: str) -> str:
    """Return the first task that a layout serves."""
    return next(task for task, kinds in OF_TASK.items() if kind in kinds)


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
        keys = {key.decode() for key in KEYS.findall(read_ends(first['.json']))}
        signs = {'coco': COCO_KEYS} | {kind: tool.keys for kind, tool in TOOLS.items()}
        for kind, words in signs.items():
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


def _join(root: Path, found: list[Layout]) -> list[Layout]:
    """Return as one the datasets of which each is in the folder of a split, with one split in it.

    So are folders of class folders, of which the classes are those of all together.
    """
    if len(found) < 2 or len({(layout.kind, layout.names) for layout in found}) > 1:
        return found
    by_role: dict[str | None, Layout] = {}
    for layout in found:
        parts = layout.root.relative_to(root).parts
        by_role[next(filter(None, map(role_of, parts)), None)] = layout
    single = all(len(layout.splits) == 1 for layout in found)
    if single and len(by_role) == len(found) and by_role.keys() <= {*ROLES}:
        roles = [role for role in ROLES if role in by_role]
        first = by_role[roles[0]]
        splits = {role: next(iter(by_role[role].splits.values())) for role in roles}
        places = {role: next(iter(by_role[role].places.values()), ()) for role in roles}
        faults = [fault for layout in found for fault in layout.faults]
        notes = [note for layout in found for note in layout.notes]
        return [Layout(first.kind, root, splits, first.sign, notes, first.names, places, faults)]
    nested = find_class_folders(root, True) if found[0].kind == 'folders' else None
    return [nested] if nested else found


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


def _find_coco(root: Path) -> Layout | None:
    for pattern in COCO_PATTERNS:
        sure = pattern in COCO_NAMES
        files = [f for f in glob(root, pattern) if not OTHER_JSON.match(f.name)]
        kind = tool_of(files[0]) if files and not sure else None
        if kind and TOOLS[kind].per_image:  # thousands, maybe
            continue
        found = _of_files('coco', root, [f for f in files if sure or _looks_like_coco(f)])
        if found:
            return found
    return None


def _looks_like_coco(file: Path) -> bool:
    keys = {key.decode() for key in KEYS.findall(read_ends(file))}
    known = 'image_id' in keys or ('annotations' in keys and len(keys & {*COCO_KEYS}) > 1)
    return known and tool_of(file) is None


def _find_csv(root: Path) -> Layout | None:
    files = glob(root, '*.csv') + glob(root, 'annotations/*.csv')
    files = [f for f in files or glob(root, '*/_classes.csv') if not tool_of(f)]
    return _of_files('csv', root, files)


def _find_export(root: Path) -> Layout | None:
    """Return the layout of a labelling tool's own files; of several, that of the first."""
    for pattern in EXPORT_PATTERNS:
        files = glob(root, pattern)
        # Of thousands a few: the first may be of the project.
        kind = next(filter(None, map(tool_of, files[:FEW])), None)
        if kind is None:
            continue
        if TOOLS[kind].per_image:
            parts = {file.relative_to(root).parts[0] for file in files if file.parent != root}
            named = [(part, root / part) for part in sorted(parts) if role_of(part)]
            return _divided(kind, root, named or [('train', root)], files[0])
        files = [file for file in files if tool_of(file) == kind]
        if kind != 'cvat' or len(files) > 1:
            return _of_files(kind, root, files)
        names = sorted({*map(bytes.decode, SUBSET.findall(read_bytes(files[0])))}) or ['train']
        return _divided(kind, root, [(name, files[0]) for name in names])
    return None


def _divided(
    kind: str, root: Path, parts: Sequence[tuple[str, Path]], sign: Path | None = None
) -> Layout | None:
    """Return a layout with these parts, by their names; None where there are none."""
    if not parts:
        return None
    splits, notes = assign_roles(parts, root)
    return Layout(kind, root, splits, sign or parts[0][1], notes)


def _of_files(kind: str, root: Path, files: Sequence[Path]) -> Layout | None:
    """Return the layout with a file for each split; where they have one name, by their folders."""
    deep = files and files[0].parent not in (root, find(root, 'annotations'))
    return _divided(kind, root, [(f.parent.name if deep else f.stem, f) for f in files])


def _find_voc(root: Path) -> Layout | None:
    folder, lists = find(root, 'Annotations'), find(root, 'ImageSets/Main')
    if not lists.is_dir() or not folder.is_dir():
        return _find_xml(root)
    splits, notes = assign_roles([(file.stem, file) for file in find_lists(lists)], lists)
    if 'test' in splits:  # VOC's own test images have come without annotations
        names = ' '.join(read_lines(splits['test'])).split()
        stems = {name for path in names for name in (path, Path(path).name, Path(path).stem)}
        if not any(os.path.isfile(folder / f'{name}.xml') for name in stems):
            notes.append(f'{splits.pop("test")} is skipped: its images have no annotations')
    return Layout('voc', root, splits, folder, notes)


def _find_xml(root: Path) -> Layout | None:
    """Return the layout of XML files without lists, next to the images or in a folder of theirs."""
    named = [(f.name, _xml_place(f)) for f in child_folders(root) if role_of(f.name)]
    places = [(name, place) for name, place in named if place]
    alone = None if places else _xml_place(root)
    return _divided('voc', root, [('train', alone)] if alone else places)


def _xml_place(root: Path) -> Path | None:
    for place in (find(root, name) for name in XML_FOLDERS):
        files = glob(place, '*.xml')
        if files and re.search(rb'(?i)<annotation[\s>]', read_bytes(files[0])[:ENDS]):
            return place
    return None


def find_class_folders(root: Path, deep: bool = False) -> Layout | None:
    """Return the layout of class folders; with ``deep``, in folders that group them, too."""
    children = child_folders(root)
    named = [child for child in children if role_of(child.name)]
    parts = [(child.name, child) for child in named if _has_class_folders(child, deep)]
    if layout := _divided('folders', root, parts):
        known = [child for _, child in parts]
        layout.notes.extend(
            f'{child.name} is skipped: it has images, but no class folders'
            for child in named
            if child not in known and has_images(child)
        )
        return layout
    # Not train/ and val/ with the images of all classes in them.
    alone = deep or any(has_images(child) for child in children if child not in named)
    return Layout('folders', root, {'train': root}, root) if alone else None


def _has_class_folders(root: Path, deep: bool) -> bool:
    inner = child_folders(root)
    return any(has_images(f) or (deep and _has_class_folders(f, deep)) for f in inner)


FINDERS: dict[str, Callable[[Path], Layout | None]] = {
    'coco': _find_coco,
    'voc': _find_voc,
    'yolo': find_yolo,
    **dict.fromkeys(TOOLS, _find_export),
    'csv': _find_csv,
}
