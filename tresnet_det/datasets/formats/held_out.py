"""Training images that are kept apart where there are none to validate on, and their files."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import InputError
from ...files import replacing

SHARE = 0.1  # of the training images
SEED = 0
NAMES = {'train': 'train_without_val', 'val': 'val_of_train'}  # of the files that hold the parts


def needs_held_out(roles: Sequence[str]) -> bool:
    """Whether there is something to train on and nothing to validate on."""
    return 'train' in roles and 'val' not in roles


def choose_held_out(names: Sequence[str]) -> set[int]:
    """Return which of the images are kept apart: a tenth of them, at least one.

    It is those whose names come first by the SHA-256 of ``0/NAME``: the same in every run and on
    every machine, and little changed by images that are added.
    """

    def key(index: int) -> bytes:
        return hashlib.sha256(os.fsencode(f'{SEED}/{names[index]}')).digest()

    count = min(len(names), max(1, round(len(names) * SHARE)))
    return set(sorted(range(len(names)), key=key)[:count])


def describe_held_out(chosen: int, total: int) -> str:
    """Say which images were kept apart."""
    return (
        f'no validation split: {chosen} of the {total} training images are kept apart for it '
        f'(a tenth, by the SHA-256 of {SEED}/NAME) and not trained on'
    )


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all; several processes may write the same at once.

    Raises:
        InputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding='utf-8', errors='surrogateescape')
    except OSError as error:
        raise InputError(f'{path} cannot be written: {error.strerror or error}') from error
