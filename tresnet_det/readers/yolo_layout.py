"""YOLO's layouts: what names the classes (``data.yaml``, ``obj.data``), and where images are."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, MissingFileError, few, shown
from .files import (
    SUFFIXES,
    child_folders,
    find,
    glob,
    image_folder,
    is_hidden,
    list_folder,
    read_bytes,
    read_lines,
    read_text,
)
from .findings import is_text
from .split import Layout, assign_roles, role_of
from .yolo import label_files, list_images, number_names

SPLIT_KEYS = {'train': ('train',), 'val': ('val', 'validation', 'valid'), 'test': ('test',)}
LONGEST_NUMBER = 10**18  # in place of a name
CLASS_FILES = ('classes.txt', '_darknet.labels', '*.names', 'predefined_classes.txt', 'labels.txt')


def find_yolo(root: Path) -> Layout | None:
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
    return any(os.path.splitext(name)[0] in stems for name in images)


def read_data_yaml(file: Path) -> Layout:
    """Read as much of a ``data.yaml``, or of an ``obj.data`` of Darknet's, as can be used.

    ``names`` is a list or ``{number: name}``. ``train``, ``val`` and ``test`` are a path or a list
    of paths, each a folder or a text file that lists images, relative to ``path``, which is
    itself relative to the file, or else to the file's own folder. A leading ``../`` that leads
    nowhere is passed over, since Roboflow's exports have one too many. A ``test`` that is not found
    is skipped.

    Returns:
        The data without places that are not found, and with numbers for names that cannot be used.

    Raises:
        InputError: It is no YAML, or of key points.
    """
    content = _load_obj_data(file) if file.suffix == '.data' else _load_yaml(file)
    if 'kpt_shape' in content:
        raise InputError(f'{file}: kpt_shape makes it a dataset of key points, not of boxes')
    faults, notes, found = list[InputError](), list[str](), dict[str, tuple[Path, ...]]()
    names = _read_names(file, content, faults)
    path = content.get('path') or ''
    if not isinstance(path, str):
        faults.append(InputError(f'{file}: path is {shown(path)}; it must be a text'))
        path = ''
    roots = (Path(file.parent, path.replace('\\', '/')), file.parent)
    for role, keys in SPLIT_KEYS.items():
        entry = next((content[key] for key in keys if content.get(key)), None)
        entries = [] if entry is None else entry if isinstance(entry, list) else [entry]
        if not all(isinstance(text, str) for text in entries):
            text = f'{file}: {role} is {shown(entry)}; it must be a path or a list of paths'
            faults.append(InputError(text))
            continue
        places = [_find_place(text, roots, role) for text in entries]
        lost = [text for text, place in zip(entries, places, strict=True) if place is None]
        if lost and role == 'test':
            notes.append(f'{role} is skipped: {roots[0] / lost[0]} is not found')
            continue
        for text, place in zip(entries, places, strict=True):
            if place and not str(place).endswith(os.path.normpath(text.lstrip('./'))):
                notes.append(f'{role}: {text} is not found, {place} is taken')
        if there := tuple(filter(None, places)):
            found[role] = there
        if lost:
            where = str(roots[0] / lost[0]).replace('\n', ' ')
            text = f'{file}: {role} names {lost[0]!r}, and {where} is not found: correct '
            faults.append(MissingFileError(f'{text}{role}, or path, in it'))
    if not found and not faults:
        faults.append(InputError(f'{file}: names no images: write train: images/train'))
    return yolo_layout(file.parent, file, names, found, notes, faults)


def yolo_layout(
    root: Path,
    sign: Path,
    names: tuple[str, ...],
    places: Mapping[str, tuple[Path, ...]],
    notes: list[str],
    faults: list[InputError],
) -> Layout:
    """Return a layout of YOLO's, without a test split whose images have no label files."""
    tested = [list_images(place, 'test', root)[0] for place in places.get('test', ())]
    if tested and not any(map(os.path.exists, label_files(sum(tested, [])))):
        places = {role: found for role, found in places.items() if role != 'test'}
        notes = [*notes, 'test is skipped: its images have no label files']
    splits = {role: found[0] for role, found in places.items()}
    return Layout('yolo', root, splits, sign, notes, names, {**places}, faults)


def _load_yaml(file: Path) -> dict:
    try:
        content = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'{file}: no YAML ({" ".join(str(error).split())})') from None
    if not isinstance(content, dict):
        raise InputError(f'{file}: no YAML of the form KEY: VALUE')
    return content


def _read_names(file: Path, content: dict, faults: list[InputError]) -> tuple[str, ...]:
    """Return the names, none or numbers where they cannot be used; add what is wrong with them."""
    names = content.get('names')
    if isinstance(names, dict):
        names = {int(k) if str(k).isdecimal() else k: name for k, name in names.items()}
        if set(names) != set(range(len(names))):
            text = f'names has the keys {few(names)}; they must be the numbers from 0 to '
            faults.append(InputError(f'{file}: {text}{len(names) - 1}'))
            return ()
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        faults.append(InputError(f'{file}: has no list of names: write names: [cat, dog]'))
        return ()
    odd = [n for n in names if not is_text(n) and not (type(n) is int and abs(n) < LONGEST_NUMBER)]
    # Of what is no text nothing is made: aliases can stand for gigabytes of it.
    texts, wrong = () if odd else tuple(map(str, names)), []
    if odd:
        wrong.append(f'names has {shown(odd[0])}, which is no text: put it into quotes')
    key = 'classes' if file.suffix == '.data' else 'nc'
    if content.get(key, len(names)) not in (len(names), str(len(names))):
        said = shown(content[key])
        wrong.append(f'{key} is {said}, and there are {len(names)} names: correct one of them')
    twice = len(set(texts)) < len(texts)
    if twice:
        wrong.append(f'names has a name more than once: {few(texts)}')
    faults += [InputError(f'{file}: {text}') for text in wrong]
    return number_names(len(names)) if odd or twice else texts


def _find_place(text: str, roots: Sequence[Path], role: str) -> Path | None:
    """Return the first of the places that a path may mean, None where none exists.

    Of a path that is not found, as of another machine, the end counts that tells the split.
    """
    plain = text.replace('\\', '/').rstrip('/')  # of Windows
    texts = [text, plain] + [plain[3:]] * plain.startswith('../')
    parts = plain.split('/')
    ends = (parts[at:] for at in range(len(parts)))
    lists = parts[-1].endswith(('.txt', '.names'))
    texts += ['/'.join(end) for end in ends if lists or role in map(role_of, end)]
    places = [Path(os.path.normpath(find(root, part))) for part in texts for root in roots]
    return next(filter(os.path.exists, places), None)


def _load_obj_data(file: Path) -> dict:
    """Return what an ``obj.data`` says in the form of a ``data.yaml``: lines ``KEY = VALUE``."""
    pairs = (line.partition('=') for line in read_lines(file) if '=' in line)
    content: dict[str, Any] = {key.strip().lower(): value.strip() for key, _, value in pairs}
    stated = content.get('names', 'obj.names')
    names = _find_place(stated, (file.parent,), '') or file.parent / stated
    content['names'] = [line.strip() for line in read_lines(names) if line.strip()]
    return content
