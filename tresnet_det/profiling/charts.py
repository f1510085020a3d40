"""The charts of the measurements, as PNG files."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.plots import label, save_figure
from .report import three_digits

_OURS, _OTHERS = '#0072B2', '#8C8C8C'

Row = Mapping[str, Any]  # names and values by column


class Panel(NamedTuple):
    """A panel of bars.

    Attributes:
        key: Of the rows.
        title: Above the panel.
        unit: Below it.
        scale: By which the values are divided.
        ratio_key: Of the ratio to the first row, which stands next to the value.
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
        panels: Those without any value are skipped.
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
    names = [label(row['model']) for row in rows]
    all_axes[0].set_yticks(range(len(rows)), names, fontsize=11)
    all_axes[0].invert_yaxis()
    save_figure(figure, path)


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
    axes.set_xlim(0, 1.4 * max(values))  # room for the values behind the bars
    axes.set_title(panel.title, fontsize=12)
    axes.set_xlabel(panel.unit)
    axes.spines[['top', 'right']].set_visible(False)


def _bar_text(row: Row, panel: Panel) -> str:
    if row.get(panel.key) is None:
        return '-'
    text = three_digits(row[panel.key] / panel.scale)
    ratio = row.get(panel.ratio_key) if panel.ratio_key else None
    return text if ratio is None else f'{text}  (x {ratio:.2f})'


def draw_family(rows: Sequence[Row], path: Path, title: str, caption: str) -> None:
    """Draw published top-1 against measured training and inference speed, a line per family.

    Args:
        rows: With ``model``, ``size``, ``published_top1``, ``training_img_per_s`` and
            ``inference_img_per_s``.
        path: The PNG to write.
        title: Above the chart.
        caption: Below it: machine and settings.
    """
    families: dict[str, list[Row]] = {}
    for row in rows:
        ours = row['model'].startswith('tresnet')
        name = f'TResNet at {row["size"]} pixels' if ours else 'EfficientNet, at its own size'
        families.setdefault(name, []).append(row)
    figure = Figure(figsize=(14, 6), dpi=100, layout='constrained')
    _set_title(figure, title, caption)
    all_axes = figure.subplots(1, 2, sharey=True)
    for axes, task in zip(all_axes, ('training', 'inference'), strict=True):
        for name, members in families.items():
            xs = [row[f'{task}_img_per_s'] for row in members]
            axes.plot(xs, [row['published_top1'] for row in members], 'o-', label=name)
            for x, row in zip(xs, members, strict=True):
                short = row['model'].partition('@')[0].rpartition('_')[2].upper()
                axes.annotate(short, (x, row['published_top1']), xytext=(6, 4),
                              textcoords='offset points')  # fmt: skip
        axes.set_xscale('log', subs=[2, 5])
        axes.xaxis.set_major_formatter('{x:g}')
        axes.xaxis.set_minor_formatter('{x:g}')
        axes.set_title(f'{task.capitalize()}, measured here', fontsize=12)
        axes.set_xlabel('images/s (log scale)')
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel('published ImageNet top-1 (%), not measured here')
    all_axes[0].legend(loc='lower left')
    save_figure(figure, path)


def _set_title(figure: Figure, title: str, caption: str) -> None:
    figure.suptitle(label(title), fontsize=14, weight='bold')
    figure.supxlabel(caption, fontsize=10, color='#444444')
