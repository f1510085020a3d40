"""What is to be predicted: files, folders, globs, videos, URLs, arrays; read one by one."""

import glob
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, Union
from urllib.parse import urlsplit

import numpy as np

from ..errors import InputError, MissingFileError, shown
from ..files import check_regular, check_size, to_rgb
from ..readers.findings import is_text

if TYPE_CHECKING:
    import cv2  # takes its time
    from PIL.Image import Image as PillowImage

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')
LARGEST_DOWNLOAD = 64 << 20  # bytes
LONGEST_WAIT = 30.0  # seconds for a download

Report = Callable[[str, Exception], None]
# What Python code may give as an image: a file, a URL, pixels, or an image of Pillow.
ImageInput: TypeAlias = Union[str, os.PathLike[str], np.ndarray, 'PillowImage']


class Source(NamedTuple):
    """One thing to read.

    Attributes:
        name: The file as the user named it, or the URL.
        kind: ``'image'``, ``'video'`` or ``'url'``.
    """

    name: str
    kind: str


class Video(NamedTuple):
    """Where a frame comes from: the file, and frames a second of those that are taken."""

    name: str
    fps: float


class InputImage(NamedTuple):
    """An image that was read.

    Attributes:
        name: The file or the URL; of a frame ``FILE#NUMBER``, counted from 0 in the whole video.
        pixels: ``(H, W, 3)`` of uint8 in RGB.
        video: What a frame belongs to, None for an image by itself.
    """

    name: str
    pixels: np.ndarray
    video: Video | None = None


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """Find what the user named, without opening any of it.

    A folder means the images and videos directly in it, by name; so does a pattern (``*``,
    ``?``, ``[...]``, ``**`` for folders at any depth) for those that match. A file that is named
    is taken whatever its ending. What is named twice is taken once.

    Args:
        inputs: Files, folders, patterns, and URLs of images (``http://``, ``https://``).

    Raises:
        MissingFileError: There is no such file.
        InputError: A folder or a pattern has no image, or a URL is not one of an image.
    """
    found: dict[str, Source] = {}
    for text in inputs:
        for source in _expand(text):
            key = source.name if source.kind == 'url' else os.path.abspath(source.name)
            found.setdefault(key, source)
    return list(found.values())


def find_unsearched(inputs: Sequence[str]) -> list[str]:
    """Return a pattern for each folder that has images or videos in folders below it too."""
    patterns = []
    for folder in filter(os.path.isdir, inputs):
        names = glob.iglob(os.path.join(glob.escape(folder), '*', '**', '*'), recursive=True)
        if any(map(_kind_by_ending, names)):
            patterns.append(_below(folder))
    return patterns


def count_images(sources: Sequence[Source], stride: int = 1) -> int:
    """Return how many images and frames there will be, as far as videos say."""
    return sum(_count_frames(s.name, stride) if s.kind == 'video' else 1 for s in sources)


def read_images(
    sources: Sequence[Source],
    read: Callable[[str], np.ndarray],
    report: Report,
    stride: int = 1,
) -> Iterator[InputImage]:
    """Read one image after the other, and skip those that cannot be read.

    Args:
        sources: Of :func:`find_sources`.
        read: Returns an image file as ``(H, W, 3)`` of uint8 in RGB, or raises InputError.
        report: Called with the name and the reason for each that cannot be read.
        stride: Take every ``stride``-th frame of a video, from the first.
    """
    for source in sources:
        try:
            if source.kind == 'video':
                yield from read_frames(source.name, stride)
            elif source.kind == 'url':
                yield InputImage(source.name, _read_downloaded(source.name, read))
            else:
                yield InputImage(source.name, read(source.name))
        except (InputError, OSError) as error:
            report(source.name, error)


