"""COCO's twelve metrics by name, and results as text for people and as JSON for programs.

The results of a test are ``metrics.json``, those of a training ``summary.json``.
"""

import json
import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, printable, shorten
from ..files import write_whole
from ..readers.files import read_json

SUMMARY = 'summary.json'
WIDEST = 80  # letters of a table's column: a file may call a class by a million
# The twelve metrics in COCO's order: our key, precision or recall, IoU, area, detections.
# Key names follow MMDetection; source: https://cocodataset.org/#detection-eval
TWELVE = (
    ('mAP', 'AP', '0.50:0.95', 'all', 100),
    ('mAP_50', 'AP', '0.50', 'all', 100),
    ('mAP_75', 'AP', '0.75', 'all', 100),
    ('mAP_s', 'AP', '0.50:0.95', 'small', 100),
    ('mAP_m', 'AP', '0.50:0.95', 'medium', 100),
    ('mAP_l', 'AP', '0.50:0.95', 'large', 100),
    ('AR@1', 'AR', '0.50:0.95', 'all', 1),
    ('AR@10', 'AR', '0.50:0.95', 'all', 10),
    ('AR@100', 'AR', '0.50:0.95', 'all', 100),
    ('AR_s@100', 'AR', '0.50:0.95', 'small', 100),
    ('AR_m@100', 'AR', '0.50:0.95', 'medium', 100),
    ('AR_l@100', 'AR', '0.50:0.95', 'large', 100),
)
COCO = '0.50:0.95'  # what mAP is the mean over
COUNTS = (1, 10, 100)  # detections of a class and image, for COCO's recalls
_LONG = {'AP': 'Average Precision (AP)', 'AR': 'Average Recall    (AR)'}
# COCO's bounds, in pixels of the ground truth's area.
_SIZES = {'small': 'under 32x32 pixels', 'medium': '32x32 to 96x96', 'large': 'over 96x96'}


def unlike(name: str, classes: Sequence[str]) -> str:
    """Return a name that no class has, in parentheses where one has it."""
    return unlike(f'({name})', classes) if name in classes else name


def format_threshold(score: float) -> str:
    """Return a threshold to three decimals, rounded down: it takes what the score takes."""
    return f'{Decimal(str(float(score))).quantize(Decimal("0.001"), ROUND_FLOOR)}'


def summarize(
    precision: np.ndarray,
    recall: np.ndarray,
    iou_thrs: Mapping[str, Any],
) -> dict[str, float]:
    """Return COCO's twelve metrics by name: means of what was measured; -1 where nothing was.

    Args:
        precision: ``(T, classes, areas)``.
        recall: ``(T, classes, areas, counts)``.
        iou_thrs: Which of ``T`` are ``'0.50:0.95'``, ``'0.50'`` and ``'0.75'``.
    """
    metrics = {}
    for key, kind, iou, area, count in TWELVE:
        a = ('all', *_SIZES).index(area)
        values = precision[iou_thrs[iou], :, a]
        if kind == 'AR':
            values = recall[iou_thrs[iou], :, a, COUNTS.index(count)]
        metrics[key] = float(np.nanmean(values)) if (~np.isnan(values)).any() else -1.0
    return metrics


def format_twelve(
    metrics: Mapping[str, float],
    iou_type: str = 'bbox',
    prefix: str = '',
    ious: str = COCO,
    most: int = COUNTS[-1],
) -> str:
    """Text of COCO's twelve metrics, one a line, to four decimals.

    Args:
        metrics: Values in [0, 1], or -1 where there is no ground truth, by key
            (``bbox_mAP``, ``bbox_AR@1``, ...; see ``TWELVE``).
        iou_type: ``bbox`` or ``segm``, the first part of the keys.
        prefix: What stands before the keys, as ``coco/`` in what ``runner.test()`` returns.
        ious: What mAP is the mean over.
        most: The most detections of a class in an image that count.

    Returns:
        Lines without a last newline; a metric that is not in ``metrics`` is shown as ``-``.
    """
    lines = [f'COCO {iou_type:<20} IoU        area    detections']
    for key, kind, iou, area, detections in TWELVE:
        value = metrics.get(f'{prefix}{iou_type}_{key}')
        number = '-' if value is None else '-1' if value == -1 else f'{value:.4f}'
        iou = ious if iou == COCO else iou
        detections = most if detections == COUNTS[-1] else min(detections, most)
        lines.append(f'{_LONG[kind]:<25} {iou:<10} {area:<7} {detections:>10}   {number:>6}')
    note = explain_minus_one(metrics, iou_type, prefix)
    return '\n'.join([*lines, note] if note else lines)


