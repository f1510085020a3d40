"""Readers of CSV files and of label lists: the labels of an image in a row."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError, few, shown
from .files import SUFFIXES, is_companion, read_ends, read_lines, read_text
from .findings import Add, Findings, suggest, without
from .split import Source, Split

LIST_HEADERS = ('label', 'labels', 'tag', 'tags', 'class', 'classes')
SEPARATORS = (r'\|', ',', '[/&+、]', r'\s')  # of labels, but for the semicolon
SURE = SEPARATORS[:2]  # hardly ever in a name
VALUES = {'1': 1, '0': 0, '-1': -1, '1.0': 1, '0.0': 0, '-1.0': -1, 'true': 1, 'false': 0}
LISTED = re.compile(r'\[(.*)\]')
LONGEST_HEADER = 1 << 16  # letters
MOST_DIGITS = 6  # of a class number: nobody has a million classes

# Names of columns, in small letters and digits alone; the first that there is counts.
COLUMNS = {
    'file': ('imageid', 'filename', 'file', 'image', 'imagename', 'path', 'imagepath', 'filepath'),
    'label': ('labelname', 'class', 'label', 'classname', 'category', 'name'),
    'left': ('xmin', 'x1', 'left', 'bboxx', 'bboxleft', 'x'),
    'top': ('ymin', 'y1', 'top', 'bboxy', 'bboxtop', 'y'),
    'right': ('xmax', 'x2', 'right'),
    'bottom': ('ymax', 'y2', 'bottom'),
    'centre x': ('xcenter', 'centerx', 'xcentre', 'xc', 'cx'),
    'centre y': ('ycenter', 'centery', 'ycentre', 'yc', 'cy'),
    'across': ('w', 'bboxw', 'bboxwidth', 'boxwidth', 'width'),
    'down': ('h', 'bboxh', 'bboxheight', 'boxheight', 'height'),
    'image width': ('imagewidth', 'imgwidth', 'width'),
    'image height': ('imageheight', 'imgheight', 'height'),
}
AXES = (('left', 'right', 'centre x', 'across'), ('top', 'bottom', 'centre y', 'down'))

Rows = list[tuple[int, list[str]]]  # each with its number in the file


def read_csv(source: Source, findings: Findings) -> Split:
    """Read a CSV file in one of two forms, told apart by its header.

    ``file,label`` with the labels of an image separated by semicolons: ``a.jpg,cat;dog``. Or
    ``file,cat,dog``, a column for each class, with 1, 0 or -1, unknown, in it. What the first
    column is called makes no difference. Where the classes are given, other columns are skipped,
    and other labels must not occur.

    Args:
        source: Of the kind ``'csv'``: in UTF-8, see :func:`find_separator`.
        findings: Gets what is wrong with rows and labels.

    Raises:
        InputError: The file does not exist, or is none.
    """
    file, add = source.ann_file, source.about(findings)
    header, rows = _read_table(file)

    def count(row: tuple[int, list[str]]) -> str:
        return f'{file.name}:{row[0]}: {len(row[1])} cells where the header has {len(header)}'

    add('bad-row', [row for row in rows if len(row[1]) != len(header)], count, len(rows))
    good = _drop_repeated(source, add, [row for row in rows if len(row[1]) == len(header)])
    if len(header) == 2 and header[1].lower() in LIST_HEADERS:
        cells = [_part(row[1], ';') for _, row in good]
        return _from_names(source, add, good, _part_labels(source, add, cells))
    return _from_columns(source, add, header[1:], good)


def _part_labels(source: Source, add: Add, cells: list[list[str]]) -> list[list[str]]:
    """Return the labels of each row, those apart that are joined by another separator.

    They are where each part is a class of its own elsewhere, or it is a list as Python writes it;
    what else has such a separator in it is taken as one class, with a warning: of spaces and the
    like, where one part is a class, or all are parts of other labels.
    """
    labels = {label for row in cells for label in row}
    given = {*(source.classes or ())}
    known = labels if source.classes is None else given
    joined: dict[str, list[str]] = {}
    doubtful = []
    split = {label: [(by, _part(label, by)) for by in SEPARATORS] for label in labels - given}
    counts = Counter(part for ways in split.values() for _, parts in ways for part in {*parts})
    for label in sorted(split):
        if listed := LISTED.fullmatch(label):
            joined[label] = [part.strip('\'" ') for part in _part(listed[1], ',')]
            continue
        for by, parts in split[label]:
            if len(parts) > 1 and {*parts} <= known:
                joined[label] = parts
                break
            shared = {*parts} & known or min(counts[part] for part in parts) > 1
            if len(parts) > 1 and (by in SURE or shared):
                doubtful.append(label)
                break
    if joined:
        count = sum(label in joined for row in cells for label in row)
        first = next(iter(joined))
        text = f'{count} cells have several labels, first {first!r}: read as {few(joined[first])}'
        add('filled-in', [f'{source.ann_file}: {text}'])
    add('joined-labels', doubtful, repr)
    return [[part for label in row for part in joined.get(label, [label])] for row in cells]


def _part(text: str, by: str) -> list[str]:
    """Return the parts of a text between what matches a pattern."""
    return [part for part in map(str.strip, re.split(by, text)) if part]


def find_separator(header: str) -> str:
    """Return what parts the cells: Excel writes semicolons where numbers have a comma."""
    return next((mark for mark in ',;\t' if mark in header), ',')


def read_header(file: Path) -> list[str]:
    """Return the names of a CSV file's columns, of small letters and digits alone."""
    lines = read_ends(file).decode('utf-8-sig', 'replace').splitlines()
    line = next(filter(str.strip, lines), '')[:LONGEST_HEADER]
    try:
        header = next(csv.reader([line], delimiter=find_separator(line)), [])
    except csv.Error:  # who reads it will say what is wrong
        return []
    return [re.sub(r'[\W_]', '', cell.lower()) for cell in header]