def read_given(
    images: Sequence[ImageInput], read: Callable[[str], np.ndarray], bgr: bool = False
) -> Iterator[InputImage]:
    """Read what Python code gives, one image after the other.

    Args:
        images: Files, URLs, arrays and Pillow images, in any mixture. Pillow's are taken as files
            are: turned by EXIF, a palette looked up, alpha dropped. Arrays are ``(H, W)``, or
            ``(H, W, C)`` of one, three or four channels, the fourth of which is dropped; of uint8,
            or of uint16, whose upper 8 bits are taken, as of files.
        read: As for :func:`read_images`.
        bgr: Whether the channels of arrays are in OpenCV's order.

    Yields:
        Each by its file or URL, an array or a Pillow image as ``images[NUMBER]``.

    Raises:
        InputError: One of them cannot be read, or is no such image.
    """
    from PIL.Image import Image

    for number, image in enumerate(images):
        name = f'images[{number}]'
        if isinstance(image, np.ndarray):
            yield InputImage(name, _array_as_rgb(image, name, bgr))
        elif isinstance(image, Image):
            yield InputImage(name, _pillow_as_rgb(image, name))
        elif isinstance(image, str | os.PathLike):
            file = os.fspath(image)
            if not isinstance(file, str) or not is_text(file) or '\0' in file:
                raise InputError(f'{name} is {shown(file)}: that is no path')
            scheme = file.lower().partition('://')[0] if '://' in file else ''
            if scheme and scheme not in ('http', 'https'):
                raise InputError(f'{shown(file)}: give a file, or a URL of http or https')
            yield InputImage(file, _read_downloaded(file, read) if scheme else read(file))
        else:
            raise InputError(
                f'{name} is {shown(image)}: give a file, a URL, an array (H, W, 3) of uint8 or an '
                'image of Pillow'
            )


def _array_as_rgb(array: np.ndarray, name: str, bgr: bool) -> np.ndarray:
    array = np.asarray(array)  # a matrix has two dimensions for ever
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    if array.dtype != np.uint8:
        raise InputError(
            f'{name} is an array of {array.dtype}, of an unknown range: give uint8, from 0 to 255'
        )
    channels = array.shape[2:] or (1,)
    if array.ndim not in (2, 3) or channels[0] not in (1, 3, 4) or not array.size:
        raise InputError(
            f'{name} is an array {array.shape}: give (H, W), or (H, W, C) with 1, 3 or 4 channels'
        )
    if channels == (1,):
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, 2)
    array = array[..., :3]
    return array[..., ::-1] if bgr else array


def _pillow_as_rgb(image: 'PillowImage', name: str) -> np.ndarray:
    from PIL import ImageOps

    check_size(name, *image.size)
    try:
        turned = ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow reads a file when it is needed
        raise InputError(f'{name}: the image does not decode ({error})') from error
    return np.array(to_rgb(turned, name))


def read_frames(path: str, stride: int = 1) -> Iterator[InputImage]:
    """Read every ``stride``-th frame of a video, from the first.

    Args:
        path: The file.
        stride: At least 1.

    Yields:
        The frames; those that cannot be decoded are skipped.

    Raises:
        InputError: It is no video that can be decoded.
    """
    import cv2

    with _opened(path) as capture:
        # Some files do not say how fast they are.
        fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
        video, number = Video(path, fps / stride), 0
        while capture.grab():  # a frame that is not taken need not be converted
            if number % stride == 0:
                whole, frame = capture.retrieve()
                if whole:
                    yield InputImage(f'{path}#{number}', frame[..., ::-1], video)
            number += 1
    if number == 0:
        raise InputError(f'{path}: no frame of the video can be decoded')


def download(url: str, largest: int = LARGEST_DOWNLOAD, wait: float = LONGEST_WAIT) -> bytes:
    """Fetch what is at a URL into memory.

    Args:
        url: ``http://`` or ``https://``.
        largest: Bytes beyond which it is given up.
        wait: Seconds after which it is given up.

    Raises:
        InputError: It cannot be downloaded, is too large, or takes too long.
    """
    from .. import __version__

    end, data = time.monotonic() + wait, bytearray()
    try:
        request = urllib.request.Request(url, headers={'User-Agent': f'tresnet_det/{__version__}'})
        with urllib.request.urlopen(request, timeout=wait) as response:
            while part := response.read1(1 << 16):
                data += part
                if len(data) > largest:
                    raise InputError(f'{url}: more than {largest >> 20} MiB: download it yourself')
                if time.monotonic() > end:
                    raise InputError(f'{url}: not there after {wait:g} s: download it yourself')
    except InputError:
        raise
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        reason = getattr(error, 'reason', None) or error
        code = getattr(error, 'code', '')
        raise InputError(f'{url}: cannot be had ({f"{code} {reason}".strip()})') from error
    return bytes(data)


