"""Classifiers side by side: the rows of the tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .classifiers import ClassifierRun, count, measure_memory
from .models import PUBLISHED_TOP1, ModelSpec, resolve
from .settings import Settings
from .timing import Spread, measure_interleaved, ratios

Row = dict[str, Any]  # names and figures by column
Progress = Callable[[str], None]

SIZES = (128, 160, 192, 224, 288, 320, 448)
BATCHES = (1, 2, 4, 8, 16)
_SCALING_SIZE = 224  # at which the batch varies


def compare(
    specs: Sequence[ModelSpec], settings: Settings, progress: Progress, speed: bool = True
) -> list[Row]:
    """Count, and where ``speed`` says so time, every model; ratios are to the first.

    Returns:
        A row a model: see :func:`add_speeds` for the columns of the times.
    """
    rows = []
    for spec in specs:
        progress(f'counting {spec.name}')
        row = count(spec, settings)
        if speed:
            row |= measure_memory(spec, settings)
        rows.append(row)
    for row in rows:
        row['kept_ratio'] = row['kept_bytes_per_image'] / rows[0]['kept_bytes_per_image']
    if speed:
        contestants = [ClassifierRun(spec, settings).tasks() for spec in specs]
        add_speeds(
            rows, measure_interleaved(contestants, settings.rounds, settings.min_seconds, progress)
        )
    return rows


def add_speeds(rows: Sequence[Row], speeds: Sequence[Mapping[str, Sequence[float]]]) -> None:
    """Add the speeds of each task to the rows, with the ratios to the first row.

    For each task there are ``TASK_img_per_s`` and ``TASK_ratio``, and the same with ``_min`` and
    ``_max``; the median is over the rounds, and so is that of the ratios.

    Args:
        rows: One a contestant; they are changed.
        speeds: Images/s in each round, by task, in the rows' order.
    """
    for row, tasks in zip(rows, speeds, strict=True):
        for task, values in tasks.items():
            row |= flatten(f'{task}_img_per_s', Spread.of(values))
            if task in speeds[0]:
                row |= flatten(f'{task}_ratio', ratios(values, speeds[0][task]))


def flatten(key: str, spread: Spread) -> dict[str, float]:
    """Spell a spread out as three columns."""
    return {key: spread.median, f'{key}_min': spread.low, f'{key}_max': spread.high}


def compare_family(settings: Settings, progress: Progress) -> list[Row]:
    """Return the speeds of the models of the paper's two charts, with their published top-1."""
    specs = [resolve(name, 0) for name in PUBLISHED_TOP1]
    rows = []
    for spec in specs:
        rows.append(
            {
                'model': spec.name,
                'size': spec.size,
                'batch_size': settings.batch_size,
                'published_top1': PUBLISHED_TOP1[spec.name],
            }
        )
    contestants = [ClassifierRun(spec, settings).tasks() for spec in specs]
    add_speeds(
        rows, measure_interleaved(contestants, settings.rounds, settings.min_seconds, progress)
    )
    return rows


def scale(names: Sequence[str], settings: Settings, progress: Progress) -> list[Row]:
    """Return the speeds of the models at growing resolution, and at growing batch.

    Resolution varies at the settings' batch size, the batch at 224 pixels. Ratios are to the first
    model at the same point.

    Returns:
        Rows with ``varies`` (``size`` or ``batch_size``), one for each model and point.
    """
    points = [('size', size, settings.batch_size) for size in SIZES]
    points += [('batch_size', _SCALING_SIZE, batch) for batch in BATCHES]
    rows: list[Row] = []
    for varies, size, batch in points:
        progress(f'{size} pixels, batch {batch}')
        specs = [resolve(f'{name}@{size}', size) for name in names]
        contestants = [ClassifierRun(spec, settings, batch).tasks() for spec in specs]
        speeds = measure_interleaved(contestants, settings.rounds, settings.min_seconds)
        at_point = [
            {'varies': varies, 'model': name, 'size': size, 'batch_size': batch} for name in names
        ]
        add_speeds(at_point, speeds)
        rows += at_point
    return rows
