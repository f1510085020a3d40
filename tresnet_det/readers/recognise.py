"""How each layout is recognised: the files of a folder by which it is COCO's, VOC's, YOLO's ..."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ..errors import InputError, MissingFileError, few
from .data_yaml import number_names, read_data_yaml
from .exports import ENDS, PER_IMAGE, SIGNS, find_columns, sniff
from .files import SUFFIXES, child_folders, glob, is_hidden, list_folder, read_lines
from .split import ROLES, YoloData, role_of
from .voc import find_lists
from .yolo import has_labels

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
EXPORT_PATTERNS = ('*.json', 'annotations/*.json', '*/*.json', '*/*/*.json')
FEW = 20  # files that are looked into
CSV_PATTERNS = ('*.csv', 'annotations/*.csv', '*/_annotations.csv')
XML_FOLDERS = ('Annotations', 'annotations', 'xml', 'xmls', 'labels', '.')
IMAGE_FOLDERS = ('JPEGImages', 'images', 'Images', 'img', 'imgs')
CLASS_FILES = ('classes.txt', '_darknet.labels', 'obj.names', 'predefined_classes.txt')
COCO_WORDS = (b'"annotations"', b'"image_id"')

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


def _find_coco(root: Path) -> Layout | None:
    for pattern in COCO_PATTERNS:
        sure = pattern in COCO_NAMES
        files = [f for f in glob(root, pattern) if not OTHER_JSON.match(f.name)]
        if not sure and files and sniff(files[0])[0] in PER_IMAGE:  # thousands, maybe
            continue
        found = _of_files('coco', root, [f for f in files if sure or _looks_like_coco(f)])
        if found:
            return found
    return None


def _looks_like_coco(file: Path) -> bool:
    kind, text = sniff(file)
    return kind is None and any(word in text for word in COCO_WORDS)


def _find_csv(root: Path) -> Layout | None:
    files = glob(root, '*.csv') + glob(root, 'annotations/*.csv')
    files = [f for f in files or glob(root, '*/_classes.csv') if not find_columns(f)]
    return _of_files('csv', root, files)


def _find_boxes(root: Path) -> Layout | None:
    found = (list(filter(find_columns, glob(root, pattern))) for pattern in CSV_PATTERNS)
    return _of_files('boxes', root, next(filter(None, found), []))


def _find_json(root: Path) -> Layout | None:
    """Return the layout of a labelling tool's JSON; of several, that of the first file."""
    for pattern in EXPORT_PATTERNS:
        files = glob(root, pattern)
        # Of thousands a few: the first may be of the project.
        kind = next(filter(None, (sniff(file)[0] for file in files[:FEW])), None)
        if kind in PER_IMAGE:
            parts = {file.relative_to(root).parts[0] for file in files if file.parent != root}
            named = [(part, root / part) for part in sorted(parts) if role_of(part)]
            splits, notes = assign_roles(named, root)
            return Layout(kind, root, splits or {'train': root}, files[0], notes)
        if kind:
            return _of_files(kind, root, [file for file in files if sniff(file)[0] == kind])
    return None


def _of_files(kind: str, root: Path, files: Sequence[Path]) -> Layout | None:
    """Return the layout with a file for each split; where they have one name, by their folders."""
    if not files:
        return None
    deep = files[0].parent not in (root, root / 'annotations')
    parts = [(file.parent.name if deep else file.stem, file) for file in files]
    splits, notes = assign_roles(parts, root)
    return Layout(kind, root, splits, files[0], notes)


def _find_voc(root: Path) -> Layout | None:
    folder, lists = root / 'Annotations', root / 'ImageSets/Main'
    if not lists.is_dir() or not folder.is_dir():
        return _find_xml(root)
    splits, notes = assign_roles([(file.stem, file) for file in find_lists(lists)], lists)
    if 'test' in splits:  # VOC's own test images have come without annotations
        names = ' '.join(read_lines(splits['test'])).split()
        if not any(os.path.isfile(folder / f'{name}.xml') for name in names):
            notes.append(f'{splits.pop("test")} is skipped: its images have no annotations')
    return Layout('voc', root, splits, folder, notes)


def _find_xml(root: Path) -> Layout | None:
    """Return the layout of XML files without lists, next to the images or in a folder of theirs."""
    named = [(f.name, f) for f in child_folders(root) if role_of(f.name)]
    places = [(name, place) for name, folder in named if (place := _xml_place(folder))]
    if not places and (place := _xml_place(root)):
        return Layout('voc', root, {'train': place}, place)
    if not places:
        return None
    splits, notes = assign_roles(places, root)
    return Layout('voc', root, splits, places[0][1], notes)


