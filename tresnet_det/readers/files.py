"""Files of a dataset: folders with links, text that people wrote, headers of images."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingFileError
from .findings import Add

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.gif')


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
    with os.scandir(os.fspath(folder)) as entries:  # of what is no link nothing need be asked
        there = [e for e in entries if e.is_symlink() or e.is_dir()]
    seen = [e for e in there if not e.name.startswith('.')]
    return sorted(e.name for e in seen if os.path.isdir(e.path) and not leads_back(e.path))


def child_folders(folder: Path) -> list[Path]:
    """Return the folders of :func:`inner_folders`; none where it is no folder itself."""
    if not folder.is_dir():
        return []
    return [folder / name for name in inner_folders(folder)]


def leads_back(path: str | os.PathLike) -> bool:
    """Whether a path is a link to a folder that it lies in."""
    if not os.path.islink(path):
        return False
    return Path(os.path.realpath(os.path.dirname(path))).is_relative_to(os.path.realpath(path))


def list_folder(folder: str | os.PathLike) -> set[str]:
    """Return the names in a folder, none where there is no such folder.

    Raises:
        InputError: It cannot be listed.
    """
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with a NUL
        return set()
    except OSError as error:
        raise InputError(f'{folder}: cannot be read ({error.strerror or error})') from error


def read_bytes(file: Path) -> bytes:
    """Read a file.

    Raises:
        MissingFileError: It does not exist.
        InputError: It cannot be read.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f'{file}: not found') from None
    except OSError as error:
        raise InputError(f'{file}: cannot be read ({error.strerror or error})') from error


def read_text(file: Path) -> str:
    """Read a file of UTF-8, with or without a byte order mark.

    Raises:
        MissingFileError: It does not exist.
        InputError: It cannot be read, or is no text.
    """
    data = read_bytes(file)
    try:
        text = data.decode('utf-8-sig')
        at = data.find(0)  # decodes, and no name of a file can have it
    except UnicodeDecodeError as error:
        at = error.start
    if at >= 0:
        raise InputError(f'{file}: no text at byte {at}: save it as UTF-8')
    return text


def read_lines(file: Path) -> list[str]:
    """Read a text file's lines; see :func:`read_text`."""
    return read_text(file).splitlines()


def image_size(file: str | os.PathLike) -> tuple[int, int]:
    """Return width and height as the image is shown (cameras may store it turned).

    Raises:
        InputError: The header cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            # Of a turned TIFF, newer Pillows have exchanged the size already: let it turn itself.
            turned = image.getexif().get(0x0112, 1) >= 5
            return ImageOps.exif_transpose(image).size if turned else image.size
    except Exception:  # Pillow raises almost anything on a corrupt header
        raise InputError(f'{file}: not a readable image: replace or remove it') from None


def read_sizes(folder: Path, files: Sequence[str], add: Add) -> tuple[np.ndarray, list[int]]:
    """Read the headers of images.

    Args:
        folder: Of the images.
        files: ``N`` images, relative to it.
        add: Gets those that are none.

    Returns:
        ``(N, 2)``, width and height, NaN where there is no image; and which files are none.
    """
    sizes, unreadable = np.full((len(files), 2), np.nan), []
    for i, file in enumerate(files):
        try:
            sizes[i] = image_size(folder / file)
        except InputError:
            if os.path.lexists(folder / file):  # one that is missing is a finding of its own
                unreadable.append(i)
    add('undecodable-image', unreadable, files.__getitem__, len(files))
    return sizes, unreadable
