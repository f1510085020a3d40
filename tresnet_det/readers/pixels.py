"""What only the pixels of images tell: do they decode, how large are they, which are copies.

Each image is read once, in several processes, as training reads it; how is for the caller to say.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .files import is_turned

CHUNK = 16  # images that a worker hands over at once
THUMB = 16  # pixels a side
LIKENESS = 0.997  # correlation of two thumbnails
STRAY = 3.0  # mean difference of two thumbnails in grey levels
CONTRAST = 4.0  # standard deviation of a thumbnail, below which noise would correlate
# Of an image: width and height in pixels, turned as EXIF says; whether EXIF exchanged them; a
# digest of the pixels; whether all are of one colour; 16 x 16 grey pixels. Zeros: not read.
SEEN = np.dtype('(2,)i8, ?, u8, ?, (256,)u1')
SEEN.names = 'size', 'turned', 'digest', 'blank', 'thumb'

Image = tuple[str, bool]  # its file, and whether detection reads it
ReadImage = Callable[[str, bool], np.ndarray]  # file, whether for detection: (H, W, 3) of uint8


@dataclass
class Scan:
    """What was seen of ``N`` images.

    Attributes:
        seen: ``(N,)`` of `SEEN`.
        errors: Why an image was not read, by its number.
    """

    seen: np.ndarray
    errors: dict[int, str]

    @classmethod
    def of(cls, found: Sequence[tuple | str | None]) -> 'Scan':
        """Gather what `scan_images` found of ``N`` images, None for those that it was not given."""
        seen = np.zeros(len(found), SEEN)
        for i, each in enumerate(found):
            if isinstance(each, tuple):
                seen[i] = each
        return cls(seen, {i: each for i, each in enumerate(found) if isinstance(each, str)})

    @property
    def digests(self) -> list[int]:
        """``N`` digests, 0 for images of one colour, which are no copies of each other."""
        return np.where(self.seen['blank'], 0, self.seen['digest']).tolist()


def scan_images(
    images: Sequence[Image], read: ReadImage, workers: int = 0, progress: bool = False
) -> dict[Image, tuple | str]:
    """Decode images; return for each its `SEEN`, or why it was not read.

    Args:
        images: Files, and whether detection reads them.
        read: Reads one of them, or raises an InputError. Workers find it by its name.
        workers: Processes that decode; 0 for this one.
        progress: Whether to show a bar on stderr.

    Raises:
        InputError: A process was killed.
    """
    from tqdm import tqdm

    chunks = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
    workers = min(workers, len(chunks))
    pool = ProcessPoolExecutor(workers, initializer=_use_one_thread) if workers else None
    try:
        with pool or nullcontext():
            found = (pool.map if pool else map)(_look_at_all, chunks, itertools.repeat(read))
            pairs = zip(images, itertools.chain.from_iterable(found), strict=True)
            return dict(tqdm(pairs, 'images', len(images), disable=not progress))
    except BrokenExecutor:
        text = 'a process that reads images was killed, mostly because memory ran out: lower '
        raise InputError(f'{text}--workers') from None


def _use_one_thread() -> None:
    import cv2
    import torch

    cv2.setNumThreads(0)  # there is a process for each core
    torch.set_num_threads(1)


def _look_at_all(images: Iterable[Image], read: ReadImage) -> list[tuple | str]:
    return [_look_at(path, detection, read) for path, detection in images]


def _look_at(path: str, detection: bool, read: ReadImage) -> tuple | str:
    """Return the `SEEN` of an image, or why it is not read."""
    import cv2

    try:
        pixels = read(path, detection)
    except InputError as error:
        return str(error)
    height, width = pixels.shape[:2]
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8)
    digest.update(f'{width} {height}'.encode())
    small = cv2.resize(pixels, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).ravel()
    blank = bool(grey.min() == grey.max() and (pixels == pixels[0, 0]).all())
    return (width, height), is_turned(path), int.from_bytes(digest.digest(), 'little'), blank, grey


def find_same(keys: Iterable, others: Iterable) -> np.ndarray:
    """Return for each image ``(N,)`` the first of ``others`` with the same key, or -1.

    Args:
        keys: ``N`` digests or files; what is 0 is like nothing.
        others: ``K`` of them.
    """
    first: dict = {}
    for i, key in enumerate(others):
        first.setdefault(key, i)
    return np.array([first.get(key, -1) if key else -1 for key in keys], np.int64)


def find_like(thumbs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each image ``(N,)`` the one of ``others`` that looks the same, or -1.

    What is compared are thumbnails: their correlation, and their difference in grey levels, so that
    a copy that was resized or compressed again is found, and a similar image is not. Images with
    little contrast are passed over.

    Args:
        thumbs: ``(N, 256)`` of uint8.
        others: ``(K, 256)`` of uint8.
    """
    like = np.full(len(thumbs), -1)
    known, known_rows = _normalise(others)
    asked, asked_rows = _normalise(thumbs)
    if not len(known):
        return like
    for start in range(0, len(asked), 256):  # 256 x 118,000 numbers are 120 MB
        part = slice(start, start + 256)
        likeness = asked[part] @ known.T
        best = likeness.argmax(1)
        mine, theirs = asked_rows[part], known_rows[best]
        stray = np.abs(thumbs[mine].astype(np.float32) - others[theirs]).mean(1)
        good = (likeness[np.arange(len(best)), best] >= LIKENESS) & (stray < STRAY)
        like[mine[good]] = theirs[good]
    return like


def _normalise(thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return thumbnails of mean 0 and length 1, and the rows of those that have contrast."""
    values = thumbs.astype(np.float32)
    values -= values.mean(1, keepdims=True)
    lengths = np.linalg.norm(values, axis=1)
    rows = (lengths >= CONTRAST * THUMB).nonzero()[0]
    return values[rows] / lengths[rows, None], rows
