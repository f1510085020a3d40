"""The one kind of error that the tools turn into one line, and how such a line quotes things."""

import reprlib
import shlex
from collections.abc import Iterable
from pathlib import Path

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


def shell_path(path: str | Path) -> str:
    """Return a path as it can be pasted into a shell here: short where it lies below."""
    path = Path(path).resolve()
    return shlex.quote(
        str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    )
