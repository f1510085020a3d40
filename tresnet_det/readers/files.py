"""Files of a dataset: folders with links and hidden files, text that people wrote, headers."""

import gc
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..compat.installed import tool_command
from ..errors import InputError, MissingFileError
from ..files import JPEG_START, PNG_START, check_regular, opened
from .findings import Add

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.gif')
YAML = ('.yaml', '.yml')
IMAGE_FOLDERS = ('images', 'jpegimages', 'image', 'img', 'imgs')  # next to one of annotations
# What systems and their tools put next to data; hidden files are passed over with them.
COMPANION = re.compile(
    r'(?:^|[\\/])(?:\._|~\$|(?:(?:eh)?thumbs\.db|desktop\.ini|icon\r|__macosx|@eadir|#recycle|'
    r'\$recycle\.bin|system volume information|lost\+found)(?:$|[\\/]))',
    re.IGNORECASE,
)
ENDS = 1 << 20  # bytes at the start and the end of a file
JPEG_SCAN, JPEG_END = 0xDA, b'\xff\xd9'
JPEG_ALONE = {0x00, 0x01, 0xFF, *range(0xD0, 0xD8)}  # after FF: no header with a length follows
LAST = 64  # bytes in which the end mostly is
PNG_END = b'IEND\xae\x42\x60\x82'  # the last chunk with its CRC
EXIF_ORIENTATION, EXIF_TURNED = 0x0112, 5  # from there on width and height are exchanged


def is_companion(path: str) -> bool:
    """Whether a path has in it what macOS, Windows or a NAS puts next to the files of people."""
    return COMPANION.search(path) is not None


def is_hidden(name: str) -> bool:
    """Whether a name in a folder is hidden, or a companion's."""
    return name.startswith('.') or is_companion(name)


def glob(folder: Path, pattern: str) -> list[Path]:
    """Return what matches a pattern in any case, sorted, without what is hidden."""
    found = folder.glob(re.sub('[a-z]', lambda m: f'[{m[0]}{m[0].upper()}]', pattern.lower()))
    return sorted(f for f in found if not any(map(is_hidden, f.relative_to(folder).parts)))


