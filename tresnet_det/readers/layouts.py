"""A folder of your own data: which layout it has, by its files, and which part is for what."""

import os
import re
from collections.abc import Callable, Sequence
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
    image_folder,
    is_hidden,
    list_folder,
    read_bytes,
    read_ends,
    read_lines,
)
from .findings import Findings
from .kinds import COCO_KEYS, KINDS, OF_TASK, describe_unknown
from .labelling_tools import KEYS, TOOLS, tool_of
from .split import ROLES, Layout, assign_roles, role_of
from .voc import find_lists
from .yolo import number_names, read_data_yaml, yolo_layout

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
CLASS_FILES = ('classes.txt', '_darknet.labels', '*.names', 'predefined_classes.txt', 'labels.txt')
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
    elif root.exists():
        raise InputError(f'{root}: a file; give the folder of the data, unpacked')
    else:
        raise MissingFileError(f'{root}: not found; give the folder of the data')
    if len(found) > 1:
        inner = few(str(layout.root.relative_to(root)) for layout in found)
        raise InputError(
            f'{root}: has {len(found)} datasets in it ({inner}): name one of these folders'
        )
    if not found:
        raise InputError(f'{root}: no layout that is known{describe_unknown(root, task)}')
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


def _find_yolo(root: Path) -> Layout | None:
    """Recognise YOLO's layout in a folder, with or without a file that names the classes.

    Raises:
        InputError: Several files could be the one, or it cannot be read.
    """
    yamls = [file for file in glob(root, '*.y*ml') if not file.is_dir() and _has_names(file)]
    yamls = yamls or glob(root, 'obj.data')  # Darknet's, CVAT's
    if len(yamls) > 1:
        raise InputError(f'{root}: has {few(f.name for f in yamls)}: name one of these files')
    if yamls:
        return read_data_yaml(yamls[0])
    inner, named = image_folder(root), [f for f in child_folders(root) if role_of(f.name)]
    # Splits in images/, or images/ in splits, or images and labels in one folder, labelImg's.
    places = [(f.name, f) for f in child_folders(inner) if inner != root and role_of(f.name)]
    places = places or [(f.name, image_folder(f)) for f in named if find(f, 'labels').is_dir()]
    places = places or [(f.name, f) for f in named if _has_labels(f)]
    places = places or [('train', f) for f in (inner, root) if f != root or _has_labels(f)][:1]
    folders = [find(f, 'labels') for f in (root, *(place.parent for _, place in places))]
    labelled = any(next(f.glob(p), None) for f in folders for p in ('*.txt', '*/*.txt'))
    if not places or not (labelled or _has_labels(places[0][1])):
        return None
    splits, notes = assign_roles(places, root)
    homes = [root, *folders, *(find(folders[0], name) for name, _ in places)]
    homes += [place for _, place in places]
    file = next((f for home in homes for name in CLASS_FILES for f in glob(home, name)), None)
    names, faults = tuple[str, ...](), list[InputError]()
    if file is None:
        text = (
            f'{root}: has images and labels as YOLO does, and nothing that names the classes: '
            'write classes.txt, a name on each line, or a data.yaml'
        )
        faults.append(MissingFileError(text))
    else:
        names = tuple(line.strip() for line in read_lines(file) if line.strip())
        if not names or len(set(names)) < len(names):
            names = number_names(len(names))
            faults.append(InputError(f'{file}: must have a name on each line, each once'))
    every = {role: (place,) for role, place in splits.items()}
    return yolo_layout(root, file or root, names, every, notes, faults)


def _has_names(file: Path) -> bool:
    """Whether a YAML file names classes, or has the place for it: a model's has no ``train``."""
    keys = set(re.findall(rb'^["\']?(names|nc|train)["\']?\s*:', read_bytes(file), re.MULTILINE))
    return b'names' in keys or keys == {b'nc', b'train'}


def _has_labels(folder: Path) -> bool:
    """Whether a folder has images with label files next to them."""
    names = list_folder(folder)  # of a hundred thousand none is asked for
    stems = {os.path.splitext(name)[0] for name in names if name.endswith('.txt')}
    images = (name for name in names if name.lower().endswith(SUFFIXES) and not is_hidden(name))
    return bool(stems) and any(os.path.splitext(name)[0] in stems for name in images)


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
    'yolo': _find_yolo,
    **dict.fromkeys(TOOLS, _find_export),
    'csv': _find_csv,
}
