"""What mmengine writes, whole or not at all: checkpoints, images, results, configs."""

import functools
from pathlib import Path

from mmengine.config import Config
from mmengine.fileio import LocalBackend, register_backend

from ..files import write_whole


class WholeFileBackend(LocalBackend):
    """mmengine's backend for local files, with :func:`write_whole` for its writing."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes, making the folder where there is none."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        write_whole(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write a text likewise."""
        self.put(obj.encode(encoding), filepath)


def write_files_whole() -> None:
    """Let mmengine write local files, and configs, whole; safe to call again.

    A config bypasses its backends: it opens the file first and then formats the text, which takes a
    second: a run that ends there would empty the config of an earlier one.
    """
    register_backend('local', WholeFileBackend, force=True, prefixes='')
    original = Config.dump
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def dump(self: Config, file: str | Path | None = None) -> str | None:
        if not str(file).endswith('.py'):
            return original(self, file)
        write_whole(str(file), self.pretty_text.encode())
        return None

    Config.dump = dump
