"""What mmengine writes, whole or not at all: checkpoints, images, results, configs."""

from pathlib import Path
from typing import Any

from ..files import write_whole


def write_files_whole() -> None:
    """Let mmengine write local files, and configs, whole; safe to call again.

    mmengine opens a config's file first and formats the text then, which takes a second: a run
    that ends there would empty the config of an earlier one. And it takes any exception, the
    keyboard's too, for a fault of the text.
    """
    from mmengine.config import Config
    from mmengine.fileio import LocalBackend, register_backend

    original, formatted = Config.dump, Config.pretty_text
    if original.__module__ == __name__:
        return

    class WholeFileBackend(LocalBackend):
        """mmengine's backend for local files, with :func:`write_whole` for its writing."""

        def put(self, obj: bytes, filepath: str | Path) -> None:
            """Write bytes, making the folder where there is none."""
            Path(filepath).parent.mkdir(parents=True, exist_ok=True)
            write_whole(filepath, obj)

        def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
            """Write a text likewise."""
            self.put(obj.encode(encoding), filepath)

    def dump(self: Any, file: str | Path | None = None) -> str | None:
        if not str(file).endswith('.py'):
            return original(self, file)
        write_whole(str(file), self.pretty_text.encode())
        return None

    def pretty_text(self: Any) -> str:
        try:
            return formatted.fget(self)
        except SyntaxError as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise

    register_backend('local', WholeFileBackend, force=True, prefixes='')
    Config.dump, Config.pretty_text = dump, property(pretty_text)
