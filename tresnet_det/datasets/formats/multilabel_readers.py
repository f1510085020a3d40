"""Readers of several labels per image, from COCO's JSON, CSV and folders; no images are opened.

Each returns the image files, relative to their folder, ``(N, classes)`` of int8 with 1 for there,
0 for not there and -1 for unknown, and the names of the classes.
"""

import csv
import filecmp
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import InputError, MissingFileError, shown
from ..classification import check_image_files, check_repeats, find_class_images, suggest
from .coco_content import check_category_names, check_images, check_references, read_instances
from .text_files import read_text

Labels = tuple[list[str], np.ndarray, tuple[str, ...]]

LIST_HEADERS = ('label', 'labels')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm', '.gif')
VALUES = {'1': 1, '0': 0, '-1': -1, '1.0': 1, '0.0': 0, '-1.0': -1}


def read_coco(ann_file: Path, folder: Path, classes: Sequence[str] | None) -> Labels:
    """Read which categories are annotated in each image of a COCO instances file.

    As in the published protocol, a category is there when any annotation of it is, a crowd too.

    Args:
        ann_file: Instances JSON.
        folder: Holds the images.
        classes: The categories that are taken, in the order of the labels; None for all of the
            file's in its order.

    Raises:
        MissingFileError: The file or an image is not there.
        InputError: It is no instances file, contradicts itself, or lacks one of ``classes``.
    """
    if not ann_file.is_file():
        raise MissingFileError(f'annotation file {ann_file.absolute()} is not there: set ann_file')
    content = read_instances(ann_file, test_mode=False)
    images, categories = content['images'], content['categories']
    check_images(ann_file, images)
    check_category_names(ann_file, categories)
    names = [image['file_name'] for image in images]
    known = [category['name'] for category in categories]
    classes = _choose(ann_file, known, classes, 'category')
    columns = {name: column for column, name in enumerate(classes)}
    column_of = {category['id']: columns.get(category['name']) for category in categories}
    row_of = {image['id']: row for row, image in enumerate(images)}
    check_references(ann_file, content['annotations'], 'image_id', row_of)
    check_references(ann_file, content['annotations'], 'category_id', column_of)
    labels = np.zeros((len(images), len(classes)), np.int8)
    for annotation in content['annotations']:
        column = column_of[annotation['category_id']]
        if column is not None:
            labels[row_of[annotation['image_id']], column] = 1
    check_image_files(folder, names, str(ann_file))
    return names, labels, classes


def read_csv(ann_file: Path, folder: Path, classes: Sequence[str] | None) -> Labels:
    """Read a CSV file in one of two forms, told apart by its header.

    ``file,label`` with the labels of an image separated by semicolons: ``a.jpg,cat;dog``. Or
    ``file,cat,dog``, a column for each class, with 1, 0 or -1 in it. What the first column is
    called makes no difference.

    Args:
        ann_file: The file, in UTF-8, with a header, separated by commas.
        folder: Holds the images.
        classes: Names in the order of the labels. None takes the columns in their order, or all
            labels that occur, sorted. Columns that are not among them are left out; labels must
            not occur.

    Raises:
        MissingFileError: The file or an image is not there.
        InputError: There is no header, or a row is none.
    """
    rows = read_rows(ann_file)
    header = [cell.strip() for cell in rows.pop(0)[1]]
    if len(header) < 2 or header[0].lower().endswith(SUFFIXES):
        raise InputError(
            f'{ann_file}:1: no header but {",".join(header)[:60]!r}: begin the file with '
            "'file,label', labels separated by ';', or with 'file,' and a column for each class"
        )
    if not rows:
        raise InputError(f'{ann_file}: no image after the header: write one on each row')
    for number, row in rows:
        if len(row) != len(header):
            raise InputError(
                f'{ann_file}:{number}: {len(row)} cells where the header has {len(header)}: '
                "separate by commas, labels in one cell by ';'"
            )
    names, numbers = [row[0].strip() for _, row in rows], [number for number, _ in rows]
    check_repeats(ann_file, names, numbers)
    cells = [(number, row[1:]) for number, row in rows]
    if len(header) == 2 and header[1].lower() in LIST_HEADERS:
        labels, classes = _read_lists(ann_file, cells, classes)
    else:
        labels, classes = _read_columns(ann_file, header[1:], cells, classes)
    check_image_files(folder, names, str(ann_file), numbers)
    return names, labels, classes


