"""Reader of Pascal VOC: a list of images, with an XML file for each."""

import math
import os
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from ..errors import InputError, MissingFileError, shown
from .files import list_folder, read_bytes, read_lines, read_sizes
from .findings import Findings
from .split import NO_CLASS, Boxes, Source, Split, compare_sizes

SIDES = ('xmin', 'ymin', 'xmax', 'ymax')
LONGEST = 250  # bytes of a name, without its ending; file systems take 255 with it


def read_voc(source: Source, findings: Findings) -> Split:
    """Read a list of images of Pascal VOC, with an XML file each.

    VOC counts pixels from 1 and includes the last one (VOC2007 devkit, section 'Bounding box': the
    top left pixel is (1, 1)), a split measures from the image's corner at 0. So ``x = xmin - 1``,
    ``w = xmax - xmin + 1``, and the same for y: a box over a whole 640 x 480 image is
    ``1, 1, 640, 480`` there and ``[0, 0, 640, 480]`` here. A box whose corners coincide in x or y
    is a click, and has no area.

    An object marked ``difficult`` is ignored, as a crowd is: as in VOC's own evaluation it is
    neither counted as missed nor is a detection on it counted as wrong.

    Args:
        source: Of the kind ``'voc'``.
        findings: Gets what is wrong with the list, the XML files and the images' headers.

    Raises:
        InputError: The list does not exist, or is none.
    """
    add = source.about(findings)
    listed = [row.split() for row in read_lines(source.ann_file) if row.strip()]
    if not listed:
        raise InputError(f'{source.ann_file}: is empty: write a name of an image on each line')
    odd = [row for row in listed if len(row) > 1 or not _is_name(row[0])]
    add('bad-row', odd, lambda row: f'{shown(" ".join(row))}, no name of an image', len(listed))
    names = [row[0] for row in listed if row not in odd]
    twice = [name for name, count in Counter(names).items() if count > 1]
    add('repeated-row', twice, total=len(listed))

    assert source.xml_folder is not None  # of this kind
    images: dict[str, list[str]] = {}
    for file in sorted(list_folder(source.folder)):
        images.setdefault(os.path.splitext(file)[0], []).append(file)
    files: list[str] = []
    said: list[tuple[float, float]] = []  # sizes
    objects: list[tuple] = []
    named: set[str] = set()
    lost, broken = [], []
    for name in dict.fromkeys(names):
        candidates = images.get(name) or [f'{name}.jpg']
        named |= set(candidates)
        xml = source.xml_folder / f'{name}.xml'
        try:
            root = _parse(xml)
            size = _read_size(root)
        except MissingFileError:
            lost.append(xml)
            continue
        except InputError as error:
            broken.append(f'{xml}: {error}' if xml.name not in str(error) else error)
            continue
        objects += [(len(files), xml.name, *found) for found in _read_objects(root)]
        stated = (root.findtext('filename') or '').strip()
        files.append(stated if stated in candidates else candidates[0])
        said.append(size)
    add('missing-annotation', lost, total=len(names))
    add('broken-xml', broken, total=len(names))
    sizes, unreadable = read_sizes(source.folder, files, add)
    annotated = np.array(said, np.float64).reshape(-1, 2)
    differs = (annotated != sizes).any(1) & ~np.isnan(annotated + sizes).any(1)

    def compare(i: int) -> str:
        return compare_sizes(files[i], said[i], sizes[i])

    add('size-differs', differs.nonzero()[0], compare, len(files))

    rows, xmls, numbers, found, edges, difficult, faults = map(
        list, zip(*objects, strict=True) if objects else [[]] * 7
    )
    wheres = [
        f'{xml} object {number} ({name or "without name"})'
        for xml, number, name in zip(xmls, numbers, found, strict=True)
    ]
    bad = np.array([bool(fault) for fault in faults], bool)
    add('bad-object', bad.nonzero()[0], lambda i: f'{wheres[i]}: {faults[i]}', len(objects))
    own = tuple(sorted({name for name in found if name}))
    classes = source.classes or own
    add('unknown-class', source.find_unknown(own))
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number.get(name, NO_CLASS) for name in found], np.int64)
    no_class = ~bad & (labels == NO_CLASS)
    add('category-no-class', no_class.nonzero()[0], lambda i: wheres[i], len(objects))
    corners = np.array(edges, np.float64).reshape(-1, 4)
    xywh = np.hstack([corners[:, :2] - 1, corners[:, 2:] - corners[:, :2] + 1])
    click = (corners[:, 2:] <= corners[:, :2]).any(1)
    boxes = Boxes(xywh, np.where(click, 0, xywh[:, 2:].prod(1)), np.array(difficult, bool))
    at = np.array(rows, np.int64)
    split = Split(
        source,
        source.folder,
        classes,
        files,
        at,
        labels,
        wheres.__getitem__,
        np.bincount(at, minlength=len(files)) > 0,
        sizes,
        named,
        boxes=boxes,
        unreadable=unreadable,
    )
    return split.take((~bad).nonzero()[0])


