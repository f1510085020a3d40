"""Folders of demo data: complete or not there at all, and never written over anything else."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ...errors import InputError
from ...files import naming

ADVICE = 'delete it, or choose another folder'


def make_folder(
    out_dir: str | os.PathLike, check: Callable[[Path], None], write: Callable[[Path], None]
) -> Path:
    """Have a folder written that appears complete or not at all.

    Several processes may ask for it at once; a folder that passes the check is left as it is.

    Args:
        out_dir: Folder to make; it may be there, empty.
        check: Raises an InputError where a folder with anything in it is not the one wanted.
        write: Fills an empty folder, which then takes the place of ``out_dir``.

    Returns:
        ``out_dir`` as a path.

    Raises:
        InputError: From ``check``, on what ``out_dir`` holds.
    """
    out_dir = Path(out_dir)
    if not _is_free(out_dir):
        check(out_dir)
        return out_dir
    target = Path(os.path.realpath(out_dir))
    target.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=f'.{target.name}-', dir=target.parent))
    try:
        with naming(target, temp):
            write(temp)
            temp.chmod(0o755)  # mkdtemp's folder is private to the user
        try:
            temp.rename(target)
        except OSError:
            # another process was faster: its data is as good, anything else is named
            if _is_free(target):
                raise
            check(target)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return out_dir


def check_content(
    out_dir: Path, info: dict, list_file: str, img_dir: str, kind: str = 'demo data'
) -> None:
    """Check that a folder holds the images of these very arguments, all of them.

    Args:
        out_dir: The folder.
        info: What ``info`` in the list must be, the arguments among it.
        list_file: JSON in ``out_dir`` with ``info`` and, in ``images``, each ``file_name``.
        img_dir: Folder in ``out_dir`` that the names are relative to.
        kind: What the data is called in the message.

    Raises:
        InputError: Something else is there, other arguments made it, or images are missing.
    """
    try:
        content = json.loads((out_dir / list_file).read_text())
        found = content['info']
        names = [image['file_name'] for image in content['images']]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f'{out_dir} is there and is no {kind}, it is not overwritten: {ADVICE}'
        ) from None
    if found != info:
        differs = [key for key in info if key not in found or found[key] != info[key]]
        had = ', '.join(f'{key} {found.get(key)} (asked: {info[key]})' for key in differs)
        raise InputError(f'{out_dir} holds other {kind}, with {had}: {ADVICE}')
    missing = [name for name in names if not _has_content(out_dir / img_dir / name)]
    if missing:
        raise InputError(
            f'{out_dir / img_dir} lacks {len(missing)} of {len(names)} images, '
            f'the first {min(missing)}: {ADVICE}'
        )


def _is_free(path: Path) -> bool:
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def _has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0