def find(folder: Path, name: str) -> Path:
    """Return a path below a folder in the case that it has there; as given where there is none."""
    for part in Path(name).parts:
        path = folder / part
        if not os.path.lexists(path):
            same = (n for n in sorted(list_folder(folder)) if n.lower() == part.lower())
            path = folder / next(same, part)
        folder = path
    return folder


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk as ``os.walk`` does with ``followlinks``, not in circles, and past what is hidden.

    Where a link leads back to a folder that it lies in, ``os.walk`` gives each file forty times.

    Yields:
        A folder, the folders in it, which may be changed, and the files in it, sorted.
    """
    for place, inner, files in os.walk(os.fspath(folder), followlinks=True):
        seen = sorted(name for name in inner if not is_hidden(name))
        inner[:] = [name for name in seen if not leads_back(os.path.join(place, name))]
        yield place, inner, sorted(name for name in files if not is_hidden(name))


def inner_folders(folder: str | os.PathLike) -> list[str]:
    """Return the names of the folders in a folder, sorted, but for hidden ones and circles."""
    with os.scandir(os.fspath(folder)) as entries:  # of what is no link nothing need be asked
        there = [e for e in entries if e.is_symlink() or e.is_dir()]
    seen = [e for e in there if not is_hidden(e.name)]
    return sorted(e.name for e in seen if os.path.isdir(e.path) and not leads_back(e.path))


def child_folders(folder: Path) -> list[Path]:
    """Return the folders of :func:`inner_folders`; none where it is no folder itself."""
    if not folder.is_dir():
        return []
    return [folder / name for name in inner_folders(folder)]


def has_images(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(e.name.lower().endswith(SUFFIXES) and not is_hidden(e.name) for e in entries)


def image_folder(folder: Path) -> Path:
    """Return the folder of images in a folder, by its name, or else that folder."""
    inner = child_folders(folder)
    named = (f for name in IMAGE_FOLDERS for f in inner if f.name.lower() == name)
    return next(named, folder)


def list_all(root: Path) -> list[str]:
    """Return all images below a folder, relative to it."""
    return [
        os.path.relpath(os.path.join(place, name), root)
        for place, _, names in walk(root)
        for name in names
        if name.lower().endswith(SUFFIXES)
    ]


def leads_back(path: str | os.PathLike) -> bool:
    """Whether a path is a link to a folder that it lies in."""
    if not os.path.islink(path):
        return False
    return Path(os.path.realpath(os.path.dirname(path))).is_relative_to(os.path.realpath(path))


def list_folder(folder: str | os.PathLike) -> set[str]:
    """Return the names in a folder, none where there is no such folder.

    Raises:
        InputError: It cannot be listed.
    """
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with a NUL
        return set()
    except OSError as error:
        raise InputError(f'{folder}: cannot be read ({error.strerror or error})') from error


def read_bytes(file: Path) -> bytes:
    """Read a file.

    Raises:
        MissingFileError: It does not exist.
        InputError: It cannot be read, or is no regular file.
    """
    check_regular(file)
    try:
        with file.open('rb') as stream:
            start = stream.read(ENDS)
            if len(start) == ENDS and not start.strip(b'\0'):  # as of 3 GB that were never written
                raise InputError(f'{file}: begins with {ENDS} zeros: copy or download it again')
            stream.seek(0)  # not a sum of both, which would be in memory twice
            return stream.read()
    except FileNotFoundError:
        raise MissingFileError(f'{file}: not found') from None
    except OSError as error:
        raise InputError(f'{file}: cannot be read ({error.strerror or error})') from error


def read_ends(file: Path) -> bytes:
    """Return the start and the end of a file, of which the whole takes long."""
    check_regular(file)
    try:
        with file.open('rb') as stream:
            text = stream.read(ENDS)
            stream.seek(max(file.stat().st_size - ENDS, 0))
            return text + stream.read()
    except OSError:  # who reads it will say what is wrong
        return b''


def read_text(file: Path) -> str:
    """Read a file of UTF-8, with or without a byte order mark.

    Raises:
        MissingFileError: It does not exist.
        InputError: It cannot be read, or is no text.
    """
    data = read_bytes(file)
    try:
        text = data.decode('utf-8-sig')
        at = data.find(0)  # decodes, and no name of a file can have it
    except UnicodeDecodeError as error:
        at = error.start
    if at >= 0:
        raise InputError(f'{file}: no text at byte {at}: save it as UTF-8')
    return text


def read_lines(file: Path) -> list[str]:
    """Read a text file's lines; see :func:`read_text`."""
    return read_text(file).splitlines()


def read_json(file: Path, marked: bool = False) -> Any:
    """Read a JSON file as pycocotools will; or with ``marked`` one that has a byte order mark, too.

    Raises:
        MissingFileError: It does not exist.
        InputError: It cannot be read, or is none.
    """
    data = read_bytes(file)
    collects = gc.isenabled()
    gc.disable()  # it would look through millions of new dicts, again and again
    try:
        # Not as bytes, whose encoding json would guess: pycocotools takes UTF-8 and nothing else.
        return json.loads(data.decode('utf-8-sig' if marked else 'utf-8'))
    except json.JSONDecodeError as error:
        if error.doc.startswith('\ufeff'):
            raise InputError(
                f'{file}: begins with a byte order mark, which pycocotools does not take: save it '
                'as UTF-8 without'
            ) from None
        raise InputError(
            f'{file}: no valid JSON at line {error.lineno} column {error.colno} (character '
            f'{error.pos} of {len(error.doc)}): {error.msg}; truncated? copy or download it again'
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f'{file}: no text at byte {error.start}, so no JSON: save it as UTF-8'
        ) from None
    except (RecursionError, ValueError):  # a thousand brackets, an integer of 5000 digits
        raise InputError(
            f'{file}: nested too deep, or with a number too long, for an instances file: export it '
            'again'
        ) from None
    finally:
        if collects:
            gc.enable()


def image_size(file: str | os.PathLike) -> tuple[int, int]:
    """Return width and height as the image is shown (cameras may store it turned).

    Raises:
        InputError: The header cannot be read, or is of an image that is too large.
    """
    from PIL import ImageOps

    try:
        with opened(file, file) as image:
            # Of a turned TIFF, newer Pillows have exchanged the size already: let it turn itself.
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= EXIF_TURNED
            return ImageOps.exif_transpose(image).size if turned else image.size
    except InputError:
        raise
    except Exception:  # Pillow raises almost anything on a corrupt header
        raise InputError(f'{file}: not a readable image') from None


