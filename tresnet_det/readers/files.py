"""Folders with links in them, text that people wrote, and the headers of images."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..compat.installed import tool_command
from ..errors import InputError, MissingFileError

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
    except Exception:  # Pillow raises almost anything on a broken header
        raise InputError(f'{file}: not a readable image: replace or remove it') from None


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
