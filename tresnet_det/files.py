"""Files that are there whole or not at all, whatever kills the process or fills the disk."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

UNFINISHED = '.unfinished'  # the ending of a file that is being written


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file so that at any moment its name stands for the old content or the new one.

    The content goes into a file of another name next to it, to the disk, and takes the name then.

    Raises:
        OSError: It cannot be written; ``strerror`` says how much is needed and free. What had the
            name before is untouched, and nothing else is left.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        with open(unfinished, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise OSError(
            error.errno, _with_sizes(error, path.parent, len(content)), str(path)
        ) from error
    except BaseException:  # the keyboard
        unfinished.unlink(missing_ok=True)
        raise
    # The rename too; not every file system lets a folder be synchronised, and the file is whole.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the name of a file to write, which takes the place of ``path`` once it is whole.

    For what writes by itself; bytes that are at hand are for :func:`write_whole`. The name is
    next to ``path`` and has the same ending; after an exception there is no such file.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _with_sizes(error: OSError, folder: Path, size: int) -> str:
    reason = error.strerror or type(error).__name__
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return reason
    return f'{reason} ({size / 1e6:.1f} MB to write, {free / 1e6:.1f} MB free)'


def remove_unfinished(folder: str | Path) -> list[str]:
    """Remove what a killed run left of the files it was writing; return their names."""
    left = sorted(Path(folder).glob('*' + UNFINISHED))
    for path in left:
        path.unlink(missing_ok=True)
    return [path.name for path in left]


@register_backend('whole_files', force=True)
class WholeFileBackend(LocalBackend):
    """mmengine's backend for local files, with :func:`write_whole` for its writing."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes, making the folder where there is none."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        write_whole(filepath, obj)
