"""Reader of Pascal VOC's XML files for the check of data, fault after fault.

Unlike the readers that train, it leaves out what is no good, notes it, and goes on.
"""

import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from ..datasets.formats.text_files import read_lines
from ..datasets.formats.voc import list_images, parse_xml, read_number
from ..errors import InputError, MissingFileError
from .findings import Findings
from .sources import NO_CLASS, Boxes, Source, Split


class _Object(NamedTuple):
    """An object of an XML file, of the image ``row``; NaN where it has no box."""

    row: int
    name: str
    where: str
    xywh: tuple[float, float, float, float]
    area: float
    difficult: bool


def read_voc_split(source: Source, findings: Findings) -> Split | None:
    """Read a list of images of Pascal VOC, with an XML file each; None where there is no list.

    Boxes are converted to COCO's form, as by `tresnet_det.datasets.formats.voc.voc_to_coco`.

    Args:
        source: Of the kind ``'voc'``.
        findings: Gets what is wrong with the list and the XML files.
    """
    try:
        listed = [row.split()[0] for row in read_lines(source.ann_file) if row.strip()]
    except InputError as error:
        findings.add(source.name, 'unreadable-annotations', [str(error)])
        return None
    twice = [name for name, count in Counter(listed).items() if count > 1]
    findings.add(source.name, 'repeated-row', twice, total=len(listed))
    return _make_split(source, findings, list(dict.fromkeys(listed)))


def _make_split(source: Source, findings: Findings, members: list[str]) -> Split:
    assert source.xml_folder is not None  # of this kind
    images = list_images(source.folder) if source.folder.is_dir() else {}
    files: list[str] = []
    sizes: list[tuple[float, float]] = []
    objects: list[_Object] = []
    named: set[str] = set()
    lost, broken = [], []
    for member in members:
        xml = source.xml_folder / f'{member}.xml'
        candidates = images.get(member) or [f'{member}.jpg']
        named |= set(candidates)
        try:
            root = parse_xml(xml)
            size = _read_size(xml, root)
        except MissingFileError:
            lost.append(member)
            continue
        except InputError as error:
            broken.append(error)
            continue
        said = (root.findtext('filename') or '').strip()
        objects += _read_objects(xml, root, len(files))
        files.append(said if said in candidates else candidates[0])
        sizes.append(size)
    findings.add(source.name, 'broken-xml', broken, total=len(members))
    findings.add(source.name, 'missing-annotation', lost, '{}.xml'.format, len(members))
    wheres, names = [found.where for found in objects], [found.name for found in objects]
    boxes = Boxes(
        np.array([found.xywh for found in objects], np.float64).reshape(-1, 4),
        np.array([found.area for found in objects], np.float64),
        np.array([found.difficult for found in objects], bool),
    )
    bad = np.isnan(boxes.xywh).any(1) | np.array([not name for name in names], bool)
    findings.add(source.name, 'bad-box', bad.nonzero()[0], lambda i: wheres[i], len(objects))
    classes = source.classes or tuple(sorted({name for name in names if name}))
    number = {name: i for i, name in enumerate(classes)}
    labels = np.array([number.get(name, NO_CLASS) for name in names], np.int64)
    no_class = ~bad & (labels == NO_CLASS)
    findings.add(
        source.name, 'category-no-class', no_class.nonzero()[0], lambda i: wheres[i], len(objects)
    )
    rows, kept = np.array([found.row for found in objects], np.int64), (~bad).nonzero()[0]
    return Split(
        source,
        source.folder,
        classes,
        files,
        np.array(sizes, np.float64).reshape(-1, 2),
        rows[kept],
        labels[kept],
        lambda i: wheres[kept[i]],
        named,
        np.bincount(rows, minlength=len(files)) > 0,
        boxes=boxes.take(kept),
    )


def _read_objects(xml: Path, root: Element, row: int) -> list[_Object]:
    objects = []
    for number, element in enumerate(root.iter('object'), 1):
        name = (element.findtext('name') or '').strip()
        where = f'{xml.name} object {number} ({name or "without name"})'
        xywh, area = _read_box(xml, element)
        difficult = element.findtext('difficult', '0').strip() not in ('', '0')
        objects.append(_Object(row, name, where, xywh, area, difficult))
    return objects


def _read_size(xml: Path, root: Element) -> tuple[float, float]:
    """Return width and height, NaN where the file does not say; some tools write 0 x 0 then."""
    if root.find('size') is None:
        return math.nan, math.nan
    width, height = (read_number(xml, root, f'size/{side}') for side in ('width', 'height'))
    return (math.nan, math.nan) if (width, height) == (0, 0) else (width, height)


def _read_box(xml: Path, element: Element) -> tuple[tuple[float, float, float, float], float]:
    """Return a box in COCO's form and its area; NaN where it is none."""
    sides = ('xmin', 'ymin', 'xmax', 'ymax')
    try:
        xmin, ymin, xmax, ymax = (read_number(xml, element, f'bndbox/{side}') for side in sides)
    except InputError:
        return (math.nan, math.nan, math.nan, math.nan), math.nan
    width, height = xmax - xmin + 1, ymax - ymin + 1
    # One whose corners coincide is a click, and no box, though it would cover a pixel.
    area = 0.0 if xmax <= xmin or ymax <= ymin else width * height
    return (xmin - 1, ymin - 1, width, height), area
