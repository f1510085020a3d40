"""Image files are opened here alone: the header is read first, and limits the memory of one image.

A file of 700 bytes can claim 30000 x 30000 pixels, and a decoder believes it. One limit holds for
all formats and tools: `MAX_PIXELS`, or what the environment says by `VARIABLE`.
"""

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from typing import Any

from .errors import InputError

MAX_PIXELS = 200_000_000  # 600 MB as RGB
VARIABLE = 'TRESNET_DET_MAX_PIXELS'
_OPENING = threading.Lock()

# OpenCV reads formats that Pillow does not know. It looks once, when it is first imported.
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', os.environ.get(VARIABLE) or str(MAX_PIXELS))


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
        InputError: It has more pixels than :func:`most_pixels`.
        Exception: As Pillow raises it, which may be almost anything on a corrupt header.
    """
    from PIL import Image

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
