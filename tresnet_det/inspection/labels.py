"""Readers of labels for the check of data: CSV, label lists, class folders, fault after fault.

Unlike the readers that train, they leave out what is no good, note it, and go on.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..datasets.formats.folders import inner_folders, walk
from ..datasets.formats.multilabel_readers import (
    LIST_HEADERS,
    SUFFIXES,
    VALUES,
    read_csv,
    read_rows,
)
from ..datasets.formats.text_files import read_lines
from ..datasets.image_folder import MOST_DIGITS
from ..errors import InputError
from .findings import Findings
from .sources import Source, Split, find_folder

Rows = list[tuple[int, list[str]]]  # each with its number in the file


def read_csv_split(source: Source, findings: Findings) -> Split | None:
    """Read a CSV file of `MultiLabelDataset`; None where it is none.

    Args:
        source: Of the kind ``'csv'``.
        findings: Gets what is wrong with rows and labels.
    """
    file = source.ann_file
    try:
        rows = read_rows(file)
        header = [cell.strip() for cell in rows[0][1]]
        if len(header) < 2 or header[0].lower().endswith(SUFFIXES) or len(rows) < 2:
            read_csv(file, file.parent, source.classes)  # says what is wrong
    except (InputError, OSError) as error:
        findings.add(source.name, 'unreadable-annotations', [str(error)])
        return None
    good = [(number, row) for number, row in rows[1:] if len(row) == len(header)]
    wrong = [(number, row) for number, row in rows[1:] if len(row) != len(header)]
    findings.add(source.name, 'bad-row', wrong, lambda row: f'{file}:{row[0]}', len(rows) - 1)
    good = _drop_repeated(source, findings, good)
    if len(header) == 2 and header[1].lower() in LIST_HEADERS:
        cells = [[part.strip() for part in row[1].split(';') if part.strip()] for _, row in good]
        return _from_names(source, findings, good, cells)
    return _from_columns(source, findings, header[1:], good)


def read_list_split(source: Source, findings: Findings) -> Split | None:
    """Read a label list of `ImageFolderDataset`, ``NAME LABEL`` on each line; None for no text.

    Args:
        source: Of the kind ``'list'``.
        findings: Gets what is wrong with lines and labels.
    """
    file = source.ann_file
    try:
        lines = read_lines(file)
    except InputError as error:
        findings.add(source.name, 'unreadable-annotations', [str(error)])
        return None
    rows = [(n, line.strip().rsplit(maxsplit=1)) for n, line in enumerate(lines, 1) if line.strip()]
    wrong = [number for number, row in rows if len(row) < 2]
    findings.add(source.name, 'bad-row', wrong, lambda number: f'{file}:{number}', len(rows))
    rows = _drop_repeated(source, findings, [row for row in rows if len(row[1]) == 2])
    classes, labels = source.classes, [row[1] for _, row in rows]
    # Numbers count the classes, unless these are called so.
    if labels and all(label.isdecimal() for label in labels):
        if classes is None:
            counts = [int(label) for label in labels if len(label) <= MOST_DIGITS]
            classes = tuple(str(number) for number in range(max(counts, default=0) + 1))
        elif not any(name.isdecimal() for name in classes):
            names = dict(enumerate(classes))
            labels = [names.get(int(label), label) for label in labels]
    return _from_names(source, findings, rows, [[label] for label in labels], classes)


def read_folders_split(source: Source, findings: Findings) -> Split | None:
    """Read class folders, as torchvision's ``ImageFolder`` does; None where there is none.

    Args:
        source: Of the kind ``'folders'``.
        findings: Gets classes without a folder or image, and files that are no image.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    root = source.folder
    if not root.is_dir():
        findings.add(source.name, 'missing-folder', [str(root)])
        return None
    found = inner_folders(root)
    if not found:
        findings.add(source.name, 'unreadable-annotations', [f'{root}: no class folders in it'])
        return None
    classes = source.classes or tuple(found)
    findings.add(
        source.name,
        'missing-class',
        [c for c in classes if c not in set(found)],
        repr,
        len(classes),
    )
    files, labels = [], []
    others = [f'{name}/' for name in found if name not in set(classes)]
    for label, name in enumerate(classes):
        inside = [
            os.path.relpath(os.path.join(place, file), root)
            for place, _, names in sorted(walk(root / name))
            for file in sorted(names)
        ]
        images = [file for file in inside if file.lower().endswith(IMG_EXTENSIONS)]
        others += sorted({f for f in inside if not os.path.basename(f).startswith('.')} - {*images})
        if not images and name in found:
            findings.add(source.name, 'empty-class-folder', [str(root / name)])
        files += images
        labels += [label] * len(images)
    findings.add(source.name, 'unused-file', others)
    empty = frozenset(classes) - {classes[label] for label in labels}
    return _split(source, root, classes, files, range(len(files)), labels, absent=empty)


