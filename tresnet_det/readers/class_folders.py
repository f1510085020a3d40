"""Reader of a folder of images for each class, as torchvision's ``ImageFolder`` reads them."""

import filecmp
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from ..errors import InputError, MissingFileError
from .csv import label_split
from .files import SUFFIXES, has_images, inner_folders, walk
from .findings import Add, Findings, suggest, without
from .split import Source, Split

READ = tuple(suffix for suffix in SUFFIXES if suffix != '.gif')  # as torchvision


def read_class_folders(source: Source, findings: Findings) -> Split:
    """Read class folders.

    A class is a folder in the given one; of your own data the topmost with images of its own,
    called by its path. All below it is of the class, but for hidden folders. Where an image may
    have several labels, one that is in several folders has all of them: it is the same image where
    name and content are.

    Args:
        source: Of the kind ``'folders'``.
        findings: Gets classes without a folder or image, and files that are no image.

    Raises:
        InputError: There is none.
    """
    root, add = source.folder, source.about(findings)
    try:
        known = () if source.own else inner_folders(root)
        found = _find_classes(root, source.classes or known)
    except FileNotFoundError:
        raise MissingFileError(f'{root}: not found') from None
    except OSError as error:
        raise InputError(f'{root}: cannot be read ({error.strerror or error})') from error
    if not found:
        raise InputError(
            f'{root}: no class folders in it: put the images of each class into a folder with its '
            'name, or name a label file by ann_file'
        )
    classes = source.classes or tuple(found)
    nested = [name for name in found if '/' in name and source.classes is None]
    text = f'{root}: class folders are in others: {len(nested)} classes are called by their paths, '
    add('filled-in', [f'{text}first {nested[0]!r}'] if nested else [])
    add('unknown-class', source.find_unknown(found))
    add(
        'missing-class',
        without(classes, found),
        lambda name: f'{name!r}: {suggest(name, found)}',
        len(classes),
    )
    add('folder-no-class', without(found, classes))
    files: list[str] = []
    pairs: list[tuple[int, int]] = []
    others, empty = [], []
    for label, name in sorted(enumerate(classes), key=lambda pair: pair[1]):
        inside = [
            os.path.join(os.path.relpath(place, root), file)
            for place, _, names in sorted(walk(root / name))
            for file in names
        ]
        images = [file for file in inside if file.lower().endswith(READ)]
        others += sorted({*inside} - {*images})
        if not images and name in found:
            empty.append(root / name)
        pairs += [(len(files) + i, label) for i in range(len(images))]
        files += images
    add('empty-class-folder', empty)
    add('unused-file', others)
    if source.several:
        files, pairs = _merge(source, add, files, pairs, classes)
    absent = frozenset(classes) - {classes[label] for _, label in pairs}
    return label_split(source, classes, files, pairs, absent=absent)


def _find_classes(root: Path, known: Collection[str], above: str = '') -> list[str]:
    """Return the folders of classes, relative to the root: topmost with images, or known."""
    found = []
    for name in inner_folders(root / above):
        path = os.path.join(above, name)
        whole = path in known or has_images(root / path)
        inner = [] if whole else _find_classes(root, known, path)
        found += inner if inner or above and not whole else [path]
    return found


def _merge(
    source: Source,
    add: Add,
    files: list[str],
    pairs: list[tuple[int, int]],
    classes: Sequence[str],
) -> tuple[list[str], list[tuple[int, int]]]:
    """Return the images and labels, those once that several folders have."""
    row_of: dict[str, int] = {}
    merged: list[str] = []
    more, differ = [], []
    for row, label in pairs:
        own = row_of.setdefault(os.path.relpath(files[row], classes[label]), len(merged))
        if own == len(merged):
            merged.append(files[row])
        elif not _are_same(source.folder / merged[own], source.folder / files[row]):
            differ.append(f'{merged[own]} and {files[row]}')
        more.append((own, label))
    add('same-name', differ)
    return merged, more


def _are_same(one: os.PathLike, other: os.PathLike) -> bool:
    try:
        return filecmp.cmp(one, other)
    except OSError as error:
        raise InputError(f'{other}: cannot be read ({error.strerror or error})') from error