def _xml_place(root: Path) -> Path | None:
    for place in (Path(os.path.normpath(root / name)) for name in XML_FOLDERS):
        files = glob(place, '*.xml')
        if files and re.search(rb'<annotation[\s>]', files[0].read_bytes()[:ENDS]):
            return place
    return None


def _find_yolo(root: Path) -> Layout | None:
    yamls = [file for file in glob(root, '*.y*ml') if file.is_file() and _has_names(file)]
    yamls = yamls or glob(root, 'obj.data')  # Darknet's, CVAT's
    if len(yamls) > 1:
        raise InputError(f'{root}: has {few(f.name for f in yamls)}: name one of these files')
    if yamls:
        return yolo_layout(root, read_data_yaml(yamls[0]))
    places = [(f.name, f) for f in child_folders(root / 'images') if role_of(f.name)]
    places = places or [
        (f.name, f / 'images')
        for f in child_folders(root)
        if role_of(f.name) and (f / 'images').is_dir() and (f / 'labels').is_dir()
    ]
    beside = [(f.name, f) for f in child_folders(root) if role_of(f.name) and _has_labels(f)]
    places = places or beside
    if not places and has_images(root / 'images'):
        places = [('train', root / 'images')]
    if not places and _has_labels(root):  # labelImg's
        places = [('train', root)]
    # labels/ next to images/, or within each split
    folders = [root / 'labels', *(place.parent / 'labels' for _, place in places)]
    labelled = any(next(f.glob(p), None) for f in folders for p in ('*.txt', '*/*.txt'))
    if not places or not (labelled or _has_labels(places[0][1])):
        return None
    splits, notes = assign_roles(places, root)
    homes = [root, *folders, *(root / 'labels' / name for name, _ in places)]
    homes += [place for _, place in places]
    files = (home / name for home in homes for name in CLASS_FILES)
    file = next(filter(Path.is_file, files), None)
    data = YoloData(file or root, (), {role: (p,) for role, p in splits.items()}, notes)
    if file is None:
        text = (
            f'{root}: has images and labels as YOLO does, and nothing that names the classes: '
            'write classes.txt, a name on each line, or a data.yaml'
        )
        data.faults.append(MissingFileError(text))
        return yolo_layout(root, data)
    names = tuple(line.strip() for line in read_lines(file) if line.strip())
    if not names or len(set(names)) < len(names):
        names = number_names(len(names))
        data.faults.append(InputError(f'{file}: must have a name on each line, each once'))
    return yolo_layout(root, replace(data, names=names))


def yolo_layout(root: Path, data: YoloData) -> Layout:
    splits = {role: places[0] for role, places in data.splits.items()}
    if 'test' in splits and not has_labels(data, 'test'):
        del splits['test']
        data.notes.append('test is skipped: its images have no label files')
    return Layout('yolo', root, splits, data.source, data.notes, data)


def _has_names(file: Path) -> bool:
    """Whether a YAML file names classes, or has the place for it: a model's has no ``train``."""
    keys = set(re.findall(rb'^["\']?(names|nc|train)["\']?\s*:', file.read_bytes(), re.MULTILINE))
    return b'names' in keys or keys == {b'nc', b'train'}


def find_class_folders(root: Path) -> Layout | None:
    children = child_folders(root)
    named = [child for child in children if role_of(child.name)]
    parts = [(child.name, child) for child in named if _has_class_folders(child)]
    if parts:
        splits, notes = assign_roles(parts, root)
        known = [child for _, child in parts]
        notes += [
            f'{child.name} is skipped: it has images, but no class folders'
            for child in named
            if child not in known and has_images(child)
        ]
        return Layout('folders', root, splits, parts[0][1], notes)
    # Not train/ and val/ with the images of all classes in them.
    if any(has_images(child) for child in children if child not in named):
        return Layout('folders', root, {'train': root}, root)
    return None


def _has_labels(folder: Path) -> bool:
    """Whether a folder has images with label files next to them."""
    names = list_folder(folder)
    stems = {os.path.splitext(name)[0] for name in names if name.endswith('.txt')}
    images = (name for name in names if name.lower().endswith(SUFFIXES) and not is_hidden(name))
    return any(os.path.splitext(name)[0] in stems for name in images)


def _has_class_folders(root: Path) -> bool:
    return any(map(has_images, child_folders(root)))


def has_images(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(e.name.lower().endswith(SUFFIXES) and not is_hidden(e.name) for e in entries)


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


FINDERS: dict[str, Callable[[Path], Layout | None]] = {
    'coco': _find_coco,
    'voc': _find_voc,
    'yolo': _find_yolo,
    **dict.fromkeys(SIGNS, _find_json),
    'boxes': _find_boxes,
    'csv': _find_csv,
}
