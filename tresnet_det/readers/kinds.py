"""The layouts that are read, by name and by task, and what a folder of none of them lacks."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import few
from .files import SUFFIXES, read_ends, walk
from .labelling_tools import KEYS, TOOLS

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
EXPECTED = {
    'coco': 'annotations/*.json or train/_annotations.coco.json',
    'voc': 'Annotations/, ImageSets/Main/ and JPEGImages/, or XML files and images',
    'yolo': 'a data.yaml, or images/train/ with labels/train/ and a classes.txt',
    'csv': 'train.csv',
    'folders': 'train/ with a folder of images for each class',
}


def first_task(kind: str) -> str:
    """Return the first task that a layout serves."""
    return next(task for task, kinds in OF_TASK.items() if kind in kinds)


def describe_unknown(root: Path, task: str | None) -> str:
    """Say what is expected in a folder, which layouts come closest, and what there is."""
    entries = sorted(name + '/' * (root / name).is_dir() for name in os.listdir(root))
    there = f'in it are {few(entries)}' if entries else 'it is empty'
    kinds = tuple(KINDS) if task is None else OF_TASK[task]
    expected = '; '.join(f'{KINDS[kind]} ({EXPECTED[kind]})' for kind in kinds if kind in EXPECTED)
    expected += '; or another of docs/data.md' * (task != 'classification')
    near = [f'{KINDS[kind]} lacks {what}' for kind, what in _find_closest(root) if kind in kinds]
    closest = f'; closest: {", ".join(near)}' if near else ''
    return f'{f" for {task}" if task else ""}; expected: {expected}{closest}; {there}'


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
