"""RandAugment by OpenCV: torchvision's operations and draws, in less time.

Most of its operations are a table of 256 values, or a rotation that takes the nearest pixel, for
which torch computes in floats. An image of 224 pixels took 0.33 ms, where torchvision's took
0.57 ms on Pillow's images, there and back, and 1.57 ms on tensors (one core, torch 2.14.1,
OpenCV 5.0, Pillow 13.0); one of 448 pixels 0.94, 1.71 and 5.87 ms.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import nn

from ..errors import InputError

LEVELS = np.arange(256, dtype=np.float32)
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # Pillow's
TRANSLATION = 150 / 331  # of a side: the AutoAugment paper's 150 pixels of 331


class RandAugment(nn.Module):
    """Apply a few operations, drawn at random with one common strength (arXiv 1909.13719).

    The same operations, strengths and random draws as torchvision's ``v2.RandAugment`` on Pillow's
    images, so that a seed gives the same image, up to rounding.

    Args:
        num_ops: Operations that each image gets, one after another.
        magnitude: Their strength, from 0 to below ``num_magnitude_bins``.
        num_magnitude_bins: Number of strengths.

    Raises:
        InputError: ``magnitude`` is out of its range.
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9, num_magnitude_bins: int = 31) -> None:
        super().__init__()
        if not 0 <= magnitude < num_magnitude_bins:
            raise InputError(
                f'magnitude of RandAugment must be from 0 to {num_magnitude_bins - 1}, '
                f'got {magnitude}'
            )
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.num_magnitude_bins = num_magnitude_bins

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return an augmented copy of an image, ``(3, H, W)`` of uint8."""
        # To (H, W, 3) and back by OpenCV: torch's and numpy's transposed copies take far longer.
        array = cv2.merge([*image.numpy()])
        strength = self.magnitude / (self.num_magnitude_bins - 1)
        for _ in range(self.num_ops):
            operation, signed = OPERATIONS[int(torch.randint(len(OPERATIONS), ()))]
            sign = -1 if signed and torch.rand(()) <= 0.5 else 1
            array = operation(array, sign * strength)
        return torch.from_numpy(np.stack(cv2.split(array)))

    def extra_repr(self) -> str:
        return (
            f'num_ops={self.num_ops}, magnitude={self.magnitude}, '
            f'num_magnitude_bins={self.num_magnitude_bins}'
        )


# Operations take an image, (H, W, 3) of uint8, and a strength in [-1, 1], or [0, 1] where it has
# no sign; they return a new image, or the same one unchanged.


def identity(image: np.ndarray, strength: float) -> np.ndarray:
    """Change nothing."""
    return image


def shear_x(image: np.ndarray, strength: float) -> np.ndarray:
    """Shear along the rows by up to 0.3, about the corner."""
    return _warp(image, ((1, 0.3 * strength, 0), (0, 1, 0)))


def shear_y(image: np.ndarray, strength: float) -> np.ndarray:
    """Shear along the columns by up to 0.3, about the corner."""
    return _warp(image, ((1, 0, 0), (0.3 * strength, 1, 0)))


def translate_x(image: np.ndarray, strength: float) -> np.ndarray:
    """Move to the right, or to the left, by up to 45 % of the width."""
    return _warp(image, ((1, 0, -int(TRANSLATION * image.shape[1] * strength)), (0, 1, 0)))


def translate_y(image: np.ndarray, strength: float) -> np.ndarray:
    """Move downwards, or upwards, by up to 45 % of the height."""
    return _warp(image, ((1, 0, 0), (0, 1, -int(TRANSLATION * image.shape[0] * strength))))


def rotate(image: np.ndarray, strength: float) -> np.ndarray:
    """Turn counter-clockwise about the centre by up to 30 degrees."""
    angle = math.radians(30 * strength)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = image.shape[1] / 2, image.shape[0] / 2
    return _warp(image, ((cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)))


def brightness(image: np.ndarray, strength: float) -> np.ndarray:
    """Blend with black, or away from it."""
    return _look_up(image, LEVELS * np.float32(1 + 0.9 * strength))


def color(image: np.ndarray, strength: float) -> np.ndarray:
    """Blend with the image in grey, or away from it."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _blend(grey, image, strength)


