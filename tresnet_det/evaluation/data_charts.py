"""Charts by matplotlib of what a dataset is made of: classes, shapes and sizes, split by split."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..errors import InputError, shorten
from .plots import LOOKS, label, label_axes, lettering, save_figure


def draw_data(report: Any, out_path: str | Path, title: str = 'Data') -> None:
    """Draw how the splits of a dataset are made up.

    Where they have boxes: the boxes of each class, how far a point at a box's centre regresses
    after the resize, the boxes' shapes and the images' sizes. Otherwise the labels of each class,
    and the images' shapes and sizes. At the bottom right stands what was found.

    Args:
        report: The ``DataReport`` of a check.
        out_path: The PNG to write.
        title: What stands above.

    Raises:
        InputError: No split could be read.
    """
    parts = report.parts
    if not parts:
        raise InputError('There is no split to draw: none could be read.')
    classes = [name for part in parts for name in part.split.classes]
    with lettering([title, *classes, *(part.split.name for part in parts)]):
        save_figure(_draw_data(report, title), out_path)


def _draw_data(report: Any, title: str) -> Figure:
    parts = report.parts
    boxed = [part for part in parts if part.split.boxes is not None]
    lower = 'LRS' if boxed else 'RS'  # levels, ratios, sizes
    figure = Figure(figsize=(15, 9), dpi=110, layout='constrained')
    panels: Any = figure.subplot_mosaic(';'.join(('A' * len(lower), lower)))
    looks = {part.split.name: LOOKS[n % len(LOOKS)] for n, part in enumerate(parts)}
    _plot_classes(panels['A'], parts, looks)
    if boxed:
        _plot_levels(panels['L'], boxed, report, looks)
    _plot_shapes(panels['R'], boxed or parts, looks)
    _plot_sizes(panels['S'], parts, looks)
    figure.suptitle(
        label(f'{title}: {_count(parts)}'), x=0.01, ha='left', fontsize=11, weight='bold'
    )
    handles = [Patch(fc=look[0], label=label(shorten(name))) for name, look in looks.items()]
    panels['A'].legend(
        handles=handles[: len(LOOKS)], ncols=len(LOOKS), frameon=False,
        loc='lower right', bbox_to_anchor=(1, 1), borderaxespad=0,
    )  # fmt: skip
    colour = '#B00020' if report.failed else '#404040'
    found = '\n'.join(map(label, _name_findings(report)))
    figure.supxlabel(found, x=0.99, ha='right', fontsize=9, color=colour)
    return figure


def _count(parts: Sequence[Any]) -> str:
    words = []
    for part in parts:
        split = part.split
        what = 'labels' if split.boxes is None else 'boxes'
        empty = int((~split.annotated).sum())
        without = f' ({empty} without annotation)' if empty else ''
        images = f'{len(split.files)} images{without}'
        words.append(f'{shorten(split.name)} {images}, {len(split.labels)} {what}')
    return '; '.join(words)


def _name_findings(report: Any, most: int = 8) -> list[str]:
    """Return a line for the errors and one for the warnings: how many of what, and where."""
    lines = []
    for level in ('error', 'warning'):
        found = [f for f in report.findings.sorted() if f.level == level]
        names = [f'{shorten(f.split)} {f.code} {f.count}' for f in found]
        more = f', ... {len(names) - most} more' * (len(names) > most)
        if names:
            named = ', '.join(names[:most])
            lines.append(f'{len(names)} {level}{"s" * (len(names) > 1)}: {named}{more}')
    return lines


def _plot_classes(axes: Axes, parts: Sequence[Any], looks: dict) -> None:
    what = 'labels' if parts[0].split.boxes is None else 'boxes'
    names = parts[0].split.classes
    counts = {part.split.name: part.split.class_counts() for part in parts}
    title, x_label = f'{what.capitalize()} of each class', ''
    if len(names) <= 100 and all(part.split.classes == names for part in parts):
        width = 0.85 / len(parts)
        for n, (split, values) in enumerate(counts.items()):
            places = np.arange(len(values)) + (n - (len(parts) - 1) / 2) * width
            axes.bar(places, values, width, color=looks[split][0])
        upright: Any = dict(rotation=90, fontsize=7.5) if len(names) > 12 else {}
        axes.set_xticks(range(len(names)), [label(shorten(n, 18)) for n in names], **upright)
        axes.set_xlim(-0.6, len(names) - 0.4)
    else:  # no room for the names, or they differ
        for split, values in counts.items():
            colour, line, _ = looks[split]
            axes.plot(1 + np.arange(len(values)), np.sort(values)[::-1], line, color=colour)
        title, x_label = f'{title}, from the most to the least frequent', 'rank of the class'
    there = np.concatenate([values[values > 0] for values in counts.values()])
    if len(there) and there.max() > 30 * there.min():
        axes.set_yscale('log')
        axes.set_ylim(bottom=0.7)  # a class with one object is seen, one with none is not
        axes.yaxis.set_major_formatter('{x:g}')
    empty = [
        f'{(v == 0).sum()} in {label(shorten(s))}' for s, v in counts.items() if (v == 0).any()
    ]
    label_axes(axes, title + (f' (none of {", ".join(empty)})' if empty else ''), x_label, what)


def _plot_levels(axes: Axes, parts: Sequence[Any], report: Any, looks: dict) -> None:
    """Plot the distance that a point at a box's centre regresses, over the levels' ranges."""
    view = report.view
    distances = {part.split.name: part.sides.max(1) / 2 for part in parts}
    values = np.concatenate(list(distances.values()))
    ends = [end for _, end in view.ranges[:-1]]
    low = min(2.0 ** math.floor(math.log2(values.min(initial=2))), ends[0] / 4)
    high = max(2.0 ** math.ceil(math.log2(values.max(initial=2))), ends[-1] * 2)
    bins = np.geomspace(low, high, 1 + 3 * round(math.log2(high / low)))
    label_axes(
        axes,
        "Half of the longer side of the boxes, and FCOS's levels",
        f'pixels after the resize to {view.scale[0]} x {view.scale[1]}',
        '% of the boxes',
    )
    top = _plot_shares(axes, distances, bins, looks)
    axes.set_ylim(0, 1.18 * top or 1)  # room for the names
    for n, (start, stop) in enumerate(zip([low, *ends], [*ends, high], strict=True)):
        axes.axvspan(start, stop, color='black', alpha=0.07 * (n % 2), linewidth=0)
        axes.text(
            math.sqrt(start * stop), 0.985, view.names()[n], ha='center', va='top', fontsize=9,
            transform=axes.get_xaxis_transform(), weight='bold',
        )  # fmt: skip


def _plot_shapes(axes: Axes, parts: Sequence[Any], looks: dict) -> None:
    what = 'images' if parts[0].split.boxes is None else 'boxes'
    sides = {p.split.name: p.sides if what == 'boxes' else _known_sizes(p) for p in parts}
    bins = np.exp2((np.arange(-24, 26) - 0.5) / 6)  # with 1 in the middle of one
    ratios = {split: np.clip(s[:, 0] / s[:, 1], bins[0], bins[-1]) for split, s in sides.items()}
    label_axes(axes, f'Shape of the {what}', 'width / height', f'% of the {what}')
    _plot_shares(axes, ratios, bins, looks)
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f'{value:g}' if value >= 1 else f'1/{1 / value:g}')
    )


def _plot_shares(
    axes: Axes, values: Mapping[str, np.ndarray], bins: np.ndarray, looks: dict
) -> float:
    """Plot a histogram of each split on a base-2 axis, in per cent; returns the highest bar."""
    top = 0.0
    for split, of_split in values.items():
        colour, line, _ = looks[split]
        heights = 100 * np.histogram(of_split, bins)[0] / max(len(of_split), 1)
        axes.stairs(heights, bins, color=colour, linestyle=line, linewidth=1.6)
        top = max(top, heights.max())
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=16))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(bins[0], bins[-1])
    axes.set_ylim(bottom=0)
    return top


def _plot_sizes(axes: Axes, parts: Sequence[Any], looks: dict) -> None:
    title = 'Size of the images (larger where more)'
    label_axes(axes, title, 'width in pixels', 'height in pixels')
    biggest = 0.0
    for part in parts:
        colour, _, marker = looks[part.split.name]
        sizes, counts = np.unique(_known_sizes(part), axis=0, return_counts=True)
        area = 14 + 500 * counts / max(counts.sum(), 1)
        widths, heights = sizes.T
        axes.scatter(widths, heights, area, color=colour, marker=marker, alpha=0.55, linewidth=1)
        biggest = max(biggest, sizes.max(initial=0))
    axes.set(xlim=(0, 1.08 * biggest or 1), ylim=(0, 1.08 * biggest or 1))


def _known_sizes(part: Any) -> np.ndarray:
    """Return the images' sizes where they are known, ``(K, 2)``."""
    return part.sizes[~np.isnan(part.sizes).any(1)]
