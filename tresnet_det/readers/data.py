"""The way in: read the splits of a dataset, with every check that a training makes of its files.

``check_data.py`` collects what is wrong, a training raises the first error: `read_data` serves
both. `read_strictly` is for a dataset that a config names. Checks that need pixels are in
:mod:`tresnet_det.readers.report`.
"""

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import LONGEST_NAME, InputError, MissingFileError, shown
from .class_folders import read_class_folders
from .coco import read_coco
from .csv import read_csv, read_list
from .files import (
    find,
    has_images,
    image_folder,
    is_turned,
    list_folder,
    not_found,
    read_sizes,
)
from .findings import Findings, compare_classes
from .kinds import NAMED, OF_TASK
from .labelling_tools import TOOLS, read_export
from .layouts import XML_FOLDERS
from .locate import locate
from .masks import find_mask_fault
from .split import Boxes, Layout, Source, Split
from .voc import read_voc
from .yolo import read_yolo

READERS: Mapping[str, Callable[[Source, Findings], Split | None]] = {
    'coco': read_coco,
    'voc': read_voc,
    'yolo': read_yolo,
    **dict.fromkeys(TOOLS, read_export),
    'csv': read_csv,
    'list': read_list,
    'folders': read_class_folders,
}
FROM_HEADERS = ('coco', *NAMED)  # kinds whose annotations may lack the size of an image
OF_LABELS = ('csv', 'list', 'folders')
ONE_LABEL = ('list', 'folders')  # kinds of single-label sources
# Pixels that a box may pass the border by: COCO's own boxes do by rounding, VOC's are whole.
SLACK = {'coco': 1.0, 'yolo': 0.5, 'voc': 0.0}
FEWEST = 5  # boxes from which on their form can be judged
CROSSING = 0.3  # share of corners read as sizes that pass the border; of good boxes none does


def layout_sources(layout: Layout, roles: Sequence[str], task: str) -> list[Source]:
    """Return where the splits of a layout are.

    Args:
        layout: Of `find_layout`.
        roles: Those of its splits that are wanted.
        task: What they are for.
    """
    kind = layout.kind
    boxes = kind in OF_TASK['detection']
    return [
        Source(
            role,
            kind,
            layout.sign if kind == 'yolo' else layout.splits[role],
            _image_folder(layout, role),
            training=role == 'train',
            # Label files and XML are read as boxes whatever they are for.
            detection=boxes and (task != 'multilabel' or kind != 'coco'),
            several=task == 'multilabel',
            own=True,
            search=kind in ('coco', 'csv', *TOOLS),
            role=role,
            xml_folder=_xml_folder(layout, role) if kind == 'voc' else None,
            names=layout.names,
            places=layout.places.get(role, ()),
            optional=role == 'test' and len(roles) > 1,
            fills_in=True,
        )
        for role in roles
    ]


def _image_folder(layout: Layout, role: str) -> Path:
    """Return the folder of a split's images, or one above it."""
    if layout.kind != 'voc':
        return layout.splits[role] if layout.kind == 'folders' else layout.root
    xmls = _xml_folder(layout, role)
    if has_images(xmls) and xmls.name.lower() not in XML_FOLDERS:
        return xmls
    above = (place for place in xmls.parents if place.is_relative_to(layout.root))
    found = (folder for place in above if (folder := image_folder(place)) != place)
    return next(found, xmls if has_images(xmls) else xmls.parent)


def _xml_folder(layout: Layout, role: str) -> Path:
    place = layout.splits[role]
    return place if place.is_dir() else find(place.parents[2], 'Annotations')