def check_end(file: str | os.PathLike) -> None:
    """Raise an InputError where a JPEG or PNG is truncated; most tell that by their last bytes."""
    with open(file, 'rb') as stream:
        start = stream.read(len(PNG_START))
        stream.seek(-min(LAST, stream.seek(0, os.SEEK_END)), os.SEEK_END)
        end = JPEG_END if start.startswith(JPEG_START) else PNG_END
        if not start.startswith((JPEG_START, PNG_START)) or end in stream.read():
            return
        stream.seek(0)
        data = stream.read()
    if not is_whole(data):
        raise InputError(f'{file}: the image is truncated ({len(data)} bytes)')


def is_whole(data: bytes) -> bool:
    """Say whether a JPEG or PNG has its end; other formats are left to their decoder.

    Bytes after the end (padding, an appended video) do no harm. Pillow draws the line at the same
    place: it refuses a JPEG that lacks just its end marker.
    """
    if data.startswith(JPEG_START):
        scan = _find_scan(data)
        return scan is not None and data.find(JPEG_END, scan) >= 0
    if data.startswith(PNG_START):
        return data.rfind(PNG_END) >= 0
    return True


def _find_scan(data: bytes) -> int | None:
    """Find where a JPEG's image data starts, past the headers.

    A thumbnail in the EXIF header is a JPEG of its own, whose end marker must not count; in the
    image data itself a byte FF is always followed by 00 or a restart marker.
    """
    position = 2
    # decoders pass over what stands between two headers: fill bytes FF, stray bytes
    while 0 <= (position := data.find(b'\xff', position)) <= len(data) - 4:
        marker = data[position + 1]
        if marker in JPEG_ALONE:
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], 'big')
        if marker == JPEG_SCAN:
            return position
    return None


def is_turned(file: str | os.PathLike) -> bool:
    """Whether EXIF exchanges the width and height of an image."""
    try:
        with opened(file, file) as image:
            return image.getexif().get(EXIF_ORIENTATION, 1) >= EXIF_TURNED
    except Exception:  # Pillow raises almost anything on an odd header
        return False


def read_sizes(folder: Path, files: Sequence[str], add: Add) -> tuple[np.ndarray, list[int]]:
    """Read the headers of images.

    Args:
        folder: Of the images.
        files: ``N`` images, relative to it.
        add: Gets those that are none.

    Returns:
        ``(N, 2)``, width and height, NaN where there is no image; and which files are none.
    """
    from mmengine.dist import is_main_process  # here, since it imports PyTorch
    from tqdm import tqdm

    sizes, unreadable = np.full((len(files), 2), np.nan), dict[int, str]()
    # On a terminal, and of several processes on the first, where it takes more than a second.
    shown = dict(disable=None if is_main_process() else True, delay=1, leave=False)
    for i, file in enumerate(tqdm(files, 'headers of images', **shown)):
        try:
            sizes[i] = image_size(folder / file)
            check_end(folder / file)
        except InputError as error:
            if os.path.lexists(folder / file):  # one that is missing is a finding of its own
                unreadable[i] = str(error).replace(str(folder / file), file, 1)
    add('undecodable-image', unreadable, unreadable.__getitem__, len(files))
    return sizes, [*unreadable]


def not_found(what: str, path: Path) -> str:
    """Say that a part of the data is missing, and how to come by it.

    Args:
        what: ``'annotation file'``, for example.
        path: Where it was looked for.
    """
    coco = re.fullmatch(r'instances_(?:train|val)(2014|2017)\.json', path.name)
    if coco:
        year = ' --year 2014' if coco[1] == '2014' else ''
        first = f'get MS-COCO by `{tool_command("get_coco")}{year}`'
    else:
        first = f'convert Pascal VOC by `{tool_command("voc_to_coco")}`'
    return (
        f'{what} {path} not found: set data_root, ann_file and data_prefix, {first}, name your own '
        'data by `--data-root DIR`, or try the demo data by `--demo`'
    )


def read_yaml(file: Path) -> dict:
    """Read a YAML file of the form ``KEY: VALUE``.

    Raises:
        InputError: It is none.
    """
    text = read_text(file)
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f'{file}: no YAML ({" ".join(str(error).split())})') from None
    if not isinstance(content, dict):
        raise InputError(f'{file}: no YAML of the form KEY: VALUE')
    return content