def _drop_repeated(source: Source, findings: Findings, rows: Rows) -> Rows:
    """Keep the first row of each image."""
    first: dict[str, tuple[int, list[str]]] = {}
    again = []
    for number, row in rows:
        name = row[0].strip()
        if name in first:
            again.append(f'{source.ann_file}:{number}: {name} (row {first[name][0]} already)')
        else:
            first[name] = (number, [name, *row[1:]])
    findings.add(source.name, 'repeated-row', again, total=len(rows))
    return list(first.values())


def _from_names(
    source: Source,
    findings: Findings,
    rows: Rows,
    cells: list[list[str]],
    classes: Sequence[str] | None = None,
) -> Split:
    """Return a split whose labels are names."""
    files = [row[0] for _, row in rows]
    classes = classes or source.classes
    if classes is None:
        classes = tuple(sorted({label for labels in cells for label in labels}))
    number = {name: i for i, name in enumerate(classes)}
    pairs = [(i, label) for i, labels in enumerate(cells) for label in dict.fromkeys(labels)]
    wrong = [(i, label) for i, label in pairs if label not in number]
    findings.add(
        source.name,
        'bad-label',
        wrong,
        lambda pair: f'{source.ann_file}:{rows[pair[0]][0]}: {pair[1]!r}',
        len(pairs),
    )
    good = [(i, number[label]) for i, label in pairs if label in number]
    objects, labels = zip(*good, strict=True) if good else ((), ())
    folder = find_folder(source, files, findings)
    return _split(source, folder, classes, files, objects, labels, [i for i, _ in wrong])


def _from_columns(source: Source, findings: Findings, header: list[str], rows: Rows) -> Split:
    """Return a split with a column for each class."""
    files = [row[0] for _, row in rows]
    twice = [name for name, count in Counter(header).items() if count > 1]
    findings.add(source.name, 'duplicate-category', twice, 'column {!r}'.format)
    classes = source.classes or tuple(dict.fromkeys(header))
    missing = [name for name in classes if name not in header]
    findings.add(source.name, 'missing-class', missing, repr, len(classes))
    objects, labels, wrong = [], [], []
    for label, name in enumerate(classes):
        if name not in header:
            continue
        place = 1 + header.index(name)
        for i, (number, row) in enumerate(rows):
            value = VALUES.get(row[place].strip())
            if value is None:
                wrong.append((i, f'{source.ann_file}:{number}: {name!r} is {row[place].strip()!r}'))
            elif value == 1:
                objects.append(i)
                labels.append(label)
    findings.add(source.name, 'bad-label', wrong, lambda pair: pair[1], len(rows))
    folder, faulty = find_folder(source, files, findings), [i for i, _ in wrong]
    return _split(source, folder, classes, files, objects, labels, faulty, frozenset(missing))


def _split(
    source: Source,
    folder: Path,
    classes: Sequence[str],
    files: list[str],
    rows: Sequence[int],
    labels: Sequence[int],
    faulty: Sequence[int] = (),
    absent: frozenset[str] = frozenset(),
) -> Split:
    """Return a split of labels.

    Args:
        source: Where it is from.
        folder: Of the images.
        classes: Their names.
        files: The images.
        rows: The image of each label.
        labels: Class numbers.
        faulty: Images with a label that is none.
        absent: Classes without a folder or column.
    """
    images = np.array(rows, np.int64)
    annotated = np.zeros(len(files), bool)
    annotated[images] = annotated[list(faulty)] = True
    sizes = np.full((len(files), 2), np.nan)
    return Split(
        source,
        folder,
        tuple(classes),
        files,
        sizes,
        images,
        np.array(labels, np.int64),
        lambda i: files[images[i]],
        set(files),
        annotated,
        absent,
    )