def read_data(
    sources: Sequence[Source],
    findings: Findings,
    num_classes: int | None = None,
    headers: float = 0,
) -> list[Split]:
    """Read splits, and check them as far as that needs no pixels.

    Args:
        sources: Where they are.
        findings: Gets what is wrong.
        num_classes: Of the model's head; None where it is not known.
        headers: Most images of a COCO file that are opened to compare their size with what it says.

    Returns:
        Those that could be read.

    Raises:
        InputError: The findings are strict, and there is an error.
    """
    found = _find_images(_agree_on_classes(_read(sources, findings), findings), findings)
    splits = [
        replace(split, usable=split.labels >= 0)
        if split.boxes is None
        else check_boxes(split, findings)
        for split in (_fit_sizes(split, findings, headers) for split in found)
    ]
    for split in splits:
        _check_filter(split, findings)
    _check_usable(splits, findings)
    wanting = [split for split in splits if split.source.needs_truth]
    named = [(split.name, split.source.ann_file, split.classes) for split in wanting]
    first = next(((s.name, '', s.classes) for s in splits if s.source.training), None)
    compare_classes(named, first, num_classes, findings)
    for split in wanting:
        add = split.about(findings)
        if findings.has(split.name, 'nothing-to-learn'):
            continue
        if len(split.files) == 1 and not split.source.training:
            add('one-image', split.files)
        if split.source.own and split.source.kind in ONE_LABEL and len(split.classes) == 1:
            add('single-class', [repr(split.classes[0])])
        silent = ~split.annotated if split.lacking is None else ~split.annotated & ~split.lacking
        add('no-annotation', silent.nonzero()[0], split.files.__getitem__, len(split.files))
    return splits


def read_strictly(source: Source) -> tuple[Split, list[str]]:
    """Read one split for a dataset.

    Returns:
        The split, and warnings, a line each.

    Raises:
        InputError: There is an error in it.
    """
    findings = Findings(strict=True)
    (split,) = _find_images(_read([source], findings), findings)
    return split, findings.warnings()


def _find_images(splits: Sequence[Split], findings: Findings) -> list[Split]:
    """Find which images exist, by listing each folder once, not asking for every file."""
    names_in = functools.cache(list_folder)
    return [
        replace(split, found=np.ones(len(split.files), bool))
        if split.source.is_listed
        else _tell_outside(locate(split, findings, names_in), findings)
        for split in splits
    ]


def _tell_outside(split: Split, findings: Findings) -> Split:
    """Name images of other folders: a file from elsewhere could have any image read and drawn.

    They are no error: tools write absolute paths, and lists name images of a folder next to theirs.
    """
    root = os.path.join(os.path.abspath(split.source.folder), '')
    rows = np.flatnonzero(split.found).tolist()
    paths = (os.path.abspath(split.path(row)) for row in rows)
    outside = [path for path in paths if not path.startswith(root)]
    split.about(findings)('outside-folder', outside, total=len(split.files))
    return split


def _read(sources: Sequence[Source], findings: Findings) -> list[Split]:
    """Return the splits that can be read; that others cannot is a finding."""
    splits: list[Split] = []
    for source in sources:
        kind = source.kind
        # The classes of your own data are those of its first split.
        if source.own and kind not in ('yolo', *NAMED) and source.classes is None and splits:
            known_by = 'the training data' if kind == 'folders' else ''
            source = replace(source, classes=splits[0].classes or None, known_by=known_by)
        try:
            split = READERS[kind](source, findings)
        except InputError as error:
            if findings.strict and findings.has_error(source.name):  # the finding itself
                raise
            add = source.about(findings)
            if not isinstance(error, MissingFileError):
                add('unreadable-annotations', [error])
            elif kind == 'folders':
                add('missing-folder', [not_found('image folder', source.ann_file)])
            else:
                add('missing-file', [not_found('annotation file', source.ann_file)])
        else:
            splits += [split] if split else []
    for split in splits:
        long = [name for name in split.classes if len(name) > LONGEST_NAME]
        split.about(findings)('long-name', long, shown)
    return splits


