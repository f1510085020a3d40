"""Reading all images of a dataset once, in several processes: do they decode, and to what."""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError

CHUNK = 16  # images that a worker hands over at once
THUMB = 16  # pixels a side
LIKENESS = 0.997  # correlation of two thumbnails
STRAY = 3.0  # mean difference of two thumbnails in grey levels
CONTRAST = 4.0  # standard deviation of a thumbnail, below which noise would correlate
EXIF_ORIENTATION, EXIF_TURNED = 0x0112, 5  # from there on width and height are exchanged

Seen = tuple[int, int, bool, int, bool, np.ndarray]


@dataclass
class Scan:
    """What was seen of ``N`` images; zeros of those that were not read.

    Attributes:
        sizes: ``(N, 2)``, width and height in pixels, turned as EXIF says.
        turned: ``(N,)``, whether EXIF exchanged width and height.
        digests: ``(N,)`` of uint64, of the pixels; 0 for none.
        blank: ``(N,)``, whether all pixels are of one colour.
        thumbs: ``(N, 256)`` of uint8: 16 x 16 grey pixels, row by row.
        errors: Why an image was not read, by its number.
    """

    sizes: np.ndarray
    turned: np.ndarray
    digests: np.ndarray
    blank: np.ndarray
    thumbs: np.ndarray
    errors: dict[int, str] = field(default_factory=dict)

    @classmethod
    def empty(cls, count: int) -> 'Scan':
        """Return what is known of images that were not read."""
        return cls(
            np.zeros((count, 2), np.int64),
            np.zeros(count, bool),
            np.zeros(count, np.uint64),
            np.zeros(count, bool),
            np.zeros((count, THUMB**2), np.uint8),
        )

    def take(self, rows: np.ndarray) -> 'Scan':
        """Return what was seen of some images, -1 for one that was not among them."""
        scan = Scan.empty(len(rows))
        there = rows >= 0
        for name in ('sizes', 'turned', 'digests', 'blank', 'thumbs'):
            getattr(scan, name)[there] = getattr(self, name)[rows[there]]
        scan.errors = {
            i: self.errors[row] for i, row in enumerate(rows.tolist()) if row in self.errors
        }
        return scan


def scan_images(
    paths: Sequence[str], detection: Sequence[bool], workers: int = 0, progress: bool = False
) -> Scan:
    """Decode images as training does.

    Args:
        paths: ``N`` image files.
        detection: For each, whether detection's `LoadImage` reads it, or else `decode_rgb`.
        workers: Processes that decode; 0 for this one.
        progress: Whether to show a bar on stderr.
    """
    from tqdm import tqdm

    scan = Scan.empty(len(paths))
    chunks = _Chunks(paths, detection)
    loader = DataLoader(
        chunks, batch_size=None, num_workers=min(workers, len(chunks)), collate_fn=_as_it_is
    )
    row = 0
    with tqdm(total=len(paths), desc='images', unit='', disable=not progress) as bar:
        for chunk in loader:
            for seen in chunk:
                if isinstance(seen, str):
                    scan.errors[row] = seen
                else:
                    width, height, *rest = seen
                    scan.sizes[row] = width, height
                    for name, value in zip(
                        ('turned', 'digests', 'blank', 'thumbs'), rest, strict=True
                    ):
                        getattr(scan, name)[row] = value
                row += 1
            bar.update(len(chunk))
    return scan


def _as_it_is(chunk: list[Seen | str]) -> list[Seen | str]:
    return chunk


class _Chunks(Dataset):
    """Some images at once, so that processes exchange few messages."""

    def __init__(self, paths: Sequence[str], detection: Sequence[bool]) -> None:
        # One array and not many strings, whose counts each worker would write to, and so copy.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self._detection = np.array(detection, bool)

    def __len__(self) -> int:
        return -(-len(self._paths) // CHUNK)

    def __getitem__(self, index: int) -> list[Seen | str]:
        part = range(index * CHUNK, min((index + 1) * CHUNK, len(self._paths)))
        return [self._see(os.fsdecode(self._paths[i]), self._detection[i]) for i in part]

    def _see(self, path: str, detection: bool) -> Seen | str:
        try:
            pixels = self._read(path, detection)
        except InputError as error:
            return str(error)
        return look(pixels, path)

    def _read(self, path: str, detection: bool) -> np.ndarray:
        """Return ``(H, W, 3)`` of uint8."""
        if not detection:
            from ..datasets.decode import decode_rgb

            return decode_rgb(path).permute(1, 2, 0).numpy()
        results = self._load(dict(img_path=path))
        assert results is not None  # where it would be, this loader raises
        return results['img']

    @functools.cached_property
    def _load(self) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
        import cv2

        from ..datasets.transforms import LoadImage

        cv2.setNumThreads(0)  # there is a process for each core
        return LoadImage().transform


def look(pixels: np.ndarray, path: str) -> Seen:
    """Say what an image is: width, height, turned, digest, blank, thumbnail, as `Scan` has them.

    Args:
        pixels: ``(H, W, 3)`` of uint8.
        path: Its file, for the EXIF header.
    """
    import cv2
    from PIL import Image

    try:
        with Image.open(path) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= EXIF_TURNED
    except Exception:  # Pillow raises almost anything on an odd header; the pixels are there
        turned = False
    height, width = pixels.shape[:2]
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=8)
    digest.update(f'{width} {height}'.encode())
    grey = cv2.cvtColor(
        cv2.resize(pixels, (THUMB, THUMB), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY
    )
    blank = bool(grey.min() == grey.max() and (pixels == pixels[0, 0]).all())
    return width, height, turned, int.from_bytes(digest.digest(), 'little'), blank, grey.ravel()


def find_same(digests: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each image ``(N,)`` one of ``others`` with the same pixels, or -1.

    Args:
        digests: ``(N,)`` of uint64; 0 for none.
        others: ``(K,)`` of uint64; 0 for none.
    """
    order = np.argsort(others, kind='stable')
    place = np.minimum(np.searchsorted(others[order], digests), max(len(others) - 1, 0))
    if not len(others):
        return np.full(len(digests), -1)
    found = order[place]
    return np.where((others[found] == digests) & (digests != 0), found, -1)


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
