"""Folders with links in them."""

import os
from collections.abc import Iterator
from pathlib import Path


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk as ``os.walk`` does with ``followlinks``, and not in circles.

    Where a link leads back to a folder that it lies in, ``os.walk`` gives each file forty times.

    Yields:
        A folder, the folders in it, which may be changed, and the files in it.
    """
    for place, inner, files in os.walk(os.fspath(folder), followlinks=True):
        inner[:] = [name for name in inner if not leads_back(os.path.join(place, name))]
        yield place, inner, files


def inner_folders(folder: str | os.PathLike) -> list[str]:
    """Return the names of the folders in a folder, sorted, but for hidden ones and circles."""
    with os.scandir(os.fspath(folder)) as entries:
        return sorted(e.name for e in entries if not e.name.startswith('.') and _is_folder(e))


def child_folders(folder: Path) -> list[Path]:
    """Return the folders of :func:`inner_folders`; none where it is no folder itself."""
    if not folder.is_dir():
        return []
    return [folder / name for name in inner_folders(folder)]


def _is_folder(entry: os.DirEntry) -> bool:
    if not entry.is_symlink():  # of which nothing need be asked
        return entry.is_dir()
    return os.path.isdir(entry.path) and not leads_back(entry.path)


def leads_back(path: str | os.PathLike) -> bool:
    """Whether a path is a link to a folder that it lies in."""
    if not os.path.islink(path):
        return False
    return Path(os.path.realpath(os.path.dirname(path))).is_relative_to(os.path.realpath(path))
