"""Reading an image file as 8-bit RGB, whatever kind of image it is."""

import os
from typing import Any

import numpy as np
import torch

from ..files import JPEG_START, check_header, decode_with_pillow, image_bytes


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
    data = image_bytes(path)
    if data[:2].tobytes() == JPEG_START and check_header(data.tobytes(), path):
        from torchvision.io import ImageReadMode, decode_image

        try:
            return decode_image(
                torch.from_numpy(data), mode=ImageReadMode.RGB, apply_exif_orientation=True
            )
        except RuntimeError:
            pass  # Pillow reads some that torchvision refuses, and says better what is wrong
    return to_tensor(decode_with_pillow(path, data.tobytes()))


def to_tensor(image: Any) -> torch.Tensor:
    """Return a Pillow RGB image as ``(3, H, W)`` of uint8, in channels-last layout."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def to_pillow(image: torch.Tensor) -> Any:
    """Return ``(3, H, W)`` of uint8, in any layout, as a Pillow RGB image."""
    from PIL import Image

    # Five times as quick as a transposed copy by torch or numpy.
    return Image.merge('RGB', [Image.fromarray(channel) for channel in image.numpy()])
