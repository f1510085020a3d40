"""One's own data with labels of images made ready: CSV and class folders."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..classification import find_class_images
from .folders import inner_folders
from .held_out import NAMES, choose_held_out, describe_held_out, needs_held_out, write_text
from .image_folders import find_images
from .layouts import Layout
from .multilabel_readers import read_csv, read_folders, read_rows
from .ready import OwnData, ReadySplit, check_known


def prepare_labels(
    layout: Layout, roles: Sequence[str], out: Path, classes: Sequence[str] | None
) -> OwnData:
    """Make several labels per image ready, out of CSV files or class folders.

    Args:
        layout: Of CSV files or class folders.
        roles: Those of its splits that are wanted, at least one.
        out: Gets the CSV files that have to be written.
        classes: Names in the order of the labels; None for the first split's own.

    Raises:
        InputError: As of `prepare_splits`.
    """
    splits, notes, read = {}, [], {}
    found: tuple[str, ...] = ()
    who = 'the training data' if classes is None else 'the checkpoint'
    for role in roles:
        source = layout.splits[role]
        if layout.kind == 'csv':
            folder = find_images(layout.root, _first_column(source), source, role)
            names, labels, found = read_csv(source, folder, classes)
        else:
            folder = source
            _check_folders(folder, classes, who)
            names, labels, found = read_folders(folder, classes)
        classes = classes or found
        read[role] = names, labels, folder
    if needs_held_out(roles):
        names, labels, folder = read['train']
        good = (labels == 1).any(1).nonzero()[0]
        if len(good) < 2:
            raise InputError(
                f'{layout.root}: {len(good)} image with a label is too few to keep one apart'
            )
        held = good[sorted(choose_held_out([names[i] for i in good]))]
        notes.append(describe_held_out(len(held), len(names)))
        others = np.setdiff1d(np.arange(len(names)), held)
        for role, rows in (('train', others), ('val', held)):
            part = [names[i] for i in rows]
            file = out / f'{NAMES[role]}.csv'
            write_text(file, _as_csv(part, labels[rows], found))
            splits[role] = _count_labels(file, folder, labels[rows], True)
    for role in roles:
        if role not in splits:
            _, labels, folder = read[role]
            given = layout.splits[role] if layout.kind == 'csv' else None
            splits[role] = _count_labels(given, folder, labels, False)
    return OwnData(layout, found, splits, notes)


def _count_labels(file: Path | None, folder: Path, labels: np.ndarray, written: bool) -> ReadySplit:
    known = labels == 1
    return ReadySplit(
        file, folder, len(labels), int(known.sum()), int((~known.any(1)).sum()), written
    )


def _first_column(file: Path) -> list[str]:
    """Return the images that a CSV names; what is wrong with its rows, its reader says later."""
    names = [row[0].strip() for _, row in read_rows(file)[1:]]
    if not names:
        raise InputError(f'{file}: no image after the header: write one on each row')
    return names


def _as_csv(names: Sequence[str], labels: np.ndarray, classes: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['file', *classes])
    writer.writerows([name, *map(int, row)] for name, row in zip(names, labels, strict=True))
    return text.getvalue()


def _check_folders(folder: Path, classes: Sequence[str] | None, who: str) -> None:
    """Hold that a folder has class folders of known classes only."""
    if classes is not None:
        check_known(folder, inner_folders(folder), classes, who)


def prepare_folders(
    layout: Layout, roles: Sequence[str], out: Path, classes: Sequence[str] | None
) -> OwnData:
    """Make one label per image ready, out of class folders.

    Args:
        layout: Of class folders.
        roles: Those of its splits that are wanted, at least one.
        out: Gets the lists of labels that have to be written.
        classes: Names in the order of the labels; None for the first split's own.

    Raises:
        InputError: As of `prepare_splits`.
    """
    splits, notes = {}, []
    found: tuple[str, ...] = ()
    who = 'the training data' if classes is None else 'the checkpoint'
    for role in roles:
        folder = layout.splits[role]
        _check_folders(folder, classes, who)
        names, labels, found = find_class_images(folder, classes)
        classes = found
        if len(found) < 2:
            raise InputError(
                f'{folder}: one class folder, {found[0]!r}, leaves nothing to tell: add another'
            )
        splits[role] = ReadySplit(None, folder, len(names), len(names), 0)
        if role == 'train' and needs_held_out(roles):
            train, val = _hold_out_of_folders(folder, names, labels, found)
            notes.append(describe_held_out(len(val), len(names)))
            for part, rows in (('train', train), ('val', val)):
                file = out / f'{NAMES[part]}.txt'
                write_text(file, _as_list(folder, names, labels, rows, found))
                splits[part] = ReadySplit(file, folder, len(rows), len(rows), 0, True)
    return OwnData(layout, found, splits, notes)


def _hold_out_of_folders(
    folder: Path, names: Sequence[str], labels: Sequence[int], classes: Sequence[str]
) -> tuple[list[int], list[int]]:
    val = set()
    for number, name in enumerate(classes):
        rows = [i for i, label in enumerate(labels) if label == number]
        if len(rows) < 2:
            raise InputError(
                f'{folder / name}: its one image cannot be both for training and validation: add '
                'images, or a val/ folder'
            )
        val |= {rows[i] for i in choose_held_out([names[row] for row in rows])}
    return [i for i in range(len(names)) if i not in val], sorted(val)


def _as_list(
    folder: Path,
    names: Sequence[str],
    labels: Sequence[int],
    rows: Sequence[int],
    classes: Sequence[str],
) -> str:
    """Write ``NAME LABEL`` lines: numbers, or names where a number would be taken for one."""
    by_name = any(name.isdecimal() for name in classes)
    if by_name and any(len(name.split()) > 1 for name in classes):
        raise InputError(
            f'{folder}: class folders with numbers for names and others with spaces cannot be '
            'parted: rename them, or make a val/ folder'
        )
    said = [classes[label] if by_name else str(label) for label in labels]
    return ''.join(f'{names[i]} {said[i]}\n' for i in rows)
