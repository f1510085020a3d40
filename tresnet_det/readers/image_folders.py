"""The folder that has the images of an annotation file."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError, MissingFileError, shown
from .files import child_folders
from .findings import Add
from .roles import role_of
from .split import Source

DEPTH = 3  # folders below the data's own in which images are looked for
SAMPLE = 100  # names by which the folder of images is found


def find_images(root: Path, names: Sequence[str], ann_file: Path, role: str) -> Path:
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
        for folder in _walk(root, DEPTH)
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


def find_folder(source: Source, files: list[str], add: Add) -> Path:
    """Return the folder of a source's images.

    Args:
        source: Where they are, or below what.
        files: Their names.
        add: Gets it where no folder below has them; the one above is returned then.
    """
    if source.search and files:
        try:
            return find_images(source.folder, files, source.ann_file, source.role)
        except InputError as error:
            add('images-not-found', [error])
    return source.folder


def _walk(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        for child in child_folders(root):
            yield from _walk(child, depth - 1)
