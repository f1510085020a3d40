"""Reading an image file as 8-bit RGB, whatever kind of image it is."""

import os
import zlib
from typing import Any

import numpy as np
import torch

from ..errors import InputError, MissingFileError
from ..files import check_header, check_regular, opened
from ..readers.files import JPEG_START, PNG_START


def decode_rgb(path: str | os.PathLike) -> torch.Tensor:
    """Read an image as RGB, turned as its EXIF header says.

    JPEG goes through torchvision: Pillow's pixels to the bit, as a tensor, which is cropped in a
    third of Pillow's time. All else goes through Pillow: torchvision refuses it, does not turn it
    by EXIF or, with a PNG of one flipped bit (0.29.1), ends the process. Greyscale is repeated, a
    palette looked up, CMYK converted and transparency dropped, as by Pillow's ``convert('RGB')``.
    Of 16 bits the upper 8 are kept, where Pillow would saturate greyscale images to white. Of an
    animation, it is the first frame.

    Args:
        path: The file; formats are told by the content, not by the name.

    Returns:
        ``(3, H, W)`` of uint8, in channels-last layout.

    Raises:
        MissingFileError: The file does not exist.
        InputError: It cannot be read, is no image, is truncated, has too many pixels, or 32 bits a
            channel.
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
    if data[:2].tobytes() == JPEG_START and check_header(data.tobytes(), path):
        from torchvision.io import ImageReadMode, decode_image

        try:
            return decode_image(
                torch.from_numpy(data), mode=ImageReadMode.RGB, apply_exif_orientation=True
            )
        except RuntimeError:
            pass  # Pillow reads some that torchvision refuses, and says better what is wrong
    return to_tensor(_decode_with_pillow(path, data.tobytes()))


def to_tensor(image: Any) -> torch.Tensor:
    """Return a Pillow RGB image as ``(3, H, W)`` of uint8, in channels-last layout."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def to_pillow(image: torch.Tensor) -> Any:
    """Return ``(3, H, W)`` of uint8, in any layout, as a Pillow RGB image."""
    from PIL import Image

    # Five times as quick as a transposed copy by torch or numpy.
    return Image.merge('RGB', [Image.fromarray(channel) for channel in image.numpy()])


def _decode_with_pillow(path: str | os.PathLike, data: bytes) -> Any:
    """Return a Pillow RGB image."""
    from PIL import Image, ImageOps

    if data.startswith(PNG_START) and not _has_its_checksums(data):
        raise InputError(
            f'{path}: the image does not decode (wrong checksum): replace or remove it'
        )
    try:
        with opened(data, path) as stored:
            image = ImageOps.exif_transpose(stored)
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
    if image.mode in ('I', 'F'):
        raise InputError(
            f'{path}: the image has 32 bits a channel, of an unknown range: save it with 8 or 16'
        )
    if image.mode.startswith('I;16'):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert('RGB')


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
