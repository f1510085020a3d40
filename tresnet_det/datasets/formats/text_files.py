"""Reading text that people wrote: lists, tables, names of classes."""

from pathlib import Path

from ...errors import InputError, MissingFileError


def read_text(file: Path) -> str:
    """Read a file of UTF-8, with or without a byte order mark.

    Raises:
        MissingFileError: It is not there.
        InputError: It cannot be read, or is no text.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f'{file}: is not there') from None
    except OSError as error:
        raise InputError(f'{file}: cannot be read ({error.strerror or error})') from error
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