def _fit_sizes(split: Split, findings: Findings, most: float) -> Split:
    """Take sizes that are not annotated from the images' headers, and compare the others."""
    unknown, kind = np.isnan(split.sizes).any(1), split.source.kind
    labels = kind in OF_LABELS and split.source.fills_in and most
    if kind not in FROM_HEADERS and not labels:
        return split
    most = math.inf if kind in NAMED else most
    compared = np.zeros(len(unknown), bool)
    if most:
        compared[:: max(1, math.ceil(len(unknown) / most))] = True
    rows = np.flatnonzero(unknown | compared)
    files, sizes = [split.files[row] for row in rows], split.sizes.copy()
    add = split.about(findings)
    # A dataset that a config names may skip an image that does not decode.
    refuse = add if split.source.fills_in or kind != 'coco' else lambda *_: None
    real, unreadable = read_sizes(split.folder, files, refuse)
    differs = ((sizes[rows] != real).any(1) & ~np.isnan(sizes[rows] + real).any(1)).nonzero()[0]

    def compare(i: int) -> str:
        (width, height), (w, h) = sizes[rows[i]], real[i]
        return f'{files[i]}: annotated {width:g} x {height:g}, it is {w:g} x {h:g}'

    turned = [
        i
        for i in differs
        if (sizes[rows[i]] == real[i, ::-1]).all() and is_turned(split.path(rows[i]))
    ]
    add('exif-rotated', turned, compare, len(files))
    add('size-differs', sorted({*differs} - {*turned}), compare, len(files))
    sizes[unknown] = real[unknown[rows]]
    known = [mask for mask in split.masks if not np.isnan(sizes[mask[0]]).any()]
    faults = [(place, find_mask_fault(mask, *sizes[row])) for row, place, mask in known]
    bad = [f'{place}: it {fault}' for place, fault in faults if fault]
    add('bad-mask', bad, total=len(split.rows))
    if split.fractions and split.boxes is not None:
        xywh = split.boxes.xywh * np.tile(sizes[split.rows], 2)
        split = replace(split, boxes=replace(split.boxes, xywh=xywh, areas=xywh[:, 2:].prod(1)))
    unreadable = [int(rows[i]) for i in unreadable if refuse is add]
    return replace(split, sizes=sizes, unreadable=unreadable, masks=())


def describe_small(count: int, least: float) -> str:
    """Say that a filter drops images for their size."""
    images = f'{count} training images with a side below {least} pixels'
    return f'{images} are not trained on (lower filter_cfg.min_size to have them)'


def check_left(where: object, count: int, lines: Sequence[str]) -> None:
    """Raise an InputError, with the reasons, where none of the training images is left."""
    if not count:
        raise InputError(f'{where}: no training image is left: {"; ".join(lines)}')


def _check_filter(split: Split, findings: Findings) -> None:
    """Find images that the dataset's filter drops for their size."""
    least = split.source.filter_cfg.get('min_size') or 0
    small = (split.sizes.min(1) < least).nonzero()[0]

    def name(row: int) -> str:
        return f'{split.files[row]}, {split.sizes[row, 0]:g} x {split.sizes[row, 1]:g}'

    if len(small):
        try:
            left = len(split.files) - len(small)
            check_left(split.source.ann_file, left, [describe_small(len(small), least)])
        except InputError as error:
            split.about(findings)('nothing-to-learn', [error])
    split.about(findings)('small-image', small, name, len(split.files))


def _agree_on_classes(splits: list[Split], findings: Findings) -> list[Split]:
    """Give the splits of your own data one list of classes.

    VOC's are the names in all of them. Of COCO's, the category that groups the others is skipped
    where no object is of it.
    """
    own = [s for s in splits if s.source.kind in NAMED and s.source.classes is None]
    classes = tuple(sorted({name for split in own for name in split.classes}))
    if not own:
        own = [s for s in splits if s.source.kind == 'coco' and s.source.own]
        group = own[0].group if own else None
        in_use = [group in s.classes and (s.labels == s.classes.index(group)).any() for s in own]
        if group is None or any(in_use):
            return splits
        text = f'the category {group!r} groups the others and has no boxes: skipped'
        own[0].about(findings)('left-out', [text])
        classes = tuple(name for name in own[0].classes if name != group)
    return [split.renumber(classes) if split in own else split for split in splits]


