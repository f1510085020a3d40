"""Where the images of a split are: in which folder, and which of them are missing."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..compat.installed import tool_command
from ..errors import InputError, MissingFileError, shown
from .files import child_folders, list_folder
from .findings import Add, Findings
from .split import Split, role_of

DEPTH = 3  # folders below the data's own in which images are looked for
SAMPLE = 100  # names by which the folder of images is found


def locate(splits: Sequence[Split], findings: Findings) -> list[Split]:
    """Find which images exist, by listing each folder once, not asking for every file."""
    listed: dict[str, set[str]] = {}
    return [_locate(split, split.about(findings), findings, listed) for split in splits]


def _locate(split: Split, add: Add, findings: Findings, listed: dict[str, set[str]]) -> Split:
    if split.source.kind == 'folders':  # listed already
        return replace(split, found=np.ones(len(split.files), bool))
    source, nothing = split.source, np.zeros(len(split.files), bool)
    if source.search and split.files:
        try:
            folder = find_image_folder(source.folder, split.files, source.ann_file, source.role)
            split = replace(split, folder=folder)
        except InputError as error:
            add('images-not-found', [error])
    if not split.folder.is_dir():
        add('missing-folder', [not_found('image folder', split.folder)])
    if findings.has(split.name, 'missing-folder', 'images-not-found'):
        return replace(split, found=nothing)
    pairs = [os.path.split(file) for file in split.files]
    there, by_small_letters = {}, dict[str, dict[str, str]]()
    for part in {part for part, _ in pairs}:
        place = os.path.join(split.folder, part)
        try:
            if place not in listed:
                listed[place] = list_folder(place)
        except InputError as error:
            listed[place] = set()
            add('missing-folder', [error])
        there[part] = listed[place]

    def describe(row: int) -> str:
        part, name = pairs[row]
        if part not in by_small_letters:
            by_small_letters[part] = {name.casefold(): name for name in there[part]}
        close = by_small_letters[part].get(name.casefold())
        return split.files[row] + (f' (there is {close})' if close else '')

    found = np.array([name in there[part] for part, name in pairs], bool)
    add('missing-image', np.flatnonzero(~found).tolist(), describe, len(pairs))
    return replace(split, found=found)


def find_image_folder(root: Path, names: Sequence[str], ann_file: Path, role: str) -> Path:
    """Find the folder that the image files of an annotation file are relative to.

    Where several folders have them (as where each split counts from 1), it is the one next to the
    file, or with the file's name, or with a name of the role.

    Args:
        root: Folder of the data.
        names: As the file has them, at least one.
        ann_file: The file.
        role: ``'train'``, ``'val'`` or ``'test'``.

    Raises:
        MissingFileError: No folder has any of them.
        InputError: Several have them, and nothing tells which are meant.
    """
    sample = names[:: max(1, len(names) // SAMPLE)]
    counts = {
        folder: sum(os.path.isfile(folder / name) for name in sample)
        for folder in _walk_down(root, DEPTH)
    }
    most = max(counts.values())
    if not most:
        raise MissingFileError(
            f'{ann_file}: names images such as {shown(names[0])}, and no folder below {root} has '
            'them: put them there, under the names that it gives'
        )
    split = re.sub('^instances_', '', ann_file.stem)

    def rank(folder: Path) -> tuple[bool, bool, bool, int]:
        parts = folder.relative_to(root).parts
        named = split in parts or role in map(role_of, parts)
        return folder == ann_file.parent, split in parts, named, counts[folder]

    # A folder of the right name may lack some images, which the data's checks then tell.
    able = [folder for folder, count in counts.items() if count >= most / 2]
    best = max(map(rank, able))
    chosen = [folder for folder in able if rank(folder) == best]
    if len(chosen) > 1:
        raise InputError(
            f'{ann_file}: {chosen[0]} and {chosen[1]} both have images of its names: move one '
            'away, or give the right one a name of the split'
        )
    return chosen[0]


def _walk_down(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        for child in child_folders(root):
            yield from _walk_down(child, depth - 1)


def not_found(what: str, path: Path) -> str:
    """Say that a part of the data is missing, and how to come by it.

    Args:
        what: ``'annotation file'``, for example.
        path: Where it was looked for.
    """
    coco = re.fullmatch(r'instances_(?:train|val)(2014|2017)\.json', path.name)
    if coco:
        year = ' --year 2014' if coco[1] == '2014' else ''
        first = f'get MS-COCO by `{tool_command("get_coco")}{year}`'
    else:
        first = f'convert Pascal VOC by `{tool_command("voc_to_coco")}`'
    return (
        f'{what} {path} not found: set data_root, ann_file and data_prefix, {first}, name your own '
        'data by `--data-root DIR`, or try the demo data by `--demo`'
    )