def read_folders(folder: Path, classes: Sequence[str] | None) -> Labels:
    """Read a folder for each class; an image in several of them has all their labels.

    It is the same image where name and content are; one of them is read.

    Args:
        folder: Holds the class folders.
        classes: Their names in the order of the labels; None for all, sorted.

    Raises:
        InputError: A class has no image, or different images have the same name.
    """
    paths, numbers, classes = find_class_images(folder, classes)
    row_of: dict[str, int] = {}
    names: list[str] = []
    pairs: list[tuple[int, int]] = []
    for path, number in zip(paths, numbers, strict=True):
        key = path.partition('/')[2]
        row = row_of.setdefault(key, len(names))
        if row == len(names):
            names.append(path)
        elif not filecmp.cmp(folder / names[row], folder / path):
            raise InputError(
                f'{folder.absolute()}: {names[row]} and {path} have the same name and are '
                'different images: rename one (the same name is one image with several labels)'
            )
        pairs.append((row, number))
    labels = np.zeros((len(names), len(classes)), np.int8)
    labels[tuple(np.array(pairs).T)] = 1
    return names, labels, classes


def read_rows(ann_file: Path) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file that are not blank, each with its number in the file, from 1.

    Raises:
        MissingFileError: It is not there.
        InputError: It is empty, no CSV or no text.
    """
    if not ann_file.is_file():
        raise MissingFileError(f'label file {ann_file.absolute()} is not there: set ann_file')
    reader = csv.reader(io.StringIO(read_text(ann_file), newline=''), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f'{ann_file}:{reader.line_num}: no CSV ({error}): mend the row') from error
    if not rows:
        raise InputError(f"{ann_file}: empty: write a header 'file,label' and a row per image")
    return rows


def _read_lists(
    ann_file: Path, cells: list[tuple[int, list[str]]], classes: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    lists = [[part.strip() for part in row[0].split(';') if part.strip()] for _, row in cells]
    if classes is None:
        classes = sorted({label for part in lists for label in part})
    columns = {name: column for column, name in enumerate(classes)}
    labels = np.zeros((len(cells), len(classes)), np.int8)
    for i, ((number, _), part) in enumerate(zip(cells, lists, strict=True)):
        for label in part:
            if label not in columns:
                raise InputError(
                    f'{ann_file}:{number}: the label {shown(label)} is no class of '
                    'metainfo.classes: ' + suggest(label, classes)
                )
            labels[i, columns[label]] = 1
    return labels, tuple(classes)


def _read_columns(
    ann_file: Path,
    header: list[str],
    cells: list[tuple[int, list[str]]],
    classes: Sequence[str] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    classes = _choose(ann_file, header, classes, 'column')
    places = [header.index(name) for name in classes]
    labels = np.zeros((len(cells), len(classes)), np.int8)
    for i, (number, row) in enumerate(cells):
        for column, place in enumerate(places):
            value = row[place].strip()
            if value not in VALUES:
                raise InputError(
                    f'{ann_file}:{number}: {header[place]!r} is {shown(value)}; it must be 1, 0 or '
                    "-1 for unknown (or call the only column 'label', and separate labels by ';')"
                )
            labels[i, column] = VALUES[value]
    return labels, classes


def _choose(
    ann_file: Path, known: list[str], classes: Sequence[str] | None, what: str
) -> tuple[str, ...]:
    """Return the classes, after a look at whether the file has each once."""
    classes = tuple(known if classes is None else classes)
    for name in classes:
        if known.count(name) != 1:
            problem = f'{known.count(name)} times a' if name in known else 'no'
            raise InputError(
                f'{ann_file}: has {problem} {what} {shown(name)}: '
                + ('rename one' if name in known else suggest(name, known))
            )
    return classes
