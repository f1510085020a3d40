"""Readers of labelling tools' own files: LabelMe, VIA, CVAT, Datumaro, Supervisely, CSV of boxes.

Each has a function that yields images with their objects as points, from what is in a file;
`read_export` makes boxes of them. Outlines become the boxes around them.
"""

import base64
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from ..errors import InputError, shown
from ..files import opened
from .csv import AXES, COLUMNS, find_columns, read_header, read_rows
from .files import glob, is_companion, list_all, read_ends, read_json, walk
from .findings import Findings, is_text
from .locate import without_ending
from .masks import find_mask_fault
from .named_boxes import Object, object_split
from .split import Source, Split, role_of
from .voc import parse_xml

KEYS = re.compile(rb'"(\w+)"\s*:')  # of JSON
LARGEST_BITMAP = 1 << 26  # bytes
VIA_PARTS = ('region_shape_attributes', 'region_attributes')
VIA_CLASS = (*COLUMNS['label'], 'type', 'object', 'species')
VIA_COLUMNS = {'filename', 'regionshapeattributes', 'regionattributes'}
CVAT_SHAPES = ('box', 'polygon', 'polyline', 'points', 'ellipse', 'mask')

# An image's name, width and height (NaN where not said), and its objects' classes and points.
Record = tuple[str, tuple[float, float], list[tuple[str, Any]]]


def tool_of(file: Path) -> str | None:
    """Return the kind of `TOOLS` that a JSON, XML or CSV file is of; None for others."""
    if file.suffix.lower() == '.csv':
        header = read_header(file)
        kind = 'boxes' if find_columns(header) else None
        return 'via_csv' if {*header} >= VIA_COLUMNS else kind
    text = read_ends(file)
    if file.suffix.lower() == '.xml':
        return 'cvat' if b'<annotations>' in text and b'<image ' in text else None
    keys = {*KEYS.findall(text)}
    words = {kind: {key.encode() for key in tool.keys} for kind, tool in TOOLS.items()}
    return next((kind for kind, needed in words.items() if needed and needed <= keys), None)


def read_export(source: Source, findings: Findings) -> Split:
    """Read the files of a labelling tool.

    Args:
        source: Of a kind of `TOOLS`; its ``ann_file`` is a file, or the folder of all files.
        findings: Gets what is wrong with files and objects.

    Raises:
        InputError: The one file of a split is none.
    """
    add = source.about(findings)
    corrupt, records, called = [], list[Record](), dict[str, Path]()
    tool, others = TOOLS[source.kind], []
    for file in _list_files(source):
        try:
            for record in [_checked(file, *record) for record in tool.parse(file, source)]:
                records.append(record)
                called[record[0]] = file.with_suffix('')
        except InputError as error:
            corrupt.append(str(error))
        except KeyError as error:
            of_tool = any(f'"{key}"'.encode() in read_ends(file) for key in tool.keys)
            if tool.per_image and not of_tool:
                others.append(file)
            else:
                corrupt.append(f'{file}: has no {error}')
        except Exception as error:  # zlib's and Pillow's too
            corrupt.append(f'{file}: {type(error).__name__}: {error}')
    if not records:
        raise InputError(corrupt[0] if corrupt else f'{source.ann_file}: has no image')
    add('corrupt-export', corrupt, total=len(corrupt) + len(records))
    add('unused-file', others)
    own = _find_renamed(source, called) if tool.per_image else {}
    rows: dict[str, int] = {}  # by image: a CSV has one in several rows
    counts: Counter[str] = Counter()
    sizes: list[tuple[float, float]] = []
    objects, bad, filled = list[Object](), list[str](), set[int]()
    for stated, size, things in records:
        name = own.get(stated, stated)
        if is_companion(name):
            continue
        if name not in rows:
            rows[name] = len(sizes)
            sizes.append(size)
        for label, points in things:
            counts[name] += 1
            filled.add(rows[name])
            where = f'{name}: object {counts[name]} ({shown(label)})'
            corners = _surround(points)
            if corners is None or not is_text(label) or not label.strip():
                bad.append(f'{where}: {shown(points)}')
            else:
                objects.append((rows[name], where, label.strip(), corners, False))
    files = list(rows)
    split = object_split(source, add, files, sizes, objects, bad, filled, files)
    highest = max((max(corners) for *_, corners, _ in objects), default=0)
    return replace(split, fractions=source.kind == 'boxes' and highest <= 1)


def _checked(file: Path, name: Any, size: tuple[Any, Any], things: list[tuple[Any, Any]]) -> Record:
    """Return an image as it is, with sides that are numbers."""
    if not is_text(name):
        raise InputError(f'{file}: the name of an image is {shown(name)}: write its file')
    width, height = map(float, size)
    return name, (width, height), things


def _find_renamed(source: Source, called: dict[str, Path]) -> dict[str, str]:
    """Return the own names of files whose images are called so, and not as they state, anywhere."""
    lost = [name for name in called if not os.path.isfile(source.folder / name)]
    images = list_all(source.folder) if lost else []
    stems = {without_ending(os.path.basename(image)) for image in images}
    gone = [name for name in lost if without_ending(os.path.basename(name)) not in stems]
    return {name: os.path.relpath(called[name], source.folder) for name in gone}


