"""Training images that are held out to validate on, where no split is for that."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError

SHARE = 0.1  # of the training images
SEED = 0
NAMES = {'train': 'train_without_val', 'val': 'val_of_train'}  # of the files that hold the parts


def choose_held_out(names: Sequence[str]) -> set[int]:
    """Return which of the images are held out: a tenth of them, at least one.

    It is those whose names come first by the SHA-256 of ``0/NAME``: the same in every run and on
    every machine, and little changed by images that are added.
    """

    def key(index: int) -> bytes:
        return hashlib.sha256(os.fsencode(f'{SEED}/{names[index]}')).digest()

    count = min(len(names), max(1, round(len(names) * SHARE)))
    return set(sorted(range(len(names)), key=key)[:count])


def hold_out(files: Sequence[str], rows: np.ndarray, always: bool = True) -> np.ndarray:
    """Return which rows are held out; without ``always`` none, where a tenth is no image."""
    if not always and len(rows) * SHARE < 1:
        return rows[:0]
    return rows[sorted(choose_held_out([files[row] for row in rows]))]


def hold_out_of_each(
    files: Sequence[str], labels: np.ndarray, folders: Sequence[Path]
) -> np.ndarray:
    """Return which images are held out of each class.

    Args:
        files: ``N`` images.
        labels: The class number of each, ``(N,)``.
        folders: Of the classes.

    Raises:
        InputError: A class has one image alone.
    """
    parts = []
    for label, folder in enumerate(folders):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise InputError(
                f'{folder}: its one image cannot be both for training and validation: add images, '
                'or a val/ folder'
            )
        parts.append(hold_out(files, rows))
    return np.concatenate(parts)


def describe_held_out(chosen: int, total: int) -> str:
    """Say which images were held out."""
    return (
        f'no validation split: {chosen} of the {total} training images are held out for it '
        f'(a tenth, by the SHA-256 of {SEED}/NAME) and not trained on'
    )
