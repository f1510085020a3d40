"""YOLO's label files to COCO's format: a text file an image, a row a box in fractions of it."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from mmengine.logging import print_log

from ...errors import InputError, MissingFileError, few, shown
from .coco_content import LIMIT, is_text
from .folders import walk
from .multilabel_readers import SUFFIXES
from .text_files import read_lines, read_text
from .voc import image_size
from .yolo_rows import parse_row

ORIGIN = 'Converted from YOLO'
SPLIT_KEYS = {'train': ('train',), 'val': ('val', 'validation', 'valid'), 'test': ('test',)}
DIGITS = 3  # of pixels; label files have six decimals, half a thousandth of 1000 pixels
BORDER = 0.5  # pixels that a box may pass the border by before it is worth a word
SHOWN_ROWS = 20
NO_LABELS = ('classes.txt', 'train.txt', 'val.txt', 'test.txt', 'readme.txt')


@dataclass(frozen=True)
class YoloData:
    """A data set in YOLO's layout.

    Attributes:
        source: Its ``data.yaml``, or the ``classes.txt``: who says what the classes are.
        names: The classes, by number.
        splits: Of ``train``, ``val`` and ``test`` those that are there, each as folders of
            images or text files that list them.
        notes: What was passed over, a line each.
    """

    source: Path
    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]
    notes: tuple[str, ...] = ()


@dataclass
class _Findings:
    """What is odd in the rows of label files."""

    faults: list[str] = field(default_factory=list)
    flat: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)

    def warnings(self) -> list[str]:
        lines = []
        if self.flat:
            lines.append(f'{len(self.flat)} boxes without area are left out: {few(self.flat)}')
        if self.clipped:
            lines.append(
                f'{len(self.clipped)} boxes passed the border and are clipped, the first in '
                f'{self.clipped[0]}'
            )
        return lines


def read_data_yaml(file: Path) -> YoloData:
    """Read a ``data.yaml``.

    ``names`` is a list or ``{number: name}``. ``train``, ``val`` and ``test`` are a path or a list
    of paths, each a folder or a text file that lists images, relative to ``path``, which is
    itself relative to the file, or else to the file's own folder. A leading ``../`` that leads
    nowhere is passed over, since Roboflow's exports have one too many. A ``test`` that is not there
    is left out.

    Raises:
        MissingFileError: What ``train`` or ``val`` names is not there.
        InputError: It is no YAML, has no names, or is of key points.
    """
    data, faults = parse_data_yaml(file)
    if faults:
        raise faults[0]
    return data


def parse_data_yaml(file: Path) -> tuple[YoloData, list[InputError]]:
    """Read as much of a ``data.yaml`` as can be used.

    Returns:
        The data without places that are not there, and with numbers for names that cannot be used;
        and what is wrong, for which `read_data_yaml` raises.

    Raises:
        InputError: It is no YAML, or of key points.
    """
    content = _load_yaml(file)
    if 'kpt_shape' in content:
        raise InputError(f'{file}: kpt_shape makes it a data set of key points, not of boxes')
    names, faults = _read_names(file, content)
    path = content.get('path') or ''
    if not isinstance(path, str):
        faults.append(InputError(f'{file}: path is {shown(path)}; it must be a text'))
        path = ''
    root = Path(file.parent, path)
    splits, notes = {}, []
    for role, keys in SPLIT_KEYS.items():
        entry = next((content[key] for key in keys if content.get(key)), None)
        entries = [] if entry is None else entry if isinstance(entry, list) else [entry]
        if not all(isinstance(text, str) for text in entries):
            text = f'{file}: {role} is {shown(entry)}; it must be a path or a list of paths'
            faults.append(InputError(text))
            continue
        places = [_find_place(text, (root, file.parent)) for text in entries]
        lost = [text for text, place in zip(entries, places, strict=True) if place is None]
        there = tuple(filter(None, places))
        if lost and role == 'test':
            notes.append(f'{role} is left out: {root / lost[0]} is not there')
        elif there:
            splits[role] = there
        if lost and role != 'test':
            place = str(root / lost[0]).replace('\n', ' ')
            text = f'{file}: {role} names {lost[0]!r}, and {place} is not there: correct '
            faults.append(MissingFileError(f'{text}{role}, or path, in it'))
    if not splits and not faults:
        faults.append(InputError(f'{file}: names no images: write train: images/train'))
    return YoloData(file, names, splits, tuple(notes)), faults


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


def number_names(count: int) -> tuple[str, ...]:
    """Return numbers from 0, in place of names that cannot be used."""
    return tuple(map(str, range(count)))


def _read_names(file: Path, content: dict) -> tuple[tuple[str, ...], list[InputError]]:
    """Return the names, and what is wrong with them."""
    names = content.get('names')
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            text = f'names has the keys {few(names)}; they must be the numbers from 0 to '
            return (), [InputError(f'{file}: {text}{len(names) - 1}')]
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        return (), [InputError(f'{file}: has no list of names: write names: [cat, dog]')]
    faults = []
    odd = [n for n in names if not is_text(n) and not (type(n) is int and abs(n) < LIMIT)]
    if odd:
        faults.append(f'names has {shown(odd[0])}, which is no text: put it into quotes')
        names = number_names(len(names))
    if content.get('nc', len(names)) != len(names):
        faults.append(
            f'nc is {shown(content["nc"])}, and there are {len(names)} names: correct one of them'
        )
    texts = tuple(map(str, names))
    if len(set(texts)) < len(texts):
        faults.append(f'names has a name more than once: {few(texts)}')
        texts = number_names(len(texts))
    return texts, [InputError(f'{file}: {text}') for text in faults]


def _find_place(text: str, roots: Sequence[Path]) -> Path | None:
    """Return the first of the places that a path may mean, None where none is there."""
    texts = [text] + [text[3:]] * text.startswith('../')
    places = [Path(os.path.normpath(root / part)) for part in texts for root in roots]
    return next(filter(os.path.exists, places), None)


def read_yolo(
    data: YoloData, splits: Sequence[str], classes: Sequence[str] | None = None
) -> tuple[dict[str, tuple[dict, Path]], list[str]]:
    """Read splits as the content of COCO instances files.

    A row is ``CLASS CX CY WIDTH HEIGHT`` in fractions of the image, the class a number from 0. A
    row of the class and three points or more is a polygon, which becomes the box around it. The
    label file of an image lies where the last ``images`` among its folders is ``labels``, or else
    beside it. An image without one is background, without boxes.

    Fractions are of the image as it is shown: width and height come from its header, exchanged
    where EXIF says that it lies on its side, as MMDetection loads it. Boxes are clipped to the
    image and rounded to a thousandth of a pixel; one without area is left out.

    Args:
        data: The data set.
        splits: Which of its splits.
        classes: Names in the order of the labels, where that is another one or has more; None for
            the data's own.

    Returns:
        For each split its content and the folder that its ``file_name`` are relative to; and
        warnings, a line each. An image has the same id in all splits.

    Raises:
        MissingFileError: A list names an image that is not there.
        InputError: Rows are malformed (the log has a line for each of the first), no image has a
            label file, or an image is none.
    """
    classes = tuple(classes or data.names)
    unknown = [name for name in data.names if name not in classes]
    if unknown:
        raise InputError(f'{data.source}: names {few(unknown)}, which is none of {few(classes)}')
    ids = [classes.index(name) + 1 for name in data.names]
    lists = {split: _list_split(data, split) for split in splits}
    number = {p: i for i, p in enumerate(sorted({p for ps in lists.values() for p in ps}), 1)}
    found, lost = _Findings(), []
    result = {}
    for split, images in lists.items():
        labels = {image: label_file(image) for image in images}
        if not any(file.is_file() for file in labels.values()):
            raise InputError(
                f'{data.source}: none of the {len(images)} images of {split} has a label file; '
                f'the first would be {labels[images[0]]}'
            )
        if all(place.is_dir() for place in data.splits[split]):  # lists may share a folder
            lost += find_lost(labels.values())
        folder = common_folder(data.splits[split], images)
        content = dict(
            info=dict(description=f'{ORIGIN}, split {split}'),
            images=[],
            annotations=[],
            categories=[dict(id=i, name=name) for i, name in enumerate(classes, 1)],
        )
        for image, file in labels.items():
            _add_image(content, number[image], image, folder, file, ids, data.source, found)
        result[split] = content, folder
    _refuse(found.faults)
    warnings = found.warnings()
    if lost:
        warnings.append(f'{len(lost)} label files have no image, the first {lost[0]}')
    return result, warnings


def has_labels(data: YoloData, split: str) -> bool:
    """Whether any image of a split has a label file."""
    places = data.splits[split]
    return any(label_file(image).is_file() for p in places for _, image in list_images(p))


def label_file(image: Path) -> Path:
    """Return where the boxes of an image are, or would be."""
    return (_label_folder(image.parent) / image.name).with_suffix('.txt')


def _label_folder(folder: Path) -> Path:
    parts = folder.parts
    at = max((i for i, part in enumerate(parts) if part == 'images'), default=None)
    if at is None:
        return folder
    labels = Path(*parts[:at], 'labels', *parts[at + 1 :])
    return labels if labels.is_dir() else folder


def _list_split(data: YoloData, split: str) -> list[Path]:
    images = {p: where for place in data.splits[split] for where, p in list_images(place)}
    if not images:
        places = ', '.join(map(str, data.splits[split]))
        raise InputError(f'{data.source}: {split} has no image in {places}')
    for image, where in images.items():
        if where and not image.is_file():
            raise MissingFileError(f'{where}: no image at {image}')
    return list(images)


def list_images(place: Path) -> Iterator[tuple[str, Path]]:
    """Yield the images of a folder, or those that a text file lists, there or not.

    Args:
        place: One of `YoloData.splits`.

    Yields:
        The file and row that name the image, empty in a folder; and the image.

    Raises:
        InputError: The file is no text.
    """
    if place.is_file():
        for row, line in enumerate(read_lines(place), 1):
            if line.strip():
                yield f'{place}:{row}', Path(os.path.normpath(place.parent / line.strip()))
        return
    for folder, inner, files in walk(place):
        inner[:] = sorted(name for name in inner if not name.startswith('.'))
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith('.'):
                yield '', Path(folder, name)


def common_folder(places: Sequence[Path], images: Sequence[Path]) -> Path:
    """Return the folder that all places lie in, or, of lists, all images."""
    folders = places if all(place.is_dir() for place in places) else {p.parent for p in images}
    return Path(os.path.commonpath(folders))


def find_lost(labels: Iterable[Path]) -> list[Path]:
    """Return the label files beside those of the images that belong to none."""
    wanted = defaultdict(set)
    for file in labels:
        wanted[file.parent].add(file.name)
    return [
        folder / name
        for folder, names in sorted(wanted.items())
        for name in (sorted(os.listdir(folder)) if folder.is_dir() else ())
        if name.endswith('.txt') and name not in names and name.lower() not in NO_LABELS
    ]


def _add_image(
    content: dict,
    image_id: int,
    image: Path,
    folder: Path,
    file: Path,
    ids: Sequence[int],
    source: Path,
    found: _Findings,
) -> None:
    """Append an image and its boxes to COCO's content."""
    width, height = image_size(image)
    name = os.path.relpath(image, folder)
    content['images'].append(dict(id=image_id, file_name=name, width=width, height=height))
    rows = read_lines(file) if file.is_file() else []
    for row, line in enumerate(rows, 1):
        if not line.strip():
            continue
        where = f'{file}:{row}'
        try:
            label, edges = parse_row(line.split(), len(ids), source)
        except InputError as error:
            found.faults.append(f'{where}: {error}')
            continue
        x0, y0, x1, y1 = (
            round(min(max(edge, 0.0), 1.0) * side, DIGITS)
            for edge, side in zip(edges, (width, height) * 2, strict=True)
        )
        if x1 <= x0 or y1 <= y0:
            found.flat.append(where)
            continue
        left, top, right, bottom = edges
        over = (-left * width, -top * height, (right - 1) * width, (bottom - 1) * height)
        if max(over) > BORDER:
            found.clipped.append(where)
        w, h = round(x1 - x0, DIGITS), round(y1 - y0, DIGITS)
        content['annotations'].append(
            dict(
                id=len(content['annotations']) + 1,  # from 1: COCO's API takes 0 for "not found"
                image_id=image_id,
                category_id=ids[label],
                bbox=[x0, y0, w, h],
                area=round(w * h, DIGITS),
                iscrowd=0,
            )
        )


def _refuse(faults: list[str]) -> None:
    if not faults:
        return
    if len(faults) > 1:
        for line in faults[:SHOWN_ROWS]:
            print_log(line)
        if len(faults) > SHOWN_ROWS:
            print_log(f'... {len(faults) - SHOWN_ROWS} more')
    count = f' ({len(faults)} rows are bad)' if len(faults) > 1 else ''
    raise InputError(f'{faults[0]}{count}: mend the label files')