def _list_files(source: Source) -> list[Path]:
    if source.ann_file.is_file():
        return [source.ann_file]
    found = (Path(place, name) for place, _, names in walk(source.ann_file) for name in names)
    files = (file for file in found if file.suffix.lower() == '.json')
    return [file for file in files if source.kind != 'supervisely' or file.parent.name == 'ann']


def _surround(points: Any) -> list[float] | None:
    """Return left, top, right and bottom of points ``(N, 2)``; None where they are none."""
    try:
        array = np.array(points, np.float64).reshape(-1, 2)
    except (ValueError, TypeError, OverflowError):
        return None
    if not len(array) or not np.isfinite(array).all():
        return None
    return [*array.min(0).tolist(), *array.max(0).tolist()]


def _surround_mask(code: dict) -> list[list[float]]:
    """Return the corners of what a compressed run-length code covers."""
    from pycocotools.mask import toBbox

    height, width = code['size']
    fault = find_mask_fault(code, width, height)
    if fault:
        raise InputError(f'a mask {fault}')
    x, y, w, h = toBbox(code).tolist()
    return [[x, y], [x + w, y + h]]


def _circle(x: float, y: float, across: float, down: float | None = None) -> list[list[float]]:
    down = across if down is None else down
    return [[x - across, y - down], [x + across, y + down]]


def _labelme(file: Path, source: Source) -> Iterator[Record]:
    """LabelMe, X-AnyLabeling: ``imagePath`` is relative to the file."""
    content, things = read_json(file, True), []
    for shape in content['shapes']:
        points = shape['points']
        if shape.get('shape_type') == 'circle':
            (x, y), edge = points
            points = _circle(x, y, math.dist((x, y), edge))
        things.append((shape['label'], points))
    image = file.parent / str(content['imagePath']).replace('\\', '/')
    size = content.get('imageWidth') or math.nan, content.get('imageHeight') or math.nan
    yield os.path.relpath(os.path.normpath(image), source.folder), size, things


def _via(file: Path, source: Source) -> Iterator[Record]:
    """VGG Image Annotator: its project, or the export of its annotations."""
    content = read_json(file, True)
    for image in content.get('_via_img_metadata', content).values():
        regions = image['regions']
        every = regions.values() if isinstance(regions, dict) else regions
        things = [_region(one['shape_attributes'], one['region_attributes']) for one in every]
        yield image['filename'], (math.nan, math.nan), things


def _via_csv(file: Path, source: Source) -> Iterator[Record]:
    """VGG Image Annotator's CSV, with a region in each row; an image without any has ``{}``."""
    header, rows = _read_table(file)
    for _, row in rows:
        cells = dict(zip(header, row, strict=False))
        shape, values = (json.loads(cells[key]) for key in VIA_PARTS)
        yield cells['filename'], (math.nan, math.nan), [_region(shape, values)] if shape else []


def _region(shape: dict, values: dict) -> tuple[str, Any]:
    """Return the class of a region of VIA's, and its points."""
    # A text, or of a checkbox a dict of those that are ticked; of an attribute called so, if any.
    named = sorted(values, key=lambda key: key.lower() not in VIA_CLASS)
    ticked = (next(iter(v), '') if isinstance(v := values[k], dict) else v for k in named)
    if 'all_points_x' in shape:
        points: Any = [*zip(shape['all_points_x'], shape['all_points_y'], strict=True)]
    elif 'width' in shape:
        x, y = shape['x'], shape['y']
        points = [[x, y], [x + shape['width'], y + shape['height']]]
    else:  # a circle, an ellipse, a point
        across = shape.get('r', shape.get('rx', 0))
        points = _circle(shape['cx'], shape['cy'], across, shape.get('ry', across))
    return next(filter(None, ticked), ''), points


def _cvat(file: Path, source: Source) -> Iterator[Record]:
    """CVAT for images; where its images are of several subsets, those of the split."""
    images = [*parse_xml(file, 'annotations').iter('image')]
    divided = len({image.get('subset') for image in images}) > 1
    for image in images:
        role = role_of(image.get('subset') or '')
        if divided and source.role != ('train' if role in (None, 'trainval') else role):
            continue
        shapes = (one for one in image if one.tag in CVAT_SHAPES)
        things = [(one.attrib['label'], _cvat_points(one)) for one in shapes]
        size = float(image.attrib['width']), float(image.attrib['height'])
        yield image.attrib['name'], size, things


def _cvat_points(shape: Element) -> list[list[float]]:
    """Return the points of one of `CVAT_SHAPES`, turned as it is."""
    said = shape.attrib
    if 'points' in said:
        return [[float(v) for v in point.split(',')] for point in said['points'].split(';')]
    if shape.tag == 'mask':
        x, y, w, h = (float(said[key]) for key in ('left', 'top', 'width', 'height'))
        return [[x, y], [x + w, y + h]]
    if shape.tag == 'ellipse':
        return _circle(*(float(said[key]) for key in ('cx', 'cy', 'rx', 'ry')))
    x, y, r, b = (float(said[key]) for key in ('xtl', 'ytl', 'xbr', 'ybr'))
    angle = math.radians(float(said.get('rotation', 0)))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = np.array([x + r, y + b]) / 2
    return ((np.array([[x, y], [r, y], [r, b], [x, b]]) - centre) @ turn + centre).tolist()


