"""The charts of the measurements, as PNG files."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from ..files import replacing
from .report import figure as figure_text

# Okabe and Ito's palette, told apart with every kind of colour vision.
_OURS, _OTHERS = '#0072B2', '#8C8C8C'
_SERIES = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
_MARKERS = 'osD^v<>'

Row = Mapping[str, Any]  # names and figures by column


class Panel(NamedTuple):
    """A panel of bars.

    Attributes:
        key: Of the rows.
        title: Above the panel.
        unit: Below it.
        scale: By which the figures are divided.
        ratio_key: Of the ratio to the first row, which stands beside the figure.
    """

    key: str
    title: str
    unit: str
    scale: float = 1
    ratio_key: str | None = None


def draw_bars(
    rows: Sequence[Row],
    panels: Sequence[Panel],
    path: Path,
    title: str,
    caption: str,
    highlighted: Collection[str],
) -> None:
    """Draw a bar for each row in each panel, with smallest and largest round as a whisker.

    Args:
        rows: With ``model``; the first is what the ratios are to.
        panels: Those without any figure are left out.
        path: The PNG to write.
        title: What stands above.
        caption: What stands below: machine and settings.
        highlighted: Models in the main colour; the others are grey.
    """
    panels = [p for p in panels if any(row.get(p.key) is not None for row in rows)]
    figure = Figure(
        figsize=(3 + 4.6 * len(panels), 1.7 + 0.42 * len(rows)), dpi=100, layout='constrained'
    )
    _set_title(figure, title, caption)
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    colours = [_OURS if row['model'] in highlighted else _OTHERS for row in rows]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_panel(axes, rows, panel, colours)
    all_axes[0].set_yticks(range(len(rows)), [row['model'] for row in rows], fontsize=11)
    all_axes[0].invert_yaxis()
    _save(figure, path)


def _draw_panel(axes: Axes, rows: Sequence[Row], panel: Panel, colours: Sequence[str]) -> None:
    values = [(row.get(panel.key) or 0) / panel.scale for row in rows]
    axes.barh(range(len(rows)), values, color=colours)
    for at, (row, value) in enumerate(zip(rows, values, strict=True)):
        end = (row.get(f'{panel.key}_max') or 0) / panel.scale
        if end:
            low = row[f'{panel.key}_min'] / panel.scale
            axes.errorbar(value, at, xerr=[[value - low], [end - value]], color='black', capsize=3)
        axes.annotate(
            _bar_text(row, panel), (max(value, end), at), xytext=(5, 0),
            textcoords='offset points', va='center', fontsize=10,
        )  # fmt: skip
    axes.set_xlim(0, 1.4 * max(values))  # room for the figures behind the bars
    axes.set_title(panel.title, fontsize=12)
    axes.set_xlabel(panel.unit)
    axes.spines[['top', 'right']].set_visible(False)


def _bar_text(row: Row, panel: Panel) -> str:
    if row.get(panel.key) is None:
        return '-'
    text = figure_text(row[panel.key] / panel.scale)
    ratio = row.get(panel.ratio_key) if panel.ratio_key else None
    return text if ratio is None else f'{text}  (x {ratio:.2f})'


def draw_family(rows: Sequence[Row], path: Path, title: str, caption: str) -> None:
    """Draw published top-1 against measured training and inference speed, a line a family.

    Args:
        rows: With ``model``, ``size``, ``published_top1``, ``training_img_per_s`` and
            ``inference_img_per_s``.
        path: The PNG to write.
        title: What stands above.
        caption: What stands below: machine and settings.
    """
    families: dict[str, list[Row]] = {}
    for row in rows:
        ours = row['model'].startswith('tresnet')
        name = f'TResNet at {row["size"]} pixels' if ours else 'EfficientNet, at its own size'
        families.setdefault(name, []).append(row)
    figure = Figure(figsize=(14, 6), dpi=100, layout='constrained')
    _set_title(figure, title, caption)
    for axes, task in zip(
        figure.subplots(1, 2, sharey=True), ('training', 'inference'), strict=True
    ):
        for at, (name, members) in enumerate(families.items()):
            xs, ys = (
                [row[key] for row in members] for key in (f'{task}_img_per_s', 'published_top1')
            )
            axes.plot(xs, ys, '-', color=_SERIES[at], marker=_MARKERS[at], markersize=8, label=name)
            # Above the upper curve and below the lower ones, where no line runs.
            above = not members[0]['model'].startswith('tresnet')
            for row, x, y in zip(members, xs, ys, strict=True):
                axes.annotate(
                    _family_label(row), (x, y), xytext=(7, 5) if above else (-7, -13),
                    textcoords='offset points', ha='left' if above else 'right', fontsize=10,
                    color=_SERIES[at],
                )  # fmt: skip
        _set_log_ticks(axes, 'x')
        axes.margins(x=0.17, y=0.1)
        axes.set_title(f'{task.capitalize()}, measured here', fontsize=12)
        axes.set_xlabel('images/s (log scale)')
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.axes[0].set_ylabel('published ImageNet top-1 (%), not measured here')
    figure.axes[0].legend(loc='lower left')
    _save(figure, path)


def _family_label(row: Row) -> str:
    name = row['model'].partition('@')[0].rpartition('_')[2].upper()
    return f'{name} ({row["size"]})' if name.startswith('B') else name


def draw_scaling(rows: Sequence[Row], path: Path, title: str, caption: str) -> None:
    """Draw the time an image takes against resolution and against batch size.

    Args:
        rows: As :func:`tresnet_det.profiling.comparison.scale` gives them.
        path: The PNG to write.
        title: What stands above.
        caption: What stands below: machine and settings.
    """
    figure = Figure(figsize=(14, 5.6), dpi=100, layout='constrained')
    _set_title(figure, title, caption)
    for axes, varies in zip(figure.subplots(1, 2), ('size', 'batch_size'), strict=True):
        at_points = [row for row in rows if row['varies'] == varies]
        _draw_cost(axes, at_points, varies)
        settled = at_points[0]
        held = f'batch {settled["batch_size"]}' if varies == 'size' else f'{settled["size"]} pixels'
        what = 'resolution' if varies == 'size' else 'batch'
        axes.set_title(f'Cost against {what}, at {held}', fontsize=12)
    figure.axes[0].legend(fontsize=9)
    _save(figure, path)


def _draw_cost(axes: Axes, rows: Sequence[Row], varies: str) -> None:
    for at, model in enumerate(dict.fromkeys(row['model'] for row in rows)):
        own = [row for row in rows if row['model'] == model]
        for task, style in (('training', '-'), ('inference', '--')):
            costs = [1000 / row[f'{task}_img_per_s'] for row in own]
            axes.plot(
                [row[varies] for row in own], costs, style,
                color=_SERIES[at], marker=_MARKERS[at], label=f'{model}, {task}',
            )  # fmt: skip
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(FixedLocator(sorted({row[varies] for row in rows})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter('{x:.0f}')
    _set_log_ticks(axes, 'y')
    axes.set_xlabel('pixels a side' if varies == 'size' else 'images a batch')
    axes.set_ylabel('milliseconds an image (log scale)')
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)


def draw_plan(rows: Sequence[Row], path: Path, title: str, caption: str) -> None:
    """Draw hours and efficiency against the number of GPUs.

    Args:
        rows: As :func:`tresnet_det.profiling.plan.plan` gives them, by ``gpus``.
        path: The PNG to write.
        title: What stands above.
        caption: What stands below: what the plan rests on.
    """
    figure = Figure(figsize=(14, 5.6), dpi=100, layout='constrained')
    _set_title(figure, title, caption)
    gpus = [row['gpus'] for row in rows]
    hours_axes, share_axes = figure.subplots(1, 2)
    ideal = [row['compute_seconds'] / row['step_seconds'] * row['hours'] for row in rows]
    hours_axes.plot(gpus, ideal, '--', color=_OTHERS, label='without communication')
    for axes, key in ((hours_axes, 'hours'), (share_axes, 'efficiency')):
        axes.plot(gpus, [row[key] for row in rows], 'o-', color=_OURS, label='planned')
        low, high = ([row[f'{key}_{end}'] for row in rows] for end in ('min', 'max'))
        axes.fill_between(gpus, low, high, color=_OURS, alpha=0.2, label='all or none of it hidden')
        axes.set_xscale('log', base=2)
        axes.xaxis.set_major_locator(FixedLocator(gpus))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter('{x:.0f}')
        axes.set_xlabel('GPUs (log scale)')
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    _set_log_ticks(hours_axes, 'y')
    hours_axes.set_ylabel('hours (log scale)')
    hours_axes.set_title('Hours of training', fontsize=12)
    hours_axes.legend()
    share_axes.set_ylim(0, 1.05)
    share_axes.set_title('Share of the time that computes', fontsize=12)
    _save(figure, path)


def _set_log_ticks(axes: Axes, which: str) -> None:
    """A logarithmic axis with plain numbers at 1, 2, 5, 10, ..."""
    (axes.set_xscale if which == 'x' else axes.set_yscale)('log', subs=[2, 5])
    axis = axes.xaxis if which == 'x' else axes.yaxis
    axis.set_major_formatter('{x:g}')
    axis.set_minor_formatter('{x:g}')


def _set_title(figure: Figure, title: str, caption: str) -> None:
    figure.suptitle(title, fontsize=14, weight='bold')
    figure.supxlabel(caption, fontsize=10, color='#444444')


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary, temporary.open('wb') as file:
        FigureCanvasAgg(figure).print_png(file)
