"""YOLO's ``data.yaml`` and Darknet's ``obj.data``: the classes, and where images are."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, MissingFileError, few, shown
from .files import read_lines, read_text
from .findings import is_text
from .split import YoloData, role_of

SPLIT_KEYS = {'train': ('train',), 'val': ('val', 'validation', 'valid'), 'test': ('test',)}
LONGEST_NUMBER = 10**18  # in place of a name


def read_data_yaml(file: Path) -> YoloData:
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
    faults: list[InputError] = []
    data = YoloData(file, _read_names(file, content, faults), {}, [], faults)
    path = content.get('path') or ''
    if not isinstance(path, str):
        faults.append(InputError(f'{file}: path is {shown(path)}; it must be a text'))
        path = ''
    root = Path(file.parent, path.replace('\\', '/'))
    for role, keys in SPLIT_KEYS.items():
        entry = next((content[key] for key in keys if content.get(key)), None)
        entries = [] if entry is None else entry if isinstance(entry, list) else [entry]
        if not all(isinstance(text, str) for text in entries):
            text = f'{file}: {role} is {shown(entry)}; it must be a path or a list of paths'
            faults.append(InputError(text))
            continue
        places = [_find_place(text, (root, file.parent), role) for text in entries]
        if role != 'test':
            data.notes.extend(_describe_ends(role, entries, places))
        lost = [text for text, place in zip(entries, places, strict=True) if place is None]
        if lost and role == 'test':
            data.notes.append(f'{role} is skipped: {root / lost[0]} is not found')
            continue
        if there := tuple(filter(None, places)):
            data.splits[role] = there
        if lost:
            place = str(root / lost[0]).replace('\n', ' ')
            text = f'{file}: {role} names {lost[0]!r}, and {place} is not found: correct '
            faults.append(MissingFileError(f'{text}{role}, or path, in it'))
    if not data.splits and not faults:
        faults.append(InputError(f'{file}: names no images: write train: images/train'))
    return data


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


def _read_names(file: Path, content: dict, faults: list[InputError]) -> tuple[str, ...]:
    """Return the names, none or numbers where they cannot be used; add what is wrong with them."""
    names = content.get('names')
    if isinstance(names, dict):
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
    if content.get('nc', len(names)) != len(names):
        said = shown(content['nc'])
        wrong.append(f'nc is {said}, and there are {len(names)} names: correct one of them')
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
    texts += ['/'.join(e) for e in ends if e[-1].endswith('.txt') or role in map(role_of, e)]
    places = [Path(os.path.normpath(root / part)) for part in texts for root in roots]
    return next(filter(os.path.exists, places), None)


def _describe_ends(role: str, texts: Sequence[str], places: Sequence[Path | None]) -> Iterator[str]:
    """Yield a line for each path that was read by its end."""
    for text, place in zip(texts, places, strict=True):
        if place and not str(place).endswith(os.path.normpath(text.lstrip('./'))):
            yield f'{role}: {text} is not found, {place} is taken'


def _load_obj_data(file: Path) -> dict:
    """Return what an ``obj.data`` says in the form of a ``data.yaml``: lines ``KEY = VALUE``."""
    pairs = (line.partition('=') for line in read_lines(file) if '=' in line)
    content: dict[str, Any] = {key.strip(): value.strip() for key, _, value in pairs}
    names = file.parent / content.get('names', 'obj.names').replace('\\', '/').rpartition('/')[2]
    content['names'] = [line.strip() for line in read_lines(names) if line.strip()]
    return content
