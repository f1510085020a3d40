"""The error that tools turn into one line, what such a line quotes, and checks that raise it."""

import os
import reprlib
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

LONGEST_LINE = 1000  # letters of a message
LONGEST_NAME = 1000  # letters of the name of a class

_SHORT = reprlib.Repr()  # also of values that refer to each other a billion times over
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


class InputError(ValueError):
    """Something the user gave is wrong: a file, a config key, a row, an argument.

    The message is one line that says what is wrong, where (file, key, row), and what to do.
    The command line tools print it without a traceback; a library caller can catch it as a
    ``ValueError``.
    """


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that the user named, or that a config needs, does not exist."""


def few(names: Iterable[str], count: int = 4) -> str:
    """Name the first few, and how many there are where that is not all.

    Args:
        names: What to name; each of them is quoted, a long one cut off.
        count: How many are named.
    """
    names = list(names)
    words = map(repr, names[:count])
    text = ', '.join(word if len(word) < 300 else f'{word[:297]}...' for word in words)
    return text + (f', ... ({len(names)} in all)' if len(names) > count else '')


def shown(value: object) -> str:
    """Return a value of a file for a message, however long it is: at most 80 characters."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python writes no integer of 5000 digits
        text = f'a long {type(value).__name__}'
    return text if len(text) <= 80 else f'{text[:77]}...'


def shorten(text: str, longest: float = 32, measure: Callable[[str], float] = len) -> str:
    """Cut the middle out of a text that is too long: names differ at either end.

    Args:
        text: A file's name, a class, a split, a message.
        longest: How long it may be; no text is longer than `LONGEST_LINE` letters.
        measure: Returns the length of a text, such as a font's in pixels.
    """
    short, keep = text, min(len(text), LONGEST_LINE)
    while (len(short) > LONGEST_LINE or measure(short) > longest) and keep > 1:
        keep -= 1
        short = f'{text[: (keep + 1) // 2]}...{text[len(text) - keep // 2 :]}'
    return short


def printable(text: object) -> str:
    """Return a name as a terminal can show it, its control characters as Python writes them."""
    return ''.join(
        c if _is_shown(c) else c.encode('unicode_escape').decode('ascii') for c in str(text)
    )


def _is_shown(letter: str) -> bool:
    # Spaces of other scripts, and what joins or parts the letters of Persian and of emoji.
    return letter.isprintable() or letter in '\u200c\u200d' or unicodedata.category(letter) == 'Zs'


def quote(text: object) -> str:
    """Return a text as it can be pasted into a shell, control characters in bash's notation."""
    text = str(text)
    if all(map(_is_shown, text)):
        return shlex.quote(text)
    text = text.replace('\\', '\\\\').replace("'", "\\'")
    for letter in {c for c in text if not _is_shown(c)}:
        text = text.replace(letter, ''.join(f'\\x{byte:02x}' for byte in os.fsencode(letter)))
    return f"$'{text}'"


def shell_path(path: str | Path) -> str:
    """Return a path as it can be pasted into a shell here: short where it lies below."""
    path = Path(os.path.realpath(path))
    return quote(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise an InputError unless a value is a whole number from ``least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise InputError(f'{name} must be at least {least}, a whole number: got {shown(value)}')


def check_flag(name: str, value: object) -> None:
    """Raise an InputError unless a value is True or False."""
    if not isinstance(value, bool):
        raise InputError(f'{name} must be True or False, got {shown(value)}')


def check_init_cfg(init_cfg: object) -> None:
    """Raise an InputError unless each config has a type, as mmengine's need; None has none."""
    configs = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    for cfg in configs:
        named = isinstance(cfg, Mapping) and isinstance(cfg.get('type'), (str, type))
        if not named and init_cfg is not None:
            raise InputError(
                "init_cfg must be a dict with a type, as dict(type='Pretrained', checkpoint=FILE), "
                f'or a list of such dicts: got {shown(cfg)}'
            )
