"""Download MS-COCO into the layout that the detection configs read."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from .archives import download, files_below, remote_size, unpack

BASE_URL = 'http://images.cocodataset.org'
SPLITS = ('train', 'val')
IMAGES = {'train2017': 118287, 'val2017': 5000, 'train2014': 82783, 'val2014': 40504}
SIZES = {  # bytes, as COCO's server gives them
    'train2017.zip': 19336861798,
    'val2017.zip': 815585330,
    'annotations_trainval2017.zip': 252907541,
    'train2014.zip': 13510573713,
    'val2014.zip': 6645013297,
    'annotations_trainval2014.zip': 252872794,
}
# unpacked size by packed size: JPEGs do not shrink, JSON does
GROWTH = {'zips': 1.01, 'annotations': 4.0}


def get_coco(
    out_dir: str | os.PathLike,
    year: int = 2017,
    splits: Sequence[str] = SPLITS,
    base_url: str = BASE_URL,
    keep_archives: bool = False,
) -> dict[str, int]:
    """Download what is missing of MS-COCO, unpack and verify it.

    Each part (annotations, the images of a split) appears complete or not at all. What is there
    is verified and not fetched again; a download that was cut off resumes where it ended.

    Verified are: each archive's size (COCO's server is held to `SIZES`), the CRC-32 of each file as
    it is unpacked, and that every image that the annotations name is there and not empty; of
    COCO's server also the number of images. Not verified is who made it: COCO publishes no
    digests, and the connection is plain HTTP.

    Args:
        out_dir: Gets ``annotations/``, ``train<year>/`` and ``val<year>/``.
        year: 2017 or 2014.
        splits: Of ``'train'`` and ``'val'``.
        base_url: A server with COCO's paths.
        keep_archives: Leave the zip files in ``out_dir``.

    Returns:
        The number of images of each split, such as ``{'val2017': 5000}``.

    Raises:
        InputError: The network or the server fails, the disk is too small, an archive is corrupt
            or malicious, or images that the annotations name do not exist.
    """
    if year not in (2014, 2017) or not splits or set(splits) - set(SPLITS):
        raise InputError(f'COCO {year} {list(splits)}: year is 2017 or 2014, splits train and val')
    out_dir, base_url = Path(out_dir), base_url.rstrip('/')
    names = [f'{split}{year}' for split in splits]
    archives = _missing_archives(out_dir, year, names)
    urls = {name: f'{base_url}/{kind}/{name}' for name, kind in archives.items()}
    sizes: dict[str, int | None] = {}
    for name, url in urls.items():
        archive = out_dir / name
        sizes[name] = archive.stat().st_size if archive.exists() else remote_size(url)
        if base_url == BASE_URL and sizes[name] is None:  # it does not say: what it should be
            sizes[name] = SIZES[name]
    if base_url == BASE_URL:
        _check_sizes(urls, sizes)
    out_dir.mkdir(parents=True, exist_ok=True)
    for stale in out_dir.glob('.unpack-*'):  # of a run that was killed
        shutil.rmtree(stale, ignore_errors=True)
    _check_disk(out_dir, archives, sizes, keep_archives)
    for name, kind in archives.items():
        archive = out_dir / name
        if not archive.exists():
            download(urls[name], archive, sizes[name])
        if kind == 'annotations':
            _install_annotations(out_dir, archive)
        else:
            _install_images(out_dir, archive, archive.stem)
        if not keep_archives:
            archive.unlink()
    counts = {name: _check_images(out_dir, name, out_dir / name) for name in names}
    for name, count in counts.items():
        if base_url == BASE_URL and count != IMAGES[name]:
            raise InputError(
                f'{_ann_file(out_dir, name)}: names {count} images, COCO has {IMAGES[name]}; '
                'move it away and run again'
            )
    return counts


def _ann_file(out_dir: Path, name: str) -> Path:
    return out_dir / f'annotations/instances_{name}.json'


def _missing_archives(out_dir: Path, year: int, names: list[str]) -> dict[str, str]:
    """Return the archives to fetch, annotations first, each with the server's folder."""
    archives = {}
    if not all(_ann_file(out_dir, name).is_file() for name in names):
        archives[f'annotations_trainval{year}.zip'] = 'annotations'
    for name in names:
        folder = out_dir / name
        if not folder.is_dir() or not any(folder.iterdir()):
            archives[f'{name}.zip'] = 'zips'
    return archives


def _check_sizes(urls: dict[str, str], sizes: dict[str, int | None]) -> None:
    for name, size in sizes.items():
        if size != SIZES[name]:
            raise InputError(
                f'{urls[name]}: has {size} bytes instead of {SIZES[name]}; a proxy on the way, or '
                'another file by that name: delete it, or name another server by --base-url'
            )


def _check_disk(
    out_dir: Path, archives: dict[str, str], sizes: dict[str, int | None], keep_archives: bool
) -> None:
    """Refuse to start what the disk cannot hold: the archives and what they unpack to."""
    packed, unpacked = [], []
    for name, kind in archives.items():
        size = sizes[name] or SIZES[name]
        there = [out_dir / name, out_dir / f'{name}.part']
        packed.append(size - sum(file.stat().st_size for file in there if file.exists()))
        unpacked.append(size * GROWTH[kind])
    need = sum(unpacked) + (sum(packed) if keep_archives else max(packed, default=0))
    free = shutil.disk_usage(out_dir).free
    if need > free:
        raise InputError(
            f'{out_dir}: COCO needs {need / 1e9:.1f} GB there and {free / 1e9:.1f} GB are free; '
            'make room, choose another --out, or fewer --splits'
        )


@contextmanager
def _unpacked(out_dir: Path, archive: Path, top: str) -> Iterator[Path]:
    """Unpack next to the goal and give the folder ``top`` of it; the rest is removed."""
    temp = Path(tempfile.mkdtemp(prefix='.unpack-', dir=out_dir))
    try:
        unpack(archive, temp)
        if not (temp / top).is_dir():
            raise InputError(f'{archive}: has no folder {top}/; it is another archive, delete it')
        yield temp / top
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _install_annotations(out_dir: Path, archive: Path) -> None:
    with _unpacked(out_dir, archive, 'annotations') as folder:
        target = out_dir / 'annotations'
        target.mkdir(exist_ok=True)
        for name in sorted(files_below(folder) - files_below(target)):
            (folder / name).replace(target / name)


def _install_images(out_dir: Path, archive: Path, name: str) -> None:
    with _unpacked(out_dir, archive, name) as folder:
        _check_images(out_dir, name, folder)
        folder.replace(out_dir / name)


def _check_images(out_dir: Path, name: str, folder: Path) -> int:
    """Hold a folder against its annotations; returns the number of images."""
    ann_file = _ann_file(out_dir, name)
    try:
        wanted = [image['file_name'] for image in json.loads(ann_file.read_bytes())['images']]
    except FileNotFoundError:
        raise InputError(
            f'{ann_file}: not in the annotations archive; name another server by --base-url'
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f'{ann_file}: no COCO annotations; delete it and run again') from None
    lost = sorted(set(wanted) - files_below(folder))
    if lost:
        raise InputError(
            f'{out_dir / name}: lacks {len(lost)} of {len(wanted)} images that {ann_file} names '
            f'(or has them empty), the first is {lost[0]}; delete the folder (and {name}.zip) and '
            'run again'
        )
    return len(wanted)
