"""YOLO's files: label files, one for each image, and what names classes and images.

A row of a label file is a class number, and a box or a polygon in fractions of the image.
"""

import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, MissingFileError, few, shown
from .files import (
    IMAGE_FOLDERS,
    find,
    is_companion,
    is_hidden,
    list_all,
    list_folder,
    read_lines,
    read_sizes,
    read_yaml,
)
from .findings import Add, Findings, is_text
from .locate import match_names
from .split import Boxes, Layout, Source, Split, role_of

SPLIT_KEYS = {'train': ('train',), 'val': ('val', 'validation', 'valid'), 'test': ('test',)}
LONGEST_NUMBER = 10**18  # in place of a name
UNNAMED = 10_000  # classes that are taken where nothing names them
DIGITS = 3  # of pixels; label files have six decimals, half a thousandth of 1000 pixels
NO_LABELS = ('classes.txt', 'train.txt', 'val.txt', 'test.txt', 'readme.txt')
FRACTION_SLACK = 0.01  # beyond 0 to 1: what rounding explains
PIXELS = 2.0  # from there on a number cannot be meant as a fraction

Box = tuple[float, float, float, float]


def number_names(count: int) -> tuple[str, ...]:
    """Return numbers from 0, in place of names that cannot be used."""
    return tuple(map(str, range(count)))


def read_yolo(source: Source, findings: Findings) -> Split | None:
    """Read the label files of a split; None where it has no images.

    A row is ``CLASS CX CY WIDTH HEIGHT`` in fractions of the image, the class a number from 0. A
    row of the class and three points or more is a polygon, which becomes the box around it. The
    label file of an image lies where the last ``images`` among its folders is ``labels``, or else
    next to it. An image without one is background, without boxes.

    Fractions are of the image as it is shown: width and height come from its header, exchanged
    where EXIF says that it lies on its side, as MMDetection loads it. Boxes are rounded to a
    thousandth of a pixel; those of an image whose header cannot be read are skipped.

    Args:
        source: Of the kind ``'yolo'``.
        findings: Gets what is wrong with lists, label files and their rows.

    Raises:
        InputError: A list of images is no text.
    """
    add, root, places = source.about(findings), source.folder, source.places
    listed = [list_images(place, source.role, root) for place in places]
    images = list(dict.fromkeys(image for found, _ in listed for image in found))
    add('filled-in', [line for _, lines in listed for line in lines])
    if not images:
        empty = f'{source.role} has no image in {few(map(str, places))}'
        add('nothing-to-learn', [f'{source.ann_file}: {empty}'])
        return None
    labels = label_files(images)
    add('filled-in', _match_labels(labels, source))
    lacking = np.array([not os.path.exists(file) for file in labels])
    objects: list[tuple[int, int, int, Box]] = []  # image, row of its file, class, edges
    faults: defaultdict[str, list[str]] = defaultdict(list)
    filled = np.zeros(len(images), bool)  # images with any row, good or bad
    for i in np.flatnonzero(~lacking).tolist():
        try:
            rows = [(n, line.split()) for n, line in enumerate(read_lines(labels[i]), 1)]
        except InputError as error:
            faults['bad-label-row'].append(str(error))
            filled[i] = True
            continue
        for number, fields in rows:
            if not fields:
                continue
            filled[i] = True
            try:
                label, edges = parse_row(fields, len(source.names) or UNNAMED, source.ann_file)
                objects.append((i, number, label, edges))
            except RowError as error:
                code, reason = error.args
                faults[code].append(f'{_shown(labels[i], root)}:{number}: {reason}')
    _check_files(source, add, images, labels, lacking)
    total = len(objects) + sum(map(len, faults.values()))
    for code, found in faults.items():
        add(code, found, total=total)

    # Of folders, the one that all lie in; of lists, that of all images.
    folders = places if source.is_listed else {image.parent for image in images}
    folder = Path(os.path.commonpath(folders))
    files = [os.path.relpath(image, folder) for image in images]
    sizes, unreadable = read_sizes(folder, files, add)
    at = np.array([i for i, *_ in objects], np.int64)
    numbers = np.array([label for _, _, label, _ in objects], np.int64)
    fractions = np.array([edges for *_, edges in objects], np.float64).reshape(-1, 4)
    edges = (fractions * np.tile(sizes[at], 2)).round(DIGITS)
    xywh = np.concatenate([edges[:, :2], edges[:, 2:] - edges[:, :2]], axis=1).round(DIGITS)
    names = source.names or number_names(max(numbers, default=-1) + 1)
    add('unknown-class', source.find_unknown(names))
    split = Split(
        source,
        folder,
        names,
        files,
        at,
        numbers,
        lambda i: f'{_shown(labels[at[i]], root)}:{objects[i][1]}',
        filled,
        sizes,
        files,
        lacking=lacking,
        boxes=Boxes(xywh, xywh[:, 2:].prod(1), np.zeros(len(xywh), bool)),
        unreadable=unreadable,
    )
    return split.renumber(source.classes or names).take((~np.isnan(xywh).any(1)).nonzero()[0])


def _check_files(
    source: Source, add: Add, images: list[Path], labels: list[Path], lacking: np.ndarray
) -> None:
    """Compare images and label files."""
    root = source.folder
    if lacking.all():
        lost = f'none of the {len(images)} images of {source.role} has a label file'
        add('nothing-to-learn', [f'{source.ann_file}: {lost}; the first would be {labels[0]}'])

    def name(i: int) -> str:
        return f'{_shown(images[i], root)}: no {_shown(labels[i], root)}'

    add('missing-label-file', np.flatnonzero(lacking).tolist(), name, len(images))
    if source.is_listed:  # lists may share a folder
        known, folders = {*labels}, sorted({file.parent for file in labels})
        alone = [f for folder in folders for f in _label_files(folder) if f not in known]
        add('label-without-image', alone, lambda file: _shown(file, root))
    first: dict[Path, int] = {}
    shared = [i for i, f in enumerate(labels) if first.setdefault(f, i) != i and not lacking[i]]

    def pair(i: int) -> str:
        return f'{_shown(images[i], root)} and {images[first[labels[i]]].name}'

    add('shared-label-file', shared, pair, len(images))


