"""Charts of an evaluation, by matplotlib: confusion, curves over scores, calibration.

What is written has its numbers as CSV next to the chart.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import shorten
from .measures import RECALLS, Calibration, Curve
from .pages import write_csv
from .plots import LOOKS, label, label_axes, lettering, save_figure
from .report import format_threshold, unlike

MOST_NUMBERS, MOST_NAMES = 25, 80  # classes of which counts, or names, can be read
MOST_LINES = 20  # classes of which each has a line, next to that of all


def _start(title: str, x: str, y: str) -> tuple[Any, Axes]:
    figure = Figure(figsize=(5.6, 4.2), dpi=120)
    axes = figure.add_axes((0.11, 0.12, 0.86, 0.8))  # a layout would draw all twice
    label_axes(axes, title, x, y)
    return figure, axes


def write_matrix(
    folder: Path,
    stem: str,
    matrix: np.ndarray,
    names: Sequence[str],
    sides: tuple[str, str] = ('prediction', 'ground truth'),
    title: str | None = None,
) -> None:
    """Write a matrix of counts; without a title, the shares of its rows too, which are its colours.

    See :func:`draw_confusion`.
    """
    most = matrix.max(initial=0) if title else matrix.sum(1, keepdims=True)
    shares = matrix / np.maximum(most, 1)
    for name, values in ((stem, matrix), (f'{stem}_normalised', shares))[: 1 if title else 2]:
        rows = zip(names, values.tolist(), strict=True)
        corner = unlike('', names)  # a class may be called nothing
        table = [dict(zip([corner, *names], [n, *row], strict=True)) for n, row in rows]
        write_csv(folder / f'{name}.csv', table)
    title = title or 'Counts; colour: share of the row'
    draw_confusion(matrix, shares, names, folder / f'{stem}.png', sides, title)


def draw_confusion(
    matrix: np.ndarray,
    shares: np.ndarray,
    names: Sequence[str],
    out_path: Path,
    sides: tuple[str, str],
    title: str,
) -> None:
    """Draw a matrix of counts, which are written where there is room.

    Args:
        matrix: ``(N, N)`` of counts, by ground truth and prediction.
        shares: ``(N, N)`` in [0, 1], drawn as colours.
        names: Of rows and columns.
        out_path: The PNG to write.
        sides: What the columns and the rows are.
        title: What it shows.
    """
    count = len(names)
    side = min(2.2 + 0.28 * count, 15)  # inches of the matrix
    short = [label(shorten(name, 18)) for name in names]
    margin = 0.55 + 0.09 * max(map(len, short)) * (count <= MOST_NAMES)
    with lettering(names):
        whole = side + margin + 0.3
        figure = Figure(figsize=(whole, whole), dpi=100)
        axes = figure.add_axes((margin / whole, margin / whole, side / whole, side / whole))
        label_axes(axes, title, *sides)
        axes.grid(False)
        axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
        if count <= MOST_NAMES:
            small = 9 if count <= MOST_NUMBERS else 6
            axes.set_xticks(range(count), short, rotation=90, fontsize=small)
            axes.set_yticks(range(count), short, fontsize=small)
        for row, column in np.argwhere(matrix) if count <= MOST_NUMBERS else ():
            ink = 'white' if shares[row, column] > 0.5 else 'black'
            number = f'{matrix[row, column]}'
            axes.text(column, row, number, ha='center', va='center', fontsize=9, color=ink)
        save_figure(figure, out_path)


def draw_scores(of_all: Curve, threshold: float | None, out_path: Path) -> None:
    """Draw precision, recall and F1 over the score from which on predictions are taken.

    Args:
        of_all: The curve of all classes together.
        threshold: The one that is proposed.
        out_path: The PNG to write.
    """
    figure, axes = _start('Precision, recall and F1 of all classes', 'score threshold', '')
    for (name, values), (colour, line, _) in zip(
        (('precision', of_all.precision), ('recall', of_all.recall), ('F1', of_all.f1)),
        LOOKS,
        strict=False,
    ):
        axes.plot(of_all.threshold, values, line, color=colour, label=name, linewidth=2)
    if threshold is not None:
        axes.axvline(
            threshold, color='grey', linewidth=1, label=f'chosen: {format_threshold(threshold)}'
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.03))
    axes.legend()
    save_figure(figure, out_path)


def draw_precision_recall(
    of_all: np.ndarray, by_class: np.ndarray, names: Sequence[str], out_path: Path
) -> None:
    """Draw precision over recall, a line for each class where they are few.

    Args:
        of_all: ``(101,)``, at `RECALLS`.
        by_class: ``(classes, 101)``; NaN where there is no ground truth.
        names: Of the classes.
        out_path: The PNG to write.
    """
    rows = [n for n in np.argsort(by_class.mean(1)) if not np.isnan(by_class[n]).any()]
    with lettering(names):
        figure, axes = _start('Precision over recall', 'recall', 'precision')
        for place, n in enumerate(rows[:MOST_LINES]):
            colour, line, _ = LOOKS[place % len(LOOKS)]
            named: Any = dict(label=label(shorten(names[n], 16))) if place < len(LOOKS) - 1 else {}
            axes.plot(RECALLS, by_class[n], line, color=colour, alpha=0.7, linewidth=1, **named)
        axes.plot(RECALLS, of_all, color='black', linewidth=2.4, label='all classes')
        axes.set(xlim=(0, 1), ylim=(0, 1.03))
        axes.legend(fontsize=8, title='worst classes first' if len(rows) > 1 else None)
        save_figure(figure, out_path)


def write_calibration(folder: Path, found: Calibration) -> None:
    """Write ``calibration.csv`` and ``calibration.png``."""
    write_csv(folder / 'calibration.csv', found.rows())
    draw_calibration(found, folder / 'calibration.png')


def draw_calibration(found: Calibration, out_path: Path) -> None:
    """Draw how often predictions of a score are right."""
    figure, axes = _start(
        f'Reliability (expected calibration error {found.error:.3f})',
        'mean score',
        'share of right predictions',
    )
    there = found.found > 0
    axes.plot((0, 1), (0, 1), ':', color='grey', label='well calibrated')
    axes.bar(
        found.edges[:-1][there],
        found.right[there],
        np.diff(found.edges)[there],
        align='edge',
        color=LOOKS[0][0],
        alpha=0.35,
        edgecolor='white',
    )
    what = 'these predictions, and how many'
    axes.plot(found.score[there], found.right[there], 'o-', color=LOOKS[0][0], label=what)
    for x, y, count in zip(found.score[there], found.right[there], found.found[there], strict=True):
        axes.annotate(f'{count}', (x, y), (0, 6), textcoords='offset points', fontsize=7)
    axes.set(xlim=(0, 1), ylim=(0, 1.08))
    axes.legend(fontsize=8)
    save_figure(figure, out_path)
