"""Training curves from mmengine's log: losses, validation figures, learning rate."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import InputError, MissingFileError

# Okabe and Ito's palette, told apart with every kind of colour vision; line styles and markers
# change with it, so that a grey print can be read too.
_COLOURS = ('#000000', '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
_STYLES = ('-', '-', '--', '-.', ':', '--', '-.')
_MARKERS = 'osD^v<>'
_NO_FIGURE = ('step', 'iter', 'epoch', 'time', 'data_time', 'memory')
_Series = dict[str, list[tuple[float, float]]]


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """Read ``vis_data/scalars.json``: one JSON object a line, the last one perhaps half written.

    Args:
        path: The file.

    Raises:
        MissingFileError: The file is not there.
        InputError: A line is no JSON object.
    """
    if not Path(path).is_file():
        raise MissingFileError(f'{path} is not there: mmengine writes it as vis_data/scalars.json.')
    lines = Path(path).read_text(encoding='utf-8').splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line) if line.strip() else {}
        except json.JSONDecodeError:
            record = {} if number == len(lines) else None  # a run may be writing it now
        if not isinstance(record, dict):
            raise InputError(f'{path}, line {number}: no JSON object; give a scalars.json.')
        if record:
            records.append(record)
    return records


def draw_curves(
    records: Sequence[Mapping[str, Any]],
    out_path: str | Path,
    val_unit: str = 'epoch',
    title: str = 'Training curves',
) -> None:
    """Draw losses, validation figures and the learning rate, one panel each.

    Training records hold ``loss`` and its parts, ``lr`` and ``iter``; validation records hold
    the figures (``coco/bbox_mAP``) and ``step``. A panel without data says so. Values that are
    not finite, and COCO's -1, are left out.

    Args:
        records: Of a run, as :func:`read_records` gives them.
        out_path: The PNG to write.
        val_unit: ``epoch`` or ``iteration``, in which validation counts its steps.
        title: What stands above.

    Raises:
        InputError: The log holds neither losses nor figures.
    """
    losses, figures, rates = _split(records)
    if not (losses or figures):
        raise InputError('The log holds no loss and no validation figure: has training begun?')
    figure = Figure(figsize=(15, 4.6), dpi=100, layout='constrained')
    panels = figure.subplots(1, 3, width_ratios=(5, 5, 3))
    figure.suptitle(title, fontsize=13, weight='bold')
    _plot(panels[0], losses, 'Training loss', 'iteration', 'loss')
    _plot(panels[1], figures, 'Validation', val_unit, _figure_label(figures), marks=True)
    _plot(panels[2], rates, 'Learning rate', 'iteration', 'learning rate')
    for axes in (panels[0], panels[2]):
        _log_if_wide(axes)
    FigureCanvasAgg(figure).print_png(str(out_path))


def _split(records: Sequence[Mapping[str, Any]]) -> tuple[_Series, _Series, _Series]:
    """Losses, validation figures and learning rates by name, as (x, y) points."""
    losses: _Series = {}
    figures: _Series = {}
    rates: _Series = {}
    for record in records:
        training = 'loss' in record or 'lr' in record
        x = record.get('iter', record.get('step', 0)) if training else record.get('step', 0)
        for key, value in record.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                continue
            if not training and key not in _NO_FIGURE and value != -1:
                figures.setdefault(key, []).append((x, value))
            elif training and 'loss' in key:
                losses.setdefault(key, []).append((x, value))
            elif training and key == 'lr':
                rates.setdefault(key, []).append((x, value))
    order = sorted(losses, key=lambda key: key != 'loss')  # the sum first, in black
    return {key: losses[key] for key in order}, _main_figures(figures), rates


def _main_figures(figures: _Series) -> _Series:
    """The few figures that fit in one panel: averages over classes before all others."""
    ends = ('mAP', 'mAP_50', 'mAP_75', 'top1', 'top5', 'CF1', 'OF1')
    main = {key: points for key, points in figures.items() if key.endswith(ends)}
    return dict(list((main or figures).items())[:7])


def _figure_label(figures: _Series) -> str:
    if figures and all(key.startswith('coco/') for key in figures):
        return 'average precision (0 to 1)'
    return 'figure'


def _plot(
    axes: Axes, series: _Series, title: str, x_label: str, y_label: str, marks: bool = False
) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[['top', 'right']].set_visible(False)
    if not series:
        axes.text(0.5, 0.5, 'not in this log', ha='center', va='center', transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(
        MaxNLocator('auto', steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    for i, (name, points) in enumerate(series.items()):
        xs, ys = zip(*sorted(points), strict=True)
        at = i % len(_COLOURS)
        mark = _MARKERS[at] if marks or len(xs) < 3 else None
        axes.plot(
            xs, ys, _STYLES[at], color=_COLOURS[at], marker=mark, markersize=4, label=name,
            linewidth=2 if i == 0 else 1.4,
        )  # fmt: skip
    if marks:
        _mark_best(axes, *next(iter(series.items())))
    if len(series) > 1 or marks:
        axes.legend(fontsize=8)


def _mark_best(axes: Axes, name: str, points: list[tuple[float, float]]) -> None:
    x, y = max(points, key=lambda point: point[1])
    axes.axhline(y, color='grey', linewidth=0.8, linestyle=':', zorder=0)
    unit = axes.get_xlabel()
    axes.set_title(f'Validation: best {name} {y:.3f} at {unit} {x:g}', fontsize=11)


def _log_if_wide(axes: Axes) -> None:
    """A logarithmic axis where positive values span more than a factor of ten."""
    values = [y for line in axes.get_lines() for y in np.asarray(line.get_ydata())]
    if values and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale('log')
        axes.yaxis.set_major_formatter('{x:g}')
        axes.set_ylabel(f'{axes.get_ylabel()} (log scale)')