def contrast(image: np.ndarray, strength: float) -> np.ndarray:
    """Blend with the mean grey, or away from it."""
    mean = int(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return _look_up(image, mean + (LEVELS - mean) * np.float32(1 + 0.9 * strength))


def sharpness(image: np.ndarray, strength: float) -> np.ndarray:
    """Blend with the smoothed image, or away from it; the outermost pixels stay."""
    smooth = image.copy()
    smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, SMOOTH)[1:-1, 1:-1]
    return _blend(smooth, image, strength)


def posterize(image: np.ndarray, strength: float) -> np.ndarray:
    """Keep the upper 8 to 4 bits."""
    dropped = round(4 * strength)
    return image & np.uint8(256 - (1 << dropped))


def solarize(image: np.ndarray, strength: float) -> np.ndarray:
    """Invert the levels from a threshold on, which falls from 255 to 0."""
    threshold = 255 * (1 - strength)
    return _look_up(image, np.where(threshold > LEVELS, LEVELS, 255 - LEVELS))


def autocontrast(image: np.ndarray, strength: float) -> np.ndarray:
    """Stretch each channel to the whole range."""
    tables = []
    for channel in cv2.split(image):
        low, high = int(channel.min()), int(channel.max())
        tables.append((LEVELS - low) * (255 / (high - low)) if high > low else LEVELS)
    return _look_up(image, np.stack(tables, -1))


def equalize(image: np.ndarray, strength: float) -> np.ndarray:
    """Give all levels of each channel the same share of the image."""
    tables = []
    for channel in range(3):
        histogram = cv2.calcHist([image], [channel], None, [256], [0, 256])
        histogram = histogram.ravel().astype(np.int64)  # (256, 1) by OpenCV 4, (256,) by 5
        step = (histogram.sum() - histogram[histogram.nonzero()[0][-1]]) // 255
        below = np.cumsum(histogram) - histogram
        tables.append((step // 2 + below) // step if step else LEVELS)
    return _look_up(image, np.stack(tables, -1))


# In torchvision's order, which the draws depend on; whether the strength has a sign.
OPERATIONS: tuple[tuple[Callable, bool], ...] = (
    (identity, False),
    (shear_x, True),
    (shear_y, True),
    (translate_x, True),
    (translate_y, True),
    (rotate, True),
    (brightness, True),
    (color, True),
    (contrast, True),
    (sharpness, True),
    (posterize, False),
    (solarize, False),
    (autocontrast, False),
    (equalize, False),
)


def _look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace levels.

    Args:
        image: ``(H, W, 3)`` of uint8.
        table: New level of each, ``(256,)`` or one for each channel, ``(256, 3)``; clipped, and
            what is behind the point cut off, as Pillow does.
    """
    table = np.clip(table, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table.reshape(1, 256, -1))


def _blend(other: np.ndarray, image: np.ndarray, strength: float) -> np.ndarray:
    factor = 1 + 0.9 * strength
    return cv2.addWeighted(image, factor, other, 1 - factor, 0)


def _warp(image: np.ndarray, inverse: tuple) -> np.ndarray:
    """Fetch every pixel from where a matrix says, the nearest one; black from outside.

    Args:
        image: ``(H, W, 3)`` of uint8.
        inverse: ``(2, 3)``, from places in the result to places in ``image``, where the first
            pixel's centre is at (0.5, 0.5).
    """
    matrix = np.array(inverse, np.float64)
    # OpenCV counts from the first pixel's centre.
    matrix[:, 2] += matrix[:, :2].sum(1) / 2 - 0.5
    size = image.shape[1], image.shape[0]
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