def find_columns(header: Sequence[str]) -> dict[str, int] | None:
    """Return where a CSV file has the columns of boxes, None where it has none.

    A box is from one side to the other, or begins at one, or at its centre, and is so large.
    """
    found = {
        key: header.index(name)
        for key, names in COLUMNS.items()
        for name in reversed(names)
        if name in header
    }
    for low, high, centre, extent in AXES:
        if {low, high} <= found.keys():
            found.pop(extent, None)
        elif extent not in found or not {low, centre} & found.keys():
            return None
    if not {'file', 'label'} <= found.keys():
        return None
    lengths = {found.get('across'), found.get('down')}  # not of the image
    return {k: i for k, i in found.items() if not k.startswith('image ') or i not in lengths}


def read_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file that are not blank, each with its number in the file.

    Raises:
        MissingFileError: It does not exist.
        InputError: It is no text, or no CSV.
    """
    text = read_text(file)
    separator = find_separator(text.lstrip()[:LONGEST_HEADER].partition('\n')[0])
    reader = csv.reader(io.StringIO(text, newline=''), strict=True, delimiter=separator)
    try:
        yield from ((reader.line_num, row) for row in reader if any(map(str.strip, row)))
    except csv.Error as error:
        raise InputError(f'{file}:{reader.line_num}: no CSV ({error}): fix the row') from error


def _read_table(file: Path) -> tuple[list[str], Rows]:
    """Return the header of a CSV file, and its rows that are not blank.

    Raises:
        MissingFileError: It does not exist.
        InputError: It is no text, no CSV, or has no header or rows.
    """
    rows = [*read_rows(file)]
    if not rows:
        raise InputError(f"{file}: empty: write a header 'file,label' and a row per image")
    header = [cell.strip() for cell in rows.pop(0)[1]]
    if len(header) < 2 or header[0].lower().endswith(SUFFIXES):
        raise InputError(
            f'{file}:1: no header but {",".join(header)[:60]!r}: begin the file with '
            "'file,label', labels separated by ';', or with 'file,' and a column for each class"
        )
    if '' in header[1:]:
        raise InputError(f'{file}:1: column {header.index("", 1) + 1} has no name: give it one')
    if not rows:
        raise InputError(f'{file}: no image after the header: write one on each row')
    return header, rows


def read_list(source: Source, findings: Findings) -> Split:
    """Read a label list, ``NAME LABEL`` on each line.

    A name may have spaces in it. The labels are class names or, where not all of them are, class
    numbers from 0. Without classes, they are the labels, sorted; or where all of these are
    numbers, one for each number up to the highest.

    Args:
        source: Of the kind ``'list'``.
        findings: Gets what is wrong with lines and labels.

    Raises:
        InputError: The file does not exist, or is none.
    """
    file, add = source.ann_file, source.about(findings)
    lines = read_lines(file)
    if not any(map(str.strip, lines)):
        raise InputError(f'{file}: the label list is empty: write "NAME LABEL" on each line')
    rows = [(n, line.strip().rsplit(maxsplit=1)) for n, line in enumerate(lines, 1) if line.strip()]

    def describe(row: tuple[int, list[str]]) -> str:
        return f'{file.name}:{row[0]}: {shown(row[1][0])} is not of the form "NAME LABEL"'

    add('bad-row', [row for row in rows if len(row[1]) < 2], describe, len(rows))
    rows = _drop_repeated(source, add, [row for row in rows if len(row[1]) == 2])
    classes, labels = source.classes, [row[1] for _, row in rows]
    # Numbers count the classes, unless these are called so.
    if labels and all(label.isdecimal() for label in labels):
        if classes is None:
            counts = [int(label) for label in labels if len(label) <= MOST_DIGITS]
            classes = tuple(str(number) for number in range(max(counts, default=0) + 1))
        elif not any(name.isdecimal() for name in classes):
            names = {str(i): name for i, name in enumerate(classes)}
            labels = [names.get(label, label) for label in labels]
    return _from_names(source, add, rows, [[label] for label in labels], classes)


def _drop_repeated(source: Source, add: Add, rows: Rows) -> Rows:
    """Keep the first row of each image, none of companion files."""
    first: dict[str, tuple[int, list[str]]] = {}
    again = []
    for number, row in rows:
        name = row[0].strip()
        if is_companion(name):
            continue
        if name in first:
            place = f'{source.ann_file.name}:{number}'
            again.append(f'{place}: {shown(name)} was in row {first[name][0]} already')
        else:
            first[name] = (number, [name, *row[1:]])
    add('repeated-row', again, total=len(rows))
    return list(first.values())


def _from_names(
    source: Source,
    add: Add,
    rows: Rows,
    cells: list[list[str]],
    classes: Sequence[str] | None = None,
) -> Split:
    """Return a split whose labels are names."""
    classes = classes or source.classes
    if classes is None:
        classes = tuple(sorted({label for labels in cells for label in labels}))
    number = {name: i for i, name in enumerate(classes)}
    pairs = [(i, label) for i, labels in enumerate(cells) for label in dict.fromkeys(labels)]
    wrong = [(i, label) for i, label in pairs if label not in number]

    def describe(pair: tuple[int, str]) -> str:
        i, label = pair
        counted = label.isdecimal() and not any(name.isdecimal() for name in number)
        hint = f'numbers go from 0 to {len(number) - 1}' if counted else suggest(label, [*number])
        return f'{source.ann_file.name}:{rows[i][0]}: {shown(label)} is no class; {hint}'

    add('bad-label', wrong, describe, len(pairs))
    good = [(i, number[label]) for i, label in pairs if label in number]
    return label_split(source, classes, [row[0] for _, row in rows], good, wrong)


def _from_columns(source: Source, add: Add, header: list[str], rows: Rows) -> Split:
    """Return a split with a column for each class."""
    classes = source.classes or tuple(dict.fromkeys(header))
    column = {name: i for i, name in reversed([*enumerate(header, 1)])}
    known = {*classes}
    twice = [name for name, count in Counter(header).items() if count > 1 and name in known]
    add('duplicate-category', twice, 'column {!r}'.format)
    missing = without(classes, column)
    add('missing-class', missing, lambda name: f'{name!r}: {suggest(name, header)}', len(classes))
    places = {label: column[n] for label, n in enumerate(classes) if n in column}
    pairs, wrong, unknown = [], [], []
    for i, (number, row) in enumerate(rows):
        for label, place in places.items():
            text = row[place].strip()
            value = VALUES.get(text.lower())
            if value is None:
                where = f'{source.ann_file.name}:{number}: {classes[label]!r} is {shown(text)}'
                hint = "; or call the only column 'label'" if len(header) == 1 else ''
                wrong.append((i, where + hint))
            elif value == 1:
                pairs.append((i, label))
            elif value == -1:
                unknown.append((i, label))
    add('bad-label', wrong, lambda pair: pair[1], len(rows) * len(places))
    files = [row[0] for _, row in rows]
    return label_split(source, classes, files, pairs, wrong, unknown, frozenset(missing))


def label_split(
    source: Source,
    classes: Sequence[str],
    files: list[str],
    pairs: Sequence[tuple[int, int]],
    wrong: Sequence[tuple[int, str]] = (),
    unknown: Sequence[tuple[int, int]] = (),
    absent: frozenset[str] = frozenset(),
) -> Split:
    """Return a split of labels.

    Args:
        source: Where it is from.
        classes: Their names.
        files: The images.
        pairs: An image and its class, for each label.
        wrong: Images with a label that is none.
        unknown: An image and a class, where it is not known.
        absent: Classes without a folder or column.
    """
    rows, labels = np.array(pairs, np.int64).reshape(-1, 2).T
    annotated = np.zeros(len(files), bool)
    annotated[rows] = annotated[[i for i, _ in wrong]] = True
    return Split(
        source,
        source.folder,
        tuple(classes),
        files,
        rows,
        labels,
        lambda i: files[rows[i]],
        annotated,
        np.full((len(files), 2), np.nan),
        files,
        unknown=np.array(unknown, np.int64).reshape(-1, 2),
        absent=absent,
    )
