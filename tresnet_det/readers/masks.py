"""Masks of objects, looked at before pycocotools' C code is: it trusts every number in them.

A coordinate that is NaN or 1e9 ends the process there, and a run-length code takes as much memory
as its size says. So all that reads masks, learns or measures them asks `find_mask_fault` first.
"""

import math
from typing import Any

import numpy as np

from ..errors import shown
from ..files import most_pixels

LONGEST = 50_000_000  # points along a polygon, of which pycocotools makes five for each pixel
MOST_DIGITS = 7  # of five bits each, in a number of a compressed code


def has_mask(mask: object) -> bool:
    """Whether there is one, good or bad: some tools write ``[]`` or ``[[]]`` for none."""
    return bool(mask) and mask != [[]]


def find_mask_fault(mask: Any, width: float, height: float) -> str | None:
    """Say what is wrong with a mask, None where nothing is.

    Args:
        mask: ``segmentation`` of COCO: polygons, each ``[x1, y1, x2, y2, x3, y3, ...]`` in pixels,
            or a run-length code ``dict(size=[height, width], counts=...)``, compressed or not.
        width: Of the image.
        height: Likewise.
    """
    if not width * height <= most_pixels():
        return f'is of an image of {width:.0f} x {height:.0f}, more than {most_pixels()} pixels'
    if isinstance(mask, dict):
        return _find_code_fault(mask, width, height)
    if not isinstance(mask, list) or not has_mask(mask):
        return f'has neither polygons nor a run-length code: {shown(mask)}'
    faults = (_find_polygon_fault(polygon, max(width, height)) for polygon in mask)
    return next(filter(None, faults), None)


def _find_polygon_fault(polygon: Any, side: float) -> str | None:
    if not isinstance(polygon, list) or not {*map(type, polygon)} <= {int, float}:
        return f'has a polygon that is no list of numbers: {shown(polygon)}'
    count = len(polygon)
    if count < 6 or count % 2:
        return f'has a polygon of {count} numbers, not x and y of three points or more'
    low, high = min(polygon), max(polygon)
    # A sum is NaN where any number is; min and max are not always.
    if not -side <= low <= high <= 2 * side or math.isnan(sum(polygon)):
        worst = max(polygon, key=lambda v: math.inf if v != v else abs(v))
        return f'has a polygon with {shown(worst)}, far outside the image of {side:.0f} pixels'
    if count / 2 * 5 * (high - low) > LONGEST:
        points = np.array(polygon, np.float64).reshape(-1, 2)
        steps = np.abs(points - np.roll(points, -1, 0)).max(1).sum()
        if 5 * steps > LONGEST:
            return f'has a polygon of {count // 2} points that is {steps:.0f} pixels long'
    return None


def _find_code_fault(code: dict, width: float, height: float) -> str | None:
    size, counts = code.get('size'), code.get('counts')
    sides = [*size] if isinstance(size, list | tuple) else []
    if {*map(type, sides)} != {int} or sides != [height, width]:
        return f'has the size {shown(size)}, its image is [{height:.0f}, {width:.0f}]'
    runs = counts if isinstance(counts, list) else _decompress(counts)
    if runs is None or not {*map(type, runs)} <= {int}:
        return f'has counts that are no run-length code: {shown(counts)}'
    if min(runs, default=0) < 0:
        return f'has a negative count: {min(runs)}'
    if sum(runs) != width * height:
        return f'has counts for {sum(runs)} pixels, its image has {width * height:.0f}'
    return None


def _decompress(text: Any) -> list[int] | None:
    """Return the runs of a compressed code, as pycocotools' ``rleFrString`` reads it.

    A number is written in digits of five bits, the lowest first; bit 5 says that more follow, bit 4
    of the last is the sign. From the fourth on, it is the difference to the one before the last.
    """
    if isinstance(text, str):
        text = text.encode(errors='replace') if text.isascii() else None
    if not isinstance(text, bytes) or not text:
        return None
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits & 32 == 0)
    if digits.min() < 0 or digits.max() > 63 or not len(ends) or ends[-1] != len(digits) - 1:
        return None
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    if lengths.max() > MOST_DIGITS:
        return None
    places = np.arange(len(digits)) - np.repeat(starts, lengths)
    values = np.add.reduceat((digits & 31) << 5 * places, starts)
    values -= ((digits[ends] & 16) > 0) * (1 << 5 * lengths)
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values.tolist()
