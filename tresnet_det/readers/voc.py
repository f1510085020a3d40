"""Reader of Pascal VOC: a list of images, with an XML file for each."""

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ..errors import InputError, MissingFileError, shown
from .files import glob, is_companion, list_all, read_bytes, read_lines, walk
from .findings import Add, Findings
from .locate import match_names, without_ending
from .named_boxes import Object, object_split
from .split import Source, Split

DIFFICULT = ('1', '1.0', 'true', 'yes')  # others are 0, False, Unspecified
SIDES = ('xmin', 'ymin', 'xmax', 'ymax')
OF_CLASS = re.compile(r'\s(1|0|-1)\s*$')  # the second column of a list of one class
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
        findings: Gets what is wrong with the list and the XML files.

    Raises:
        InputError: The list does not exist, or is none.
    """
    add = source.about(findings)
    assert source.xml_folder is not None  # of this kind
    xmls: dict[str, Path] = {}  # by name
    if source.ann_file.is_dir():  # no list: all that it has
        walked = (Path(place, f) for place, _, files in walk(source.ann_file) for f in files)
        found = [file for file in walked if file.suffix.lower() == '.xml']
        xmls = {os.path.relpath(file.with_suffix(''), source.xml_folder): file for file in found}
        names = [*xmls]
    else:
        names = _read_list(source, add)
    images = defaultdict[str, list[str]](list)  # by name without ending
    for file in list_all(source.folder):
        images[os.path.splitext(file)[0]].append(file)
    files: list[str] = []
    said: list[tuple[float, float]] = []  # sizes
    objects: list[Object] = []  # ignored where they are difficult
    filled: set[int] = set()  # images with any object, good or bad
    named: set[str] = set()
    lost, corrupt, bad = [], [], []
    for name in dict.fromkeys(names):
        candidates = images.get(name) or [f'{name}.jpg']
        named |= set(candidates)
        xml = xmls.get(name, source.xml_folder / f'{name}.xml')
        try:
            root = parse_xml(xml, 'annotation')
            size = _read_size(root)
        except MissingFileError:
            lost.append(xml)
            continue
        except InputError as error:
            corrupt.append(f'{xml}: {error}' if xml.name not in str(error) else error)
            continue
        for number, element in enumerate(root.iter('object'), 1):
            filled.add(len(files))
            label = (element.findtext('name') or '').strip()
            where = f'{xml.name} object {number} ({label or "without name"})'
            try:
                objects.append((len(files), where, *_read_object(element, label)))
            except InputError as error:
                bad.append(f'{where}: {error}')
        stated = os.path.join(os.path.dirname(name), (root.findtext('filename') or '').strip())
        files.append(stated if stated in candidates else candidates[0])
        said.append(size)
    add('missing-annotation', lost, total=len(names))
    add('corrupt-xml', corrupt, total=len(names))
    return object_split(source, add, files, said, objects, bad, filled, named, last=1)


def _read_list(source: Source, add: Add) -> list[str]:
    """Return the names on a list of images."""
    listed = [row.strip() for row in read_lines(source.ann_file) if row.strip()]
    if not listed:
        raise InputError(f'{source.ann_file}: is empty: write a name of an image on each line')
    # CVAT puts names with spaces into quotes.
    listed = [r[1:-1] if len(r) > 2 and r[0] == r[-1] == '"' else r for r in listed]
    meant = _match_rows(source, listed) if source.fills_in else {}
    if meant:
        (row, name), *_ = meant.items()
        text = f'{len(meant)} rows are paths or have endings, first {row!r} is {name!r}'
        add('filled-in', [f'{source.ann_file}: {text}'])
        listed = [meant.get(row, row) for row in listed]
    odd = {row for row in listed if not _is_name(row) or OF_CLASS.search(row)}

    def describe(row: str) -> str:
        return f'{shown(" ".join(row.split()))}, no name of an image'

    add('bad-row', [row for row in listed if row in odd], describe, len(listed))
    names = [row for row in listed if row not in odd and not is_companion(row)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    add('repeated-row', twice, total=len(listed))
    return names


def _match_rows(source: Source, rows: Sequence[str]) -> dict[str, str]:
    """Return which XML file is meant, without its ending, by rows that are no names of images."""
    root, known = str(source.xml_folder), {*rows}
    lost = [row for row in dict.fromkeys(rows) if not os.path.isfile(f'{root}/{row}.xml')]
    if not lost:
        return {}
    found = (os.path.join(place, name) for place, _, names in walk(root) for name in names)
    stems = [os.path.relpath(file[:-4], root) for file in found if file.lower().endswith('.xml')]
    free = [stem for stem in stems if stem not in known]
    meant, _ = match_names([without_ending(row) for row in lost], free, source.role)
    return {lost[i]: stem for i, stem in meant.items()}


def find_lists(folder: Path) -> list[Path]:
    """Return VOC's lists of images in ``ImageSets/Main``, without those of one class.

    Raises:
        InputError: There is none.
    """
    files = []
    for file in glob(folder, '*.txt'):
        rows = [row for row in read_lines(file) if row.strip()]
        if rows and not all(map(OF_CLASS.search, rows)):
            files.append(file)
    if not files:
        raise InputError(f'{folder}: has no list of images, such as train.txt')
    return files


def _is_name(name: str) -> bool:
    parts = name.split('/')
    return all(p not in ('', '.', '..') and len(os.fsencode(p)) <= LONGEST for p in parts)


class _Annotation(ElementTree.TreeBuilder):
    """Refuse document types, and with them entities that grow without end or read other files.

    Names of elements count in any case.
    """

    def start(self, tag: str, attrs: dict) -> Element:
        return super().start(tag.lower(), attrs)

    def end(self, tag: str) -> Element:
        return super().end(tag.lower())

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError('has a document type declaration, which annotations have no use for')


def parse_xml(xml: Path, tag: str) -> Element:
    """Return the root of an XML file; names of elements are in small letters.

    Raises:
        InputError: It cannot be read, is malformed, or its root has another name than ``tag``.
    """
    data = read_bytes(xml)
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_Annotation()))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'malformed XML, {error}') from None
    if root.tag != tag:
        raise InputError(f'the root is <{root.tag}>, not <{tag}>')
    return root


def _read_size(root: Element) -> tuple[float, float]:
    """Return width and height, NaN where the file does not say; some tools write 0 x 0 then."""
    if not any((root.findtext(f'size/{side}') or '').strip() for side in ('width', 'height')):
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


def _read_object(element: Element, name: str) -> tuple[str, list[float], bool]:
    """Return an object's name, corners, and whether it is difficult.

    Raises:
        InputError: It lacks a name or a corner.
    """
    if not name:
        raise InputError('<name> is empty or missing')
    corners = [_read_number(element, f'bndbox/{side}') for side in SIDES]
    return name, corners, element.findtext('difficult', '0').strip().lower() in DIFFICULT