def label_files(images: Sequence[Path]) -> list[Path]:
    """Return where the boxes of images are, or would be."""
    folders = {folder: _label_folder(folder) for folder in {image.parent for image in images}}
    return [(folders[image.parent] / image.name).with_suffix('.txt') for image in images]


def _label_folder(folder: Path) -> Path:
    """Return ``labels`` of the last ``images`` that has one next to it, or else the folder."""
    parts = folder.parts
    at = [i for i, part in enumerate(parts) if part.lower() in IMAGE_FOLDERS]
    inner = (find(Path(*parts[:i]), os.path.join('labels', *parts[i + 1 :])) for i in reversed(at))
    return next(filter(Path.is_dir, inner), folder)


def list_images(place: Path, role: str, root: Path) -> tuple[list[Path], list[str]]:
    """Return the images of a folder, or those that a text file lists, there or not.

    Args:
        place: One of `Source.places`.
        role: Of the split.
        root: Of the data, in which a text file may name images from anywhere.

    Returns:
        The images, and a line for each rule by which the file's names are matched.

    Raises:
        InputError: The file is no text.
    """
    if place.is_dir():
        return [place / name for name in list_all(place)], []
    lines = [line for line in map(str.strip, read_lines(place)) if line and not is_companion(line)]
    images = [Path(os.path.normpath(place.parent / line)) for line in lines]
    lost = [i for i, image in enumerate(images) if not os.path.isfile(image)]
    if not lost:
        return images, []
    known = {*images}
    root = root if place.is_relative_to(root) else place.parent
    free = [f for f in list_all(root) if root / f not in known]
    meant, rules = match_names([lines[i] for i in lost], free, role)
    for i, file in meant.items():
        images[lost[i]] = root / file
    return images, [f'{place}: {rule}' for rule in rules]


def _match_labels(labels: list[Path], source: Source) -> list[str]:
    """Put the label files that are meant in place of those not found; return the rules.

    One of another folder is none of them: where each folder counts from 1, it is another image's.
    """
    lost: defaultdict[Path, list[int]] = defaultdict(list)
    for i, file in enumerate(labels):
        if not os.path.exists(file):
            lost[file.parent].append(i)
    known, lines = {*labels}, list[str]()
    for folder, rows in sorted(lost.items()):
        free = {file.stem: file for file in _label_files(folder) if file not in known}
        meant, rules = match_names([labels[i].stem for i in rows], free, source.role)
        for i, stem in meant.items():
            labels[rows[i]] = free[stem]
        # Only the endings differ where the rest is the same, so this is about .TXT.
        told = (rule.replace('in another folder', 'by the case of letters') for rule in rules)
        lines += [f'label files in {_shown(folder, source.folder)}: {rule}' for rule in told]
    return lines


def _label_files(folder: Path) -> list[Path]:
    """Return what may be the label files in a folder, sorted."""
    return [
        folder / name
        for name in sorted(list_folder(folder))
        if name.lower().endswith('.txt') and name.lower() not in NO_LABELS and not is_hidden(name)
    ]


def _shown(file: Path, root: Path) -> str:
    """Return a file as it lies below the layout's folder."""
    return str(file.relative_to(root) if file.is_relative_to(root) else file)


class RowError(InputError):
    """A row that is no box; its ``args`` are the kind of finding and the reason."""


def parse_row(fields: Sequence[str], num_classes: int, source: Path) -> tuple[int, Box]:
    """Read a row of a label file.

    Args:
        fields: Its numbers, as text.
        num_classes: Of the data.
        source: What names the classes, for messages.

    Returns:
        The class number, and left, top, right and bottom in fractions of the image.

    Raises:
        RowError: It is neither a box nor a polygon.
    """
    try:
        numbers = [float(text) for text in fields]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise RowError('bad-label-row', f'{" ".join(fields)[:60]!r} are not all numbers')
    label, *values = numbers
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        boxes = 'a box has 5 (class, centre x and y, width, height), a polygon 7 or more'
        raise RowError('bad-label-row', f'{len(fields)} numbers, where {boxes}')
    if label not in range(num_classes):
        text = f'and {source} has {num_classes}, from 0 to {num_classes - 1}'
        raise RowError('unknown-class-number', f'the class {fields[0]}, {text}')
    outside = [v for v in values if not -FRACTION_SLACK <= v <= 1 + FRACTION_SLACK]
    if outside:
        text = f'{outside[0]:g} is not in 0 to 1, a fraction of the width or height'
        if max(values) >= PIXELS:
            raise RowError('pixel-row', f'{text}: these are pixels')
        raise RowError('bad-fraction', text)
    if len(values) == 4:
        x, y, w, h = values
        return int(label), (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    xs, ys = values[0::2], values[1::2]
    return int(label), (min(xs), min(ys), max(xs), max(ys))


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
    content = _load_obj_data(file) if file.suffix == '.data' else read_yaml(file)
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
        if any(place and place == place.parent for place in places):  # the whole disk
            faults.append(InputError(f'{file}: {role} is {shown(entry)}: name a folder of images'))
            continue
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
    first = {role: found[0] for role, found in places.items()}
    return Layout('yolo', root, first, sign, notes, names, {**places}, faults)


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