def _datumaro(file: Path, source: Source) -> Iterator[Record]:
    content = read_json(file, True)
    names = [label['name'] for label in content['categories']['label']['labels']]
    for item in content['items']:
        things = []
        for one in item['annotations']:
            if one['type'] == 'bbox':
                x, y, w, h = one['bbox']
                things.append((names[one['label_id']], [[x, y], [x + w, y + h]]))
            elif one['type'] in ('polygon', 'polyline', 'ellipse'):
                things.append((names[one['label_id']], one['points']))
            elif one['type'] == 'mask':
                things.append((names[one['label_id']], _surround_mask(one['rle'])))
        image = item.get('image') or {}
        height, width = image.get('size') or (math.nan, math.nan)
        yield image.get('path') or item['id'], (width, height), things


def _supervisely(file: Path, source: Source) -> Iterator[Record]:
    """Supervisely: ``DATASET/ann/IMAGE.json`` is of ``DATASET/img/IMAGE``."""
    content, things = read_json(file, True), []
    for one in content['objects']:
        points = one['points']['exterior'] if 'points' in one else None
        if one.get('bitmap'):
            data = zlib.decompressobj().decompress(
                base64.b64decode(one['bitmap']['data']), LARGEST_BITMAP
            )
            x, y = one['bitmap']['origin']
            with opened(data, file) as image:
                points = [[x, y], [x + image.width, y + image.height]]
        things.append((one['classTitle'], points))
    image_file = os.path.relpath(file.parent.with_name('img') / file.stem, source.folder)
    yield image_file, (content['size']['width'], content['size']['height']), things


def _read_table(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV file in small letters, and its rows with their numbers."""
    (_, header), *rows = read_rows(file)
    for number, row in rows:
        if len(row) < len(header) or any(row[len(header) :]):
            text = f'{file}:{number}: {len(row)} cells where the header has {len(header)}'
            raise InputError(text)
    return [cell.strip().lower() for cell in header], rows


def _boxes(file: Path, source: Source) -> Iterator[Record]:
    """A CSV file with a box in each row, such as Open Images', whose boxes are fractions."""
    places = find_columns(read_header(file))
    assert places is not None  # it was recognised by them
    # Open Images names its classes in a file of its own.
    others = (f for at in ('', '*/', '*/*/') for f in glob(source.folder, f'{at}*class*.csv'))
    described = [row for other in others for _, row in read_rows(other)]
    called = {row[0]: row[1] for row in described if len(row) == 2}
    sides = {key for axis in AXES for key in axis}
    for number, row in _read_table(file)[1]:
        cells = {key: row[place].strip() for key, place in places.items()}
        if not cells['file']:
            raise InputError(f'{file}:{number}: has no name of an image')
        try:
            size = [float(cells.get(f'image {side}') or 0) for side in ('width', 'height')]
        except ValueError:
            raise InputError(f'{file}:{number}: width or height is no number') from None
        width, height = size if all(size) else (math.nan, math.nan)
        label, points = cells['label'], zip(*(_edges(cells, *axis) for axis in AXES), strict=True)
        filled = any(cells.get(side) for side in sides)
        things = [(called.get(label, label), [*points])] if filled else []
        yield cells['file'], (width, height), things


def _edges(cells: dict[str, str], low: str, high: str, centre: str, extent: str) -> Sequence[Any]:
    """Return where a box begins and ends along an axis; its cells where they are no numbers."""
    start, end, middle, length = map(cells.get, (low, high, centre, extent))
    try:
        if length is None:
            return start, end
        first = float(start or 'nan') if middle is None else float(middle) - float(length) / 2
        return first, first + float(length)
    except ValueError:
        return start or middle, length


@dataclass(frozen=True)
class Tool:
    """A labelling tool's own files.

    Attributes:
        title: What they are called.
        parse: Yields the images in a file, with their objects.
        keys: In each of its JSON files, near the beginning or the end.
        per_image: Whether there is a file for each image.
    """

    title: str
    parse: Callable[[Path, Source], Iterator[Record]]
    keys: tuple[str, ...] = ()
    per_image: bool = False


TOOLS = {
    'labelme': Tool("LabelMe's JSON", _labelme, ('shapes', 'imagePath'), True),
    'via': Tool("VGG Image Annotator's JSON", _via, ('regions', 'file_attributes')),
    'via_csv': Tool("VGG Image Annotator's CSV", _via_csv),
    'cvat': Tool("CVAT's XML", _cvat),
    'datumaro': Tool("Datumaro's JSON", _datumaro, ('items', 'categories')),
    'supervisely': Tool("Supervisely's JSON", _supervisely, ('objects', 'size'), True),
    'boxes': Tool('a CSV of boxes', _boxes),
}
