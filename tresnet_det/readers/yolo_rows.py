"""A row of YOLO's label files: a class number, and a box or a polygon in fractions of an image."""

import math
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError

SLACK = 0.01  # beyond 0 to 1: what rounding explains
PIXELS = 2.0  # from there on a number cannot be meant as a fraction

Box = tuple[float, float, float, float]


class RowError(InputError):
    """A row of a label file that is no box.

    Attributes:
        code: Its kind, by which the check of data groups and counts it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def parse_row(fields: Sequence[str], num_classes: int, source: Path) -> tuple[int, Box]:
    """Read a row of a label file.

    Args:
        fields: Its numbers, as text.
        num_classes: Of the data.
        source: What names the classes, for messages.

    Returns:
        The class number, and left, top, right and bottom in fractions of the image.

    Raises:
        RowError: It is neither a box nor a polygon.
    """
    try:
        numbers = [float(text) for text in fields]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise RowError('bad-label-row', f'{" ".join(fields)[:60]!r} are not all numbers')
    label, *values = numbers
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise RowError(
            'bad-label-row',
            f'{len(fields)} numbers, where a box has 5 (class, centre x and y, width, height) and '
            'a polygon the class and three points or more',
        )
    if label not in range(num_classes):
        raise RowError(
            'unknown-class-number',
            f'the class {fields[0]}, and {source} has {num_classes}, from 0 to {num_classes - 1}',
        )
    outside = [v for v in values if not -SLACK <= v <= 1 + SLACK]
    if outside:
        text = f'{outside[0]:g} is not in 0 to 1, a fraction of the width or height'
        if max(values) >= PIXELS:
            raise RowError('pixel-row', f'{text}: these are pixels')
        raise RowError('bad-fraction', text)
    if len(values) == 4:
        x, y, w, h = values
        return int(label), (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    xs, ys = values[0::2], values[1::2]
    return int(label), (min(xs), min(ys), max(xs), max(ys))
