"""An image of a data set: classes, sizes of boxes against FCOS's levels, shapes, image sizes."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..errors import InputError
from ..evaluation.figures import DPI, add_head_and_legend, shorten
from ..readers.kinds import ERROR, WARNING
from .part import Part
from .report import DataReport

# Okabe and Ito's palette, and a line and a marker each, so that a grey print can be read.
_LOOKS = (('#0072B2', '-', 'o'), ('#D55E00', '--', 'x'), ('#009E73', ':', '+'),
          ('#CC79A7', '-.', 's'), ('#E69F00', '-', '^'), ('#56B4E9', '--', 'v'))  # fmt: skip
_UPRIGHT_FROM = 12  # so many names have no room side by side
_NAMED_CLASSES = 100  # more have no room for their names
_LOG_FROM = 30  # of the largest to the smallest count
_NAMED_FINDINGS = 8  # of a level; more have no room beside the legend
_RATIOS = np.exp2((np.arange(-24, 26) - 0.5) / 6)  # edges of bins, with 1 in the middle of one


def draw_data(report: DataReport, out_path: str | Path, title: str = 'Data') -> None:
    """Draw how the splits of a data set are made up.

    Where they have boxes: the boxes of each class, how far a point at a box's centre regresses
    after the resize, the boxes' shapes and the images' sizes. Otherwise the labels of each class,
    and the images' shapes and sizes. At the bottom right stands what was found.

    Args:
        report: What the check found.
        out_path: The PNG to write.
        title: What stands above.

    Raises:
        InputError: No split could be read.
    """
    parts = report.parts
    if not parts:
        raise InputError('There is no split to draw: none could be read.')
    boxed = [part for part in parts if part.split.boxes is not None]
    figure = Figure(figsize=(15, 9), dpi=DPI)
    upright = len(parts[0].split.classes) > _UPRIGHT_FROM
    grid = figure.add_gridspec(
        2,
        3 if boxed else 2,
        left=0.055,
        right=0.985,
        top=0.88,
        bottom=0.11,
        wspace=0.2,
        hspace=0.55 if upright else 0.3,
    )
    looks = {part.split.name: _LOOKS[i % len(_LOOKS)] for i, part in enumerate(parts)}
    _draw_classes(figure.add_subplot(grid[0, :]), parts, looks)
    lower = [figure.add_subplot(grid[1, i]) for i in range(grid.ncols)]
    if boxed:
        _draw_levels(lower[0], boxed, report, looks)
    _draw_shapes(lower[-2], boxed or parts, looks, bool(boxed))
    _draw_sizes(lower[-1], parts, looks)
    handles = [
        Patch(facecolor=looks[name][0], label=shorten(name)) for name in list(looks)[: len(_LOOKS)]
    ]
    add_head_and_legend(figure, title, _count(parts), handles)
    figure.text(
        0.985, 0.06 / figure.get_figheight(), _name_findings(report), fontsize=8, va='bottom',
        ha='right', linespacing=1.4, color='#B00020' if report.failed else '#404040',
    )  # fmt: skip
    FigureCanvasAgg(figure).print_png(str(out_path))


def _count(parts: Sequence[Part]) -> str:
    words = []
    for part in parts:
        split = part.split
        what = 'labels' if split.boxes is None else 'boxes'
        empty = int((~split.annotated).sum())
        words.append(
            f'{shorten(split.name)}: {len(split.files)} images'
            + (f' ({empty} without annotation)' if empty else '')
            + f', {len(split.labels)} {what}'
        )
    return '; '.join(words)


def _name_findings(report: DataReport) -> str:
    """Return a line for the errors and one for the warnings: how many of what, and where."""
    lines = []
    for level in (ERROR, WARNING):
        found = [f for f in report.findings.sorted() if f.level == level]
        names = [f'{shorten(f.split)} {f.code} {f.count}' for f in found]
        more = len(names) - _NAMED_FINDINGS
        named = ', '.join(names[:_NAMED_FINDINGS]) + (f', ... {more} more' if more > 0 else '')
        if names:
            lines.append(f'{len(names)} {level}{"s" * (len(names) > 1)}: {named}')
    return '\n'.join(lines)


def _draw_classes(axes: Axes, parts: Sequence[Part], looks: dict) -> None:
    what = 'labels' if parts[0].split.boxes is None else 'boxes'
    names = parts[0].split.classes
    counts = {part.split.name: part.split.class_counts() for part in parts}
    if len(names) <= _NAMED_CLASSES and all(part.split.classes == names for part in parts):
        width = 0.85 / len(parts)
        for i, (split, values) in enumerate(counts.items()):
            places = np.arange(len(values)) + (i - (len(parts) - 1) / 2) * width
            axes.bar(places, values, width, color=looks[split][0])
        axes.set_xticks(
            range(len(names)),
            [shorten(name, 18) for name in names],
            rotation=90 if len(names) > _UPRIGHT_FROM else 0,
            fontsize=7.5 if len(names) > _UPRIGHT_FROM else 9,
        )
        axes.set_xlim(-0.6, len(names) - 0.4)
        heading = f'{what.capitalize()} of each class'
    else:
        for split, values in counts.items():
            colour, line, _ = looks[split]
            axes.plot(1 + np.arange(len(values)), np.sort(values)[::-1], line, color=colour)
        axes.set_xlabel('rank of the class')
        heading = f'{what.capitalize()} of each class, from the most frequent to the rarest'
    there = np.concatenate([values[values > 0] for values in counts.values()])
    if len(there) and there.max() > _LOG_FROM * there.min():
        axes.set_yscale('log')
        axes.set_ylim(bottom=0.7)  # a class with one is seen, one with none is not
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    empty = [f'{(v == 0).sum()} in {shorten(s)}' for s, v in counts.items() if (v == 0).any()]
    axes.set_title(heading + (f' (none of {", ".join(empty)})' if empty else ''), loc='left')
    axes.set_ylabel(what)
    _tidy(axes)


def _draw_levels(axes: Axes, parts: Sequence[Part], report: DataReport, looks: dict) -> None:
    """Draw the distance that a point at a box's centre regresses, over the levels' ranges."""
    ranges, view = report.view.ranges, report.view
    distances = {part.split.name: part.sides.max(1) / 2 for part in parts}
    values = np.concatenate(list(distances.values()))
    low = 2.0 ** math.floor(math.log2(values.min())) if len(values) else 2.0
    high = 2.0 ** math.ceil(math.log2(values.max())) if len(values) else 1024.0
    ends = [end for _, end in ranges[:-1]]
    low, high = min(low, ends[0] / 4), max(high, ends[-1] * 2)
    bins = np.geomspace(low, high, 1 + 3 * round(math.log2(high / low)))
    for i, (start, stop) in enumerate(zip([low, *ends], [*ends, high], strict=True)):
        axes.axvspan(start, stop, color='#000000', alpha=0.07 if i % 2 else 0.0, linewidth=0)
        axes.text(
            math.sqrt(start * stop), 0.985, view.names()[i], ha='center', va='top', fontsize=9,
            transform=axes.get_xaxis_transform(), weight='bold',
        )  # fmt: skip
    top = 0.0
    for name, sizes in distances.items():
        colour, line, _ = looks[name]
        heights = 100 * np.histogram(sizes, bins)[0] / max(len(sizes), 1)
        axes.stairs(heights, bins, color=colour, linestyle=line, linewidth=1.6)
        top = max(top, heights.max())
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=16))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.18 * top or 1)  # room for the names
    axes.set_title("Half of the longer side of the boxes, and FCOS's levels", loc='left')
    axes.set_xlabel(f'pixels after the resize to {view.scale[0]} x {view.scale[1]}')
    axes.set_ylabel('% of the boxes')
    _tidy(axes)


def _draw_shapes(axes: Axes, parts: Sequence[Part], looks: dict, of_boxes: bool) -> None:
    for part in parts:
        sides = part.sides if of_boxes else _known(part)
        colour, line, _ = looks[part.split.name]
        ratios = np.clip(sides[:, 0] / sides[:, 1], _RATIOS[0], _RATIOS[-1])
        heights = 100 * np.histogram(ratios, _RATIOS)[0] / max(len(ratios), 1)
        axes.stairs(heights, _RATIOS, color=colour, linestyle=line, linewidth=1.6)
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f'{value:g}' if value >= 1 else f'1/{1 / value:g}')
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(_RATIOS[0], _RATIOS[-1])
    axes.set_ylim(bottom=0)
    what = 'boxes' if of_boxes else 'images'
    axes.set_title(f'Shape of the {what}', loc='left')
    axes.set_xlabel('width / height')
    axes.set_ylabel(f'% of the {what}')
    _tidy(axes)


def _draw_sizes(axes: Axes, parts: Sequence[Part], looks: dict) -> None:
    biggest = 0
    for part in parts:
        colour, _, marker = looks[part.split.name]
        sizes, counts = np.unique(_known(part), axis=0, return_counts=True)
        if not len(sizes):
            continue
        # The area of a mark grows with the share of the images.
        area = 14 + 500 * counts / counts.sum()
        axes.scatter(
            sizes[:, 0], sizes[:, 1], area, color=colour, marker=marker, alpha=0.55, linewidth=1
        )
        biggest = max(biggest, sizes.max())
    axes.set_xlim(0, 1.08 * biggest or 1)
    axes.set_ylim(0, 1.08 * biggest or 1)
    axes.set_title('Size of the images (the larger, the more)', loc='left')
    axes.set_xlabel('width in pixels')
    axes.set_ylabel('height in pixels')
    _tidy(axes)


def _known(part: Part) -> np.ndarray:
    """Return the images' sizes where they are known, ``(K, 2)``."""
    return part.sizes[~np.isnan(part.sizes).any(1)]


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