def _read_downloaded(url: str, read: Callable[[str], np.ndarray]) -> np.ndarray:
    data = download(url)
    # Both tasks' decoders read files, and say what is wrong with one by its name.
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'download')
        Path(path).write_bytes(data)
        try:
            return read(path)
        except InputError as error:
            raise InputError(str(error).replace(path, url)) from error


def _expand(text: str) -> list[Source]:
    if text.lower().startswith(('http://', 'https://')):
        if urlsplit(text).path.lower().endswith(VIDEO_SUFFIXES):
            raise InputError(f'{text}: a video has to be downloaded first')
        return [Source(text, 'url')]
    if os.path.lexists(text) and not os.path.isdir(text):  # what cannot be read is named then
        return [Source(text, 'video' if text.lower().endswith(VIDEO_SUFFIXES) else 'image')]
    is_pattern = not os.path.isdir(text)
    if is_pattern and glob.escape(text) == text:
        if '://' in text:
            raise InputError(f'{text}: only http:// and https:// are fetched')
        raise MissingFileError(f'no image, folder or video at {Path(text).absolute()}')
    names = glob.glob(text, recursive=True) if is_pattern else _list_folder(text)
    sources = [Source(name, kind) for name in sorted(names) if (kind := _kind_by_ending(name))]
    if not sources and text.lower().endswith(image_suffixes()) and not is_pattern:
        return [Source(text, 'image')]  # a folder among a shell's *.jpg: it is named then
    if not sources:
        where = 'matches' if is_pattern else 'is in'
        raise InputError(
            f'{text}: no image or video {where} it (expected are {" ".join(image_suffixes())} '
            f"and videos); images in folders below: '{_below(text)}'"
        )
    return sources


def _below(text: str) -> str:
    folder = Path(glob.escape(text)) if os.path.isdir(text) else Path(text).parent
    return str(folder / '**' / '*')


def _list_folder(folder: str) -> list[str]:
    return [os.path.join(folder, name) for name in os.listdir(folder) if not name.startswith('.')]


def _kind_by_ending(name: str) -> str | None:
    if os.path.isdir(name):
        return None
    if name.lower().endswith(VIDEO_SUFFIXES):
        return 'video'
    return 'image' if name.lower().endswith(image_suffixes()) else None


def image_suffixes() -> tuple[str, ...]:
    """Return the endings of image files, in small letters."""
    from torchvision.datasets.folder import IMG_EXTENSIONS  # takes a second

    return IMG_EXTENSIONS


@contextmanager
def _opened(path: str) -> Iterator['cv2.VideoCapture']:
    """OpenCV's reader of a video file."""
    import cv2

    check_regular(path)
    # Keep what OpenCV and FFmpeg say of a corrupt file out of the one line that names it.
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    logs = cv2 if hasattr(cv2, 'setLogLevel') else cv2.utils.logging  # OpenCV 4, OpenCV 5
    level = logs.setLogLevel(0)
    capture = cv2.VideoCapture(path)
    try:
        if not capture.isOpened():
            raise InputError(f'{path}: not a video that can be decoded')
        sides = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
        check_size(path, *(int(capture.get(side)) for side in sides))
        yield capture
    finally:
        capture.release()
        logs.setLogLevel(level)


def _count_frames(path: str, stride: int) -> int:
    import cv2

    try:
        with _opened(path) as capture:
            frames = max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    except InputError:  # it will be said when its turn comes
        return 1
    return -(-frames // stride)
