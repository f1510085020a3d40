"""What several tools take: types of numbers, KEY=VALUE, and places to write to."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction

from ..errors import InputError


def positive(text: str) -> int:
    """Return a whole number from 1, for ``type=`` of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number above 0')
    return int(text)


def share(text: str) -> float:
    """Return a number from 0 to 1, likewise."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not between 0 and 1')
    return value


class KeyValueAction(DictAction):
    """mmengine's ``KEY=VALUE`` option, with argparse's own message where it is not of that form."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} takes KEY=VALUE, got {value!r}')
        super().__call__(parser, namespace, values, option_string)


def add_cfg_options(parser: argparse._ActionsContainer, example: str) -> None:
    """Add ``--cfg-options``, an empty dict by default; the help shows the example."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default={},
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help=f'override settings of the config, e.g. {example}',
    )


def out_folder(path: str | Path, option: str = '--out-dir') -> Path:
    """Make a folder for results, before minutes are spent on them.

    Raises:
        InputError: It cannot be made, or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{option} {folder} cannot be made: {error.strerror}') from error
    if not os.access(folder, os.W_OK):
        raise InputError(f'{option} {folder} cannot be written to')
    return folder


def out_file(path: str | Path, *endings: str) -> Path:
    """Return the file, or the beginning of files, that ``--out`` names; its folder is made.

    Args:
        path: As given.
        endings: What its name may end in, such as ``'.onnx'``; any, where there are none.

    Raises:
        InputError: The name ends otherwise, is a folder's, or cannot be written.
    """
    file = Path(path)
    if endings and file.suffix not in endings:
        raise InputError(f'--out {path}: give a file that ends in {" or ".join(endings)}')
    if endings and file.is_dir():
        raise InputError(f'--out {path} is a folder: give a file')
    out_folder(file.parent, f'--out {path}:')
    return file
