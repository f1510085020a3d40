"""What the demo data is composed of: scikit-learn's digits, pasted on its photos.

The digits are scikit-learn's 1797 (UCI's test set of pen strokes, 8x8, 16 grey levels), the
backgrounds crops of scikit-learn's two photos. Nothing is downloaded and nothing is shipped.
Images are RGB, ``(H, W, 3)``.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import InputError

VAL_SHARE = 0.2  # of the 1797 digit samples
PHOTO_BRIGHTNESS = 0.35  # busy full-bright photos need hours of training, not minutes
INK = 128  # a pixel whose alpha (0..255) is at least this belongs to the digit's box
LICENSES = [
    {'id': 1, 'name': 'Digits: UCI optical recognition of handwritten digits, by scikit-learn'},
    {'id': 2, 'name': 'Photographs: scikit-learn china.jpg (danielbuechele), flower.jpg '
                      '(vultilion), Creative Commons Attribution'},
]  # fmt: skip


def check_size_and_seed(size: int, seed: int) -> None:
    """Raise an InputError where an image's side or a seed is out of range."""
    if not 32 <= size <= 1024:
        raise InputError(f'demo data: size is {size}; give a side of 32 to 1024 pixels')
    if seed < 0:
        raise InputError(f'demo data: seed is {seed}; give 0 or more')


class Sources(NamedTuple):
    """What images are composed of.

    Attributes:
        digits: Grey levels 0..16, ``(1797, 8, 8)``.
        labels: What each shows, 0..9, ``(1797,)``.
        photos: Two photos, uint8 ``(427, 640, 3)``.
    """

    digits: np.ndarray
    labels: np.ndarray
    photos: list[np.ndarray]


def load_sources() -> Sources:
    """Read digits and photos from the installed scikit-learn."""
    from sklearn.datasets import load_digits, load_sample_images

    digits = load_digits()
    return Sources(digits.images, digits.target, load_sample_images().images)


def split_samples(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal the digit samples out: the indices for training and those for validation.

    The one split of all demo data: with the same seed, what trains a classifier is never in the
    validation of a detector, and the other way round.
    """
    order = np.random.default_rng(seed).permutation(count)
    num_val = round(VAL_SHARE * count)
    return order[num_val:], order[:num_val]


def write_png(file: Path, image: np.ndarray) -> None:
    """Write an RGB image, uint8."""
    import cv2

    file.write_bytes(cv2.imencode('.png', image[..., ::-1])[1].tobytes())


def background(rng: np.random.Generator, photos: list[np.ndarray], size: int) -> np.ndarray:
    """Take a random dimmed crop of a photo, float ``(size, size, 3)``."""
    import cv2

    photo = photos[rng.integers(len(photos))]
    height, width = photo.shape[:2]
    low = min(size, height)
    crop = int(rng.integers(low, min(3 * size, height) + 1))
    y = int(rng.integers(height - crop + 1))
    x = int(rng.integers(width - crop + 1))
    view = np.ascontiguousarray(photo[y : y + crop, x : x + crop])
    if rng.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    way = cv2.INTER_AREA if crop >= size else cv2.INTER_CUBIC
    return cv2.resize(view, (size, size), interpolation=way).astype(np.float64) * PHOTO_BRIGHTNESS


def digit_alpha(image: np.ndarray, side: float) -> tuple[np.ndarray, tuple]:
    """Upscale one 8x8 digit smoothly.

    Args:
        image: Grey levels 0..16, ``(8, 8)``.
        side: Wanted longest side of the ink in pixels; met to a pixel or two.

    Returns:
        Opacity 0..255, uint8 ``(H, W)``, and the tight ink box in it, ``(left, top, w, h)``.
    """
    import cv2

    rows, columns = np.nonzero(image >= 7)
    image = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = side / max(image.shape)
    # the margin lets strokes at the border end round instead of cut
    image = np.pad(image / 16.0, 1)
    shape = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    smooth = cv2.resize(image, shape, interpolation=cv2.INTER_CUBIC)
    # a steep ramp around the stroke's edge: upscaled ink stays crisp, and its box well-defined
    alpha = (np.clip((smooth - 0.3) / 0.25, 0, 1) * 255).round().astype(np.uint8)
    rows, columns = np.nonzero(alpha >= INK)
    left, top = int(columns.min()), int(rows.min())
    return alpha, (left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)


def bright_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw white (one in four) or a saturated colour of full brightness, RGB ``(3,)`` 0..255."""
    import colorsys

    saturation = 0.0 if rng.random() < 0.25 else rng.uniform(0.4, 0.9)
    colour = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.92, 1.0))
    return np.array(colour) * 255


def paste(image: np.ndarray, alpha: np.ndarray, colour: np.ndarray, x: int, y: int) -> None:
    """Blend ``colour`` into ``image`` in place; what lies outside the image is skipped."""
    top, left = max(0, -y), max(0, -x)
    bottom = min(alpha.shape[0], image.shape[0] - y)
    right = min(alpha.shape[1], image.shape[1] - x)
    opacity = alpha[top:bottom, left:right, None] / 255.0
    view = image[y + top : y + bottom, x + left : x + right]
    view += opacity * (colour - view)