def _check_usable(splits: Sequence[Split], findings: Findings) -> None:
    """Check that there is something to learn, and to measure on; a part of several may lack it."""
    training = [split for split in splits if split.source.training]
    for group in [training] + [[split] for split in splits if not split.source.training]:
        wanting = [split for split in group if split.source.needs_truth]
        if not wanting or any(split.usable.any() for split in group):
            continue
        if not any(findings.has_error(split.name) for split in group):
            text = nothing_usable(wanting[0].source.ann_file)
            wanting[0].about(findings)('nothing-to-learn', [text])


def nothing_usable(file: object) -> str:
    """Say that no annotation of a file can be used."""
    return f'{file}: no image has a usable box or label of the classes, nothing to learn or measure'


def check_boxes(split: Split, findings: Findings) -> Split:
    """Compare boxes with their images.

    Args:
        split: With boxes, and the sizes of images that are known.
        findings: Gets what is wrong.

    Returns:
        The split, with `Split.usable` set. Boxes of VOC and YOLO, which a training reads from a
        converted file, are clipped to their images, and those without area are skipped.
    """
    boxes = split.boxes
    assert boxes is not None  # of this kind of split
    xywh, total = boxes.xywh, len(boxes.xywh)
    add, slack = split.about(findings), SLACK.get(split.source.kind, 1.0)
    sides = split.sizes[split.rows]
    start, extent = xywh[:, :2], xywh[:, 2:]
    inside = np.minimum(start + extent, sides) - np.maximum(start, 0)
    flat = (extent < 1).any(1) | (boxes.areas <= 0)
    outside = ~flat & (inside <= 0).any(1)
    partly = ~flat & ~outside & (inside < extent - slack).any(1)
    usable = ~flat & ~outside & ~boxes.ignored & (split.labels >= 0)
    known = ~np.isnan(sides).any(1)

    def name(i: int) -> str:
        numbers = ', '.join(f'{value:g}' for value in xywh[i])
        image = '{:g} x {:g}'.format(*sides[i])
        return f'{split.name_object(i)}: [{numbers}] in {image}'

    corners = (extent > start).all(1) & (xywh[:, 2:] <= sides + max(SLACK.values())).all(1)
    highest = min(xywh.max(), (start + extent).max()) if total else 2  # VOC's begin at -1
    if highest <= 1 and (sides[known] > 1).all():
        add('relative-boxes', [name(0)])
    elif (
        known.sum() >= FEWEST
        and corners[known].all()
        and (partly | outside)[known].mean() >= CROSSING
    ):
        add('corner-boxes', [name(int((partly | outside).argmax()))])
    else:
        for code, rows in (
            ('box-without-area', flat),
            ('box-outside', outside),
            ('box-partly-outside', partly),
        ):
            add(code, rows.nonzero()[0], name, total)
    split = replace(split, usable=usable)
    return split if split.source.kind == 'coco' else _clip(split, boxes, sides)


def _clip(split: Split, boxes: Boxes, sides: np.ndarray) -> Split:
    """Return the split with boxes within their images; a size that is not known clips nothing."""
    start = np.maximum(boxes.xywh[:, :2], 0)
    end = np.fmin(boxes.xywh[:, :2] + boxes.xywh[:, 2:], sides)
    extent = (end - start).round(3)  # thousandths of a pixel, without what subtraction adds
    xywh = np.hstack([start, extent])
    areas = np.where(boxes.areas <= 0, 0, extent.prod(1).round(3))
    kept = ((extent > 0).all(1) & (areas > 0)).nonzero()[0]
    clipped = replace(split, boxes=Boxes(xywh, areas, boxes.ignored))
    return replace(clipped.take(kept), usable=split.usable[kept])