def explain_minus_one(
    metrics: Mapping[str, float], iou_type: str = 'bbox', prefix: str = ''
) -> str | None:
    """One line that says why metrics are -1, or None if none is.

    Args:
        metrics: As in :func:`format_twelve`.
        iou_type: As in :func:`format_twelve`.
        prefix: As in :func:`format_twelve`.
    """
    missing = [
        (key, area)
        for key, _, _, area, _ in TWELVE
        if metrics.get(f'{prefix}{iou_type}_{key}') == -1
    ]
    if not missing:
        return None
    keys = ', '.join(f'{iou_type}_{key}' for key, _ in missing)
    if any(area == 'all' for _, area in missing):
        return f'-1 means not measured: there is no ground truth at all of these classes ({keys}).'
    areas = list(dict.fromkeys(area for _, area in missing))
    sizes = ' or '.join(f'{area} ({_SIZES[area]})' for area in areas)
    return f'-1 means not measured: there is no ground truth of {sizes} size ({keys}).'


def format_table(per_class: Sequence[Mapping[str, Any]]) -> str:
    """Text of a per-class table, one class a line, columns aligned.

    Args:
        per_class: Rows with the same keys, in the order wanted (a metric's ``per_class``);
            None is shown as ``-``, a fraction to four decimals, a long text without its middle.

    Returns:
        Lines without a last newline; an empty string for no rows.
    """
    if not per_class:
        return ''
    head = list(per_class[0])
    cells = [
        list(map(format_cell, head)),
        *[[format_cell(row[key]) for key in head] for row in per_class],
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    left = [isinstance(per_class[0][key], str) for key in head]
    lines = []
    for line in cells:
        parts = zip(line, widths, left, strict=True)
        lines.append('  '.join(c.ljust(w) if at else c.rjust(w) for c, w, at in parts).rstrip())
    lines.insert(1, '-' * sum(widths, 2 * (len(widths) - 1)))
    return '\n'.join(lines)


def format_cell(value: Any, digits: int = 4) -> str:
    """Return a value of a table as text: ``-`` for None and NaN, a long text without its middle."""
    if value is None or value != value:
        return '-'
    return f'{value:.{digits}f}' if isinstance(value, float) else shorten(printable(value), WIDEST)


def write_results_json(
    path: str | Path,
    metrics: Mapping[str, float],
    per_class: Sequence[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write results as JSON, unrounded, whole or not at all.

    The file holds ``metrics``, ``per_class`` and the keys of ``extra``. NaN and infinity, which
    JSON does not have, become null. A reader never sees half a file: it is written next to the
    target and renamed.

    Args:
        path: The file; an existing one is replaced, a missing folder made.
        metrics: Values by name.
        per_class: Rows of the per-class table.
        extra: More top-level keys, such as the config and the checkpoint.

    Raises:
        InputError: ``extra`` holds a key that the results use.
    """
    content = {'metrics': metrics, 'per_class': list(per_class)}
    clash = sorted(set(content) & set(extra or {}))
    if clash:
        raise InputError(f'extra has the key {clash[0]!r}, which the results use: rename it.')
    text = json.dumps(_plain({**content, **(extra or {})}), indent=2, allow_nan=False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f'{text}\n'.encode())


def write_summary(work_dir: Path, checkpoint: str, best: float | None, seconds: float) -> None:
    """Keep what a training came to next to its checkpoints.

    Args:
        work_dir: Of the training.
        checkpoint: The best checkpoint, or the last one; kept relative to the folder, if in it.
        best: The best validation's metric, None without validation.
        seconds: The training's duration, that of runs that it was resumed from included.
    """
    path, folder = Path(checkpoint).absolute(), work_dir.absolute()
    kept = path.relative_to(folder) if path.is_relative_to(folder) else path
    summary = dict(checkpoint=str(kept), best=best, seconds=seconds)
    write_whole(work_dir / SUMMARY, (json.dumps(summary, indent=2) + '\n').encode())


def read_seconds(work_dir: Path) -> float | None:
    """Return how long the training in that folder took, None where none ended there."""
    try:
        seconds = float(read_json(work_dir / SUMMARY)['seconds'])
    except (ValueError, KeyError, TypeError, OverflowError):  # none, or another program's
        return None
    return seconds if math.isfinite(seconds) else None


def _plain(value: Any) -> Any:
    """What JSON can hold: numpy and torch scalars and arrays as numbers, NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, 'tolist'):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return str(value)
