"""Files are written whole or not at all, and images are opened within a limit of memory.

Whatever kills the process or fills the disk, a name stands for a whole file. An image of 700 bytes
can claim 30000 x 30000 pixels, and a decoder believes it: its header is read first. One limit holds
for all formats and tools: `MAX_PIXELS`, or what the environment says by `VARIABLE`.
"""

import contextlib
import errno
import io
import os
import shutil
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError, MissingFileError

JPEG_START, PNG_START = b'\xff\xd8', b'\x89PNG\r\n\x1a\n'
UNFINISHED = '.unfinished'  # the ending of a file that is being written
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, or what a user may write

MAX_PIXELS = 200_000_000  # 600 MB as RGB
VARIABLE = 'TRESNET_DET_MAX_PIXELS'
_OPENING = threading.Lock()

# OpenCV reads formats that Pillow does not know. It looks once, when it is first imported.
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', os.environ.get(VARIABLE) or str(MAX_PIXELS))


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file so that at any moment its name stands for the old content or the new one.

    The content goes into a file of another name next to it, to the disk, and takes the name then.

    Raises:
        OSError: It cannot be written; ``strerror`` says how much is needed and free. What had the
            name before is untouched, and nothing else is left.
    """
    path = Path(path)
    # mmengine lets each process of a run write the same file.
    unfinished = path.with_name(f'{path.name}.{os.getpid()}{UNFINISHED}')
    try:
        with open(unfinished, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise OSError(
            error.errno, _with_sizes(error, path.parent, len(content)), str(path)
        ) from error
    except BaseException:  # the keyboard
        unfinished.unlink(missing_ok=True)
        raise
    # The rename too; not every file system lets a folder be synchronised, and the file is whole.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the name of a file to write, which takes the place of ``path`` once it is whole.

    For what writes by itself; bytes that are at hand are for :func:`write_whole`. The name is
    next to ``path`` and has the same ending; after an exception there is no such file.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
    try:
        with naming(path, temporary):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path, temporary: Path) -> Iterator[None]:
    """Let an error name a file or folder, in place of a temporary one that is to become it.

    A write that fails, as on a full disk, names no file.
    """
    try:
        yield
    except OSError as error:
        place = Path(str(error.filename or temporary))
        if (error.filename or error.errno in FULL) and place.is_relative_to(temporary):
            named = str(path / place.relative_to(temporary))
            raise OSError(error.errno, error.strerror, named) from error
        raise


def _with_sizes(error: OSError, folder: Path, size: int) -> str:
    reason = error.strerror or type(error).__name__
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return reason
    return f'{reason} ({size / 1e6:.1f} MB to write, {free / 1e6:.1f} MB free)'


def remove_unfinished(folder: str | Path) -> list[str]:
    """Remove what a killed run left of the files it was writing; return their names."""
    left = sorted(Path(folder).glob('*' + UNFINISHED))
    for path in left:
        path.unlink(missing_ok=True)
    return [path.name for path in left]


def check_regular(path: str | os.PathLike) -> None:
    """Raise an InputError where a path is a pipe, a socket or a device: reading may never end."""
    if not os.path.isfile(path) and os.path.exists(path) and not os.path.isdir(path):
        raise InputError(f'{path}: a pipe, socket or device, not a file: replace or remove it')


def most_pixels() -> int:
    """Return how many pixels an image may have.

    Raises:
        InputError: The environment variable is no number above 0.
    """
    text = os.environ.get(VARIABLE) or str(MAX_PIXELS)
    if not text.isdecimal() or not int(text):
        raise InputError(f'{VARIABLE} is {text!r}: give a whole number of pixels above 0')
    return int(text)


def check_size(name: object, width: int, height: int) -> None:
    """Raise an InputError that names the file where an image has too many pixels."""
    limit = most_pixels()
    if width * height > limit:
        raise InputError(
            f'{name}: the image is too large ({width} x {height}, more than {limit} pixels): '
            f'reduce it, or set the environment variable {VARIABLE}'
        )


@contextlib.contextmanager
def opened(source: str | os.PathLike | bytes, name: object) -> Iterator[Any]:
    """Open an image by Pillow, which decodes its pixels only when they are asked for.

    Args:
        source: The file, or what is in it.
        name: Of the file, for the message.

    Raises:
        InputError: It has more pixels than :func:`most_pixels`, or is no regular file.
        Exception: As Pillow raises it, which may be almost anything on a corrupt header.
    """
    from PIL import Image

    if not isinstance(source, bytes):
        check_regular(source)
    with _OPENING:
        theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # it is lower than ours
        try:
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        finally:
            Image.MAX_IMAGE_PIXELS = theirs
    with image:
        check_size(name, *image.size)
        yield image


def check_header(data: bytes, name: object) -> bool:
    """Return whether Pillow knows the header of an image; raise as :func:`opened` does."""
    try:
        with opened(data, name):
            return True
    except InputError:
        raise
    except Exception:  # an odd header, of which the decoder will say what is wrong
        return False


def image_bytes(path: str | os.PathLike) -> np.ndarray:
    """Return what is in an image file, ``(N,)`` of uint8.

    Raises:
        MissingFileError: The file does not exist.
        InputError: It cannot be read, is no regular file, or is empty.
    """
    check_regular(path)
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise MissingFileError(f'{path}: the image does not exist') from None
    except OSError as error:
        raise InputError(f'{path}: the image cannot be read ({error.strerror})') from error
    if not data.size:
        raise InputError(f'{path}: the image is an empty file')
    return data


def decode_with_pillow(path: str | os.PathLike, data: bytes) -> Any:
    """Return what is in an image file as a Pillow RGB image, turned as its EXIF header says.

    Raises:
        InputError: It does not decode, has too many pixels, or 32 bits a channel.
    """
    from PIL import Image, ImageOps

    if data.startswith(PNG_START) and not _has_its_checksums(data):
        raise InputError(
            f'{path}: the image does not decode (wrong checksum): replace or remove it'
        )
    try:
        with opened(data, path) as stored:
            image = ImageOps.exif_transpose(stored)
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        raise InputError(
            f'{path}: not an image that can be decoded ({len(data)} bytes): replace or remove it'
        ) from None
    # Pillow's decoders raise almost anything on a corrupt file, and none of it is our mistake.
    except Exception as error:
        reason = ' '.join(str(error).split())
        raise InputError(
            f'{path}: the image does not decode ({reason}): replace or remove it'
        ) from error
    return to_rgb(image, path)


def to_rgb(image: Any, name: object) -> Any:
    """Return a Pillow image of any kind in RGB: without alpha, of 16 bits the upper 8.

    Raises:
        InputError: It has 32 bits a channel.
    """
    from PIL import Image

    if image.mode in ('I', 'F'):
        raise InputError(
            f'{name}: the image has 32 bits a channel, of an unknown range: save it with 8 or 16'
        )
    if image.mode.startswith('I;16'):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == 'RGB' else image.convert('RGB')  # no copy of 800 MB


def _has_its_checksums(data: bytes) -> bool:
    """Whether a PNG's image data is what was written, at which Pillow does not look."""
    at = len(PNG_START)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], 'big')
        said = int.from_bytes(data[end : end + 4], 'big')
        whole = end + 4 <= len(data)
        if whole and data[at + 4 : at + 8] == b'IDAT' and zlib.crc32(data[at + 4 : end]) != said:
            return False
        at = end + 4
    return True
