"""YOLO's ``data.yaml``: the names of the classes, and where the images of each split are."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..errors import InputError, MissingFileError, few, shown
from .classes import is_text
from .files import read_text

SPLIT_KEYS = {'train': ('train',), 'val': ('val', 'validation', 'valid'), 'test': ('test',)}
LONGEST_NUMBER = 10**18  # in place of a name


@dataclass(frozen=True)
class YoloData:
    """A dataset in YOLO's layout.

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


def read_data_yaml(file: Path) -> tuple[YoloData, list[InputError]]:
    """Read as much of a ``data.yaml`` as can be used.

    ``names`` is a list or ``{number: name}``. ``train``, ``val`` and ``test`` are a path or a list
    of paths, each a folder or a text file that lists images, relative to ``path``, which is
    itself relative to the file, or else to the file's own folder. A leading ``../`` that leads
    nowhere is passed over, since Roboflow's exports have one too many. A ``test`` that is not found
    is skipped.

    Returns:
        The data without places that are not found, and with numbers for names that cannot be used;
        and what is wrong.

    Raises:
        InputError: It is no YAML, or of key points.
    """
    content = _load_yaml(file)
    if 'kpt_shape' in content:
        raise InputError(f'{file}: kpt_shape makes it a dataset of key points, not of boxes')
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
            notes.append(f'{role} is skipped: {root / lost[0]} is not found')
        elif there:
            splits[role] = there
        if lost and role != 'test':
            place = str(root / lost[0]).replace('\n', ' ')
            text = f'{file}: {role} names {lost[0]!r}, and {place} is not found: correct '
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
    odd = [n for n in names if not is_text(n) and not (type(n) is int and abs(n) < LONGEST_NUMBER)]
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