def check_layout(voc_root: Path) -> None:
    """Check that a folder has VOC's three.

    Raises:
        MissingFileError: It lacks one.
    """
    for part in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        if (voc_root / part).is_dir():
            continue
        inner = sorted(found.parent for found in voc_root.glob('*/Annotations'))
        hint = f'; did you mean {inner[0]}?' if inner else ', as Pascal VOC is laid out'
        raise MissingFileError(f'{voc_root}: has no folder {part}{hint}')


def find_lists(folder: Path) -> list[Path]:
    """Return VOC's lists of images in ``ImageSets/Main``, without those of one class.

    Raises:
        InputError: There is none.
    """
    files = []
    for file in sorted(folder.glob('*.txt')):
        rows = [row.split() for row in read_lines(file) if row.strip()]
        if rows and all(len(row) == 1 for row in rows):  # lists of one class have two columns
            files.append(file)
    if not files:
        raise InputError(f'{folder}: has no list of images, such as train.txt')
    return files


def _is_name(name: str) -> bool:
    return '/' not in name and len(os.fsencode(name)) <= LONGEST


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuse document types, and with them entities that grow without end or read other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError('has a document type declaration, which annotations have no use for')


def _parse(xml: Path) -> Element:
    data = read_bytes(xml)
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'malformed XML, {error}') from None
    if root.tag != 'annotation':
        raise InputError(f'the root is <{root.tag}>, not <annotation>')
    return root


def _read_size(root: Element) -> tuple[float, float]:
    """Return width and height, NaN where the file does not say; some tools write 0 x 0 then."""
    if root.find('size') is None:
        return math.nan, math.nan
    width, height = (_read_number(root, f'size/{side}') for side in ('width', 'height'))
    return (math.nan, math.nan) if (width, height) == (0, 0) else (width, height)


def _read_number(element: Element, path: str) -> float:
    """Return the number below an element.

    Raises:
        InputError: It is missing, or no finite number.
    """
    text = element.findtext(path)
    try:
        value = float(text or '')
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f'<{path}> is {shown(text)}; it must be a number')
    return value


def _read_objects(root: Element) -> list[tuple]:
    """Return of each object its number, name, corners, whether it is difficult, and its fault."""
    objects = []
    for number, element in enumerate(root.iter('object'), 1):
        name = (element.findtext('name') or '').strip()
        difficult = element.findtext('difficult', '0').strip() not in ('', '0')
        corners, fault = [math.nan] * 4, '' if name else '<name> is empty or missing'
        try:
            corners = [_read_number(element, f'bndbox/{side}') for side in SIDES]
        except InputError as error:
            fault = fault or str(error)
        objects.append((number, name, corners, difficult, fault))
    return objects
