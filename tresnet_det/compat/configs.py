"""mmengine's configs, written whole or not at all, and the keyboard while they are formatted."""

from pathlib import Path
from typing import Any

from ..files import write_whole


def fix_configs() -> None:
    """Let a config be written whole; safe to call again.

    mmengine opens the file first and formats the text then, which takes a second: a run that ends
    there would empty the config of an earlier one. And it takes any exception, the keyboard's too,
    for a fault of the text.
    """
    from mmengine.config import Config

    original, written = Config.dump, Config.pretty_text
    if original.__module__ == __name__:
        return

    def dump(self: Any, file: str | Path | None = None) -> str | None:
        if not str(file).endswith('.py'):
            return original(self, file)
        write_whole(str(file), self.pretty_text.encode())
        return None

    def pretty_text(self: Any) -> str:
        try:
            return written.fget(self)
        except SyntaxError as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise

    Config.dump, Config.pretty_text = dump, property(pretty_text)
