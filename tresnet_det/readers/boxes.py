"""Checks of boxes against their images, and their conversion to what a file of COCO's can say."""

from dataclasses import replace

import numpy as np

from .findings import Findings
from .split import Boxes, Split

# Pixels that a box may pass the border by: COCO's own boxes do by rounding, VOC's are whole.
SLACK = {'coco': 1.0, 'yolo': 0.5, 'voc': 0.0}
FEWEST = 10  # boxes from which on their form can be judged
CROSSING = 0.3  # share of corners read as sizes that pass the border; of good boxes none does


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
    add = findings.about(split.name, split.source.ann_file)
    sides, slack = split.sizes[split.rows], SLACK[split.source.kind]
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
    if total and xywh.max() <= 1 and (sides[known] > 1).all():
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


def find_duplicates(split: Split, boxes: Boxes) -> np.ndarray:
    """Return ``(M,)``, whether a box of that class was in its image already."""
    keys = np.column_stack([split.rows, split.labels, boxes.xywh])
    again = np.ones(len(keys), bool)
    again[np.unique(keys, axis=0, return_index=True)[1]] = False
    return again & ~boxes.ignored
