"""Files that are written one piece after the other, and names that are safe for them."""

import json
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..errors import InputError
from ..files import replacing

LONGEST_NAME = 80  # characters of a drawn image's name
MOST_BYTES = 200  # of it in UTF-8; file systems take 255, a number and the ending included


def safe_name(name: str, taken: set[str], suffix: str | None = None) -> str:
    """Return a file name for what is drawn of an image, which stays in its folder.

    Args:
        name: A path or a URL, of which the last part serves.
        taken: Names that are given away, in small letters; the new one is put in.
        suffix: The ending; None for ``.jpg`` where the image is a JPEG and ``.png`` elsewhere.
    """
    last = re.split(r'[/\\]', name.split('?')[0] if '://' in name else name)[-1]
    stem, ending = os.path.splitext(last)
    if suffix is None:
        suffix = '.jpg' if ending.lower() in ('.jpg', '.jpeg') else '.png'
    stem = re.sub(r'[^\w.+()-]+', '_', stem).strip('._')[:LONGEST_NAME] or 'image'
    stem = stem.encode()[:MOST_BYTES].decode(errors='ignore')
    number, unique = 1, f'{stem}{suffix}'
    while unique.lower() in taken:  # also where the file system takes A and a for the same
        number += 1
        unique = f'{stem}_{number}{suffix}'
    taken.add(unique.lower())
    return unique


def save_image(image: np.ndarray, path: Path) -> None:
    """Write ``(H, W, 3)`` of uint8 in RGB as the file's ending says."""
    from PIL import Image

    options: dict[str, Any] = dict(quality=95) if path.suffix == '.jpg' else {}
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, **options)


class JsonList:
    """A JSON file with a list that is written entry by entry.

    Its name stands for the old content until the list is complete, and for a whole list then: that
    of all entries so far where an exception or the keyboard ends the writing.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO  # while it is entered
        self._closing = ExitStack()

    def __enter__(self) -> 'JsonList':
        unfinished = self._closing.enter_context(replacing(self.path))
        self._file = self._closing.enter_context(unfinished.open('w', encoding='utf-8'))
        self._separator = '[\n'
        return self

    def write(self, entry: Mapping[str, Any]) -> None:
        """Add an entry."""
        self._file.write(self._separator + json.dumps(entry))
        self._separator = ',\n'

    def __exit__(self, *error: object) -> None:
        with self._closing:  # which sees the errors of this write alone, such as a full disk
            self._file.write('[]\n' if self._separator == '[\n' else '\n]\n')


class VideoWriter:
    """An MP4 of frames, which has its name once it is whole.

    Args:
        path: The file.
        fps: Frames a second.
        first: The first frame, ``(H, W, 3)`` of uint8 in RGB, whose size all have.

    Raises:
        InputError: OpenCV has no encoder here.
    """

    def __init__(self, path: Path, fps: float, first: np.ndarray) -> None:
        import cv2

        self.path, self._count = path, 0
        # MPEG-4 wants even sides: a row or a column less.
        self._height, self._width = (side // 2 * 2 for side in first.shape[:2])
        code = cv2.VideoWriter.fourcc(*'mp4v')
        with ExitStack() as closing:
            self._unfinished = str(closing.enter_context(replacing(path)))
            size = self._width, self._height
            self._writer = cv2.VideoWriter(self._unfinished, code, fps, size)
            if not self._writer.isOpened():
                raise InputError(f'{path}: OpenCV cannot write a video here: give --no-images')
            self._closing = closing.pop_all()

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, ``(H, W, 3)`` of uint8 in RGB."""
        frame = frame[: self._height, : self._width, ::-1]
        self._writer.write(np.ascontiguousarray(frame))
        self._count += 1

    def close(self) -> None:
        """Complete the file.

        Raises:
            InputError: Not all of it is written, of which OpenCV says nothing. There is no file.
        """
        import cv2

        with self._closing:
            self._writer.release()
            whole = cv2.VideoCapture(self._unfinished)
            if whole.get(cv2.CAP_PROP_FRAME_COUNT) < self._count:
                raise InputError(f'{self.path}: cannot be written whole: is the disk full?')
