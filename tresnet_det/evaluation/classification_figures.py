"""Images of what a classifier says: beneath each its classes, their scores and what is true."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch, Rectangle

from ..errors import InputError
from .accuracy import check_not_nan
from .figures import (
    DPI,
    RIGHT,
    WRONG,
    add_head_and_legend,
    is_small,
    open_image,
    shorten,
    show_image,
)


class Verdict(NamedTuple):
    """How a class is told apart: by its mark, and by the colour and the line of its bar."""

    mark: str
    edgecolor: str
    linestyle: Any  # as matplotlib takes it


# Okabe and Ito's colours, as in the images of detections.
FOUND = Verdict('\N{CHECK MARK}', **RIGHT)
FALSE = Verdict('\N{BALLOT X}', **WRONG)
MISSED = Verdict('\N{WHITE CIRCLE}', '#CC79A7', ':')
UNKNOWN = Verdict('?', '#909090', '-')
OTHER = Verdict('', '#B8B8B8', '-')  # of one label per image: neither true nor the surest
PLAIN = Verdict('', **RIGHT)  # without truth


class Line(NamedTuple):
    """What is said of one class of an image."""

    verdict: Verdict
    label: int
    score: float


# Inches.
GAP = 0.14
LINE_HEIGHT = 0.19
MARK_WIDTH = 0.16
SCORE_WIDTH = 0.32
HEAD_HEIGHT = 0.8
LEGEND_HEIGHT = 0.5

FONT_SIZE = 7.5
MOST_LINES = 12  # of one image


def draw_classifications(
    image_paths: Sequence[str | Path],
    scores: np.ndarray,
    labels: np.ndarray | None,
    class_names: Sequence[str],
    out_path: str | Path,
    multi_label: bool,
    threshold: float = 0.5,
    top: int = 3,
    limit: int = 24,
    title: str | None = None,
) -> None:
    """Draw a sheet of images with the classes that a classifier gives them.

    Each class has a mark, a score and a bar as long as the score. Where an image has one label,
    the surest classes are listed beneath the true one; where it has any number, those that are
    predicted, and those that are missed. A label of unknown truth counts neither for nor against.

    Args:
        image_paths: Image files.
        scores: ``(N, classes)`` in [0, 1].
        labels: Class numbers, ``(N,)``; with ``multi_label``, ``(N, classes)`` with 1 for there, 0
            for not there and -1 for unknown. None draws the predictions alone.
        class_names: Name of each class.
        out_path: The PNG to write.
        multi_label: Whether an image has any number of labels.
        threshold: With ``multi_label``, a label is predicted above it, as in `MultiLabelMetric`.
        top: Without it, this many of the surest classes are listed.
        limit: At most this many images, the first ones.
        title: What the sheet shows; the line below it counts images and what is right.

    Raises:
        InputError: There is no image or one that does not decode, a score is NaN, or the
            arguments do not fit together.
        MissingFileError: An image is not there.
    """
    scores = np.asarray(scores, dtype=np.float32)
    has_truth = labels is not None
    labels = None if labels is None else np.asarray(labels)
    _check(image_paths, scores, labels, class_names, multi_label)

    paths = [Path(path) for path in image_paths[:limit]]
    truths: Any = [None] * len(paths) if labels is None else labels[: len(paths)]
    if multi_label:
        judged = [judge_labels(*pair, threshold) for pair in zip(scores, truths, strict=False)]
        line = _count_labels(judged, threshold, has_truth)
        legend = {FOUND: 'found', FALSE: 'wrong', MISSED: 'missed'}
        if any(line.verdict is UNKNOWN for lines in judged for line in lines):
            legend[UNKNOWN] = 'truth not known'
    else:
        judged = [judge_top(*pair, top) for pair in zip(scores, truths, strict=False)]
        line = _count_top(judged, has_truth)
        legend = {FOUND: 'the true class', FALSE: 'the surest, but wrong', OTHER: 'other classes'}

    columns = 2 if multi_label else 1
    with_truth_line = has_truth and not multi_label
    images = [open_image(path, longest=600)[0] for path in paths]
    text_lines = [
        1 + with_truth_line + math.ceil(min(len(lines), MOST_LINES) / columns) for lines in judged
    ]
    figure, cells = _sheet(images, text_lines, multi_label)
    canvas = FigureCanvasAgg(figure)
    for i, (image_axes, text_axes) in enumerate(cells):
        show_image(image_axes, images[i])
        image_axes.set_anchor('SW')  # on the text, and at its left
        cell = _Cell(text_axes, canvas.get_renderer())
        cell.write_heading(_ends(paths[i].name), color='#606060')
        if with_truth_line:
            cell.write_heading(_starts(f'truth: {class_names[truths[i]]}'), weight='bold')
        cell.write_lines(judged[i], class_names, columns)
    heading = title or ('Truth and predictions' if has_truth else 'Predictions')
    add_head_and_legend(figure, heading, line, _handles(legend) if has_truth else [])
    canvas.print_png(str(out_path))


def judge_top(scores: np.ndarray, label: int | None, top: int = 3) -> list[Line]:
    """List the surest classes of an image with one label; of equal scores, the lower number first.

    Args:
        scores: ``(classes,)``.
        label: The true class; None where it is not known.
        top: How many.
    """
    lines = []
    for rank, number in enumerate(np.argsort(-scores, kind='stable')[:top].tolist()):
        if label is None:
            verdict = OTHER if rank else PLAIN
        elif number == label:
            verdict = FOUND
        else:
            verdict = OTHER if rank else FALSE
        lines.append(Line(verdict, number, float(scores[number])))
    return lines


def judge_labels(
    scores: np.ndarray, truth: np.ndarray | None, threshold: float = 0.5
) -> list[Line]:
    """List the predicted labels of an image, then the missed ones, the surest first.

    Args:
        scores: ``(classes,)`` of float32.
        truth: ``(classes,)`` with 1 for there, 0 for not there, -1 for unknown; None without truth.
        threshold: A label is predicted above it, as in ``MultiLabelMetric``.
    """
    predicted, missed = [], []
    # In the precision of the scores: 0.3 in float32 is above 0.3.
    is_predicted = scores > np.float32(threshold)
    for number in np.argsort(-scores, kind='stable').tolist():
        score = float(scores[number])
        if is_predicted[number]:
            verdict = PLAIN if truth is None else {1: FOUND, 0: FALSE, -1: UNKNOWN}[truth[number]]
            predicted.append(Line(verdict, number, score))
        elif truth is not None and truth[number] == 1:
            missed.append(Line(MISSED, number, score))
    return predicted + missed


def _check(
    paths: Sequence, scores: np.ndarray, labels: np.ndarray | None, names: Sequence, multi: bool
) -> None:
    if not len(paths):
        raise InputError('There is no image to draw: give at least one path.')
    if scores.shape != (len(paths), len(names)):
        raise InputError(
            f'scores must be (images, classes), here ({len(paths)}, {len(names)}), and are '
            f'{scores.shape}.'
        )
    check_not_nan(scores)
    if labels is None:
        return
    wanted = scores.shape if multi else scores.shape[:1]
    if labels.shape != wanted:
        raise InputError(
            f'labels must be {wanted} with multi_label={multi}, and are {labels.shape}.'
        )
    allowed = [1, 0, -1] if multi else range(len(names))
    bad = labels[~np.isin(labels, allowed)]
    if len(bad):
        raise InputError(
            f'The label {bad[0]} is not 1, 0 or -1.'
            if multi
            else f'The label {bad[0]} is none of the {len(names)} classes.'
        )


def _count_top(judged: list[list[Line]], has_truth: bool) -> str:
    line = _count_images(judged)
    if has_truth:
        line += f': {sum(lines[0].verdict is FOUND for lines in judged)} right'
    return line


def _count_labels(judged: list[list[Line]], threshold: float, has_truth: bool) -> str:
    verdicts = [line.verdict for lines in judged for line in lines]
    line = f'{_count_images(judged)}, labels predicted above the score {threshold:g}: '
    if not has_truth:
        return f'{line}{len(verdicts)}'
    counts = ((FOUND, 'found'), (FALSE, 'wrong'), (MISSED, 'missed'))
    return line + ', '.join(f'{verdicts.count(verdict)} {text}' for verdict, text in counts)


def _count_images(judged: list) -> str:
    return f'{len(judged)} image{"s" * (len(judged) > 1)}'


def _handles(legend: dict[Verdict, str]) -> list[Patch]:
    return [
        Patch(facecolor=verdict.edgecolor, label=f'{verdict.mark} {text}'.strip())
        for verdict, text in legend.items()
    ]


def _sheet(
    images: list[np.ndarray], text_lines: list[int], multi_label: bool
) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """An empty figure with, for each image, axes for it and below them axes for its text.

    Args:
        images: ``(H, W, 3)`` each.
        text_lines: How many lines each has; a row is as high as its longest text needs.
        multi_label: Whether the text has two columns.
    """
    small = all(is_small(pixels) for pixels in images)
    # width of a cell in inches, and how many there are at most beside each other
    width, most = ((2.2, 5) if small else (2.9, 4)) if multi_label else (1.7 if small else 2.1, 6)
    ratio = float(np.median([pixels.shape[0] / pixels.shape[1] for pixels in images]))
    height = width * min(max(ratio, 0.5), 1.3)
    rows = math.ceil(len(images) / most)
    across = math.ceil(len(images) / rows)  # full rows, as far as can be
    texts = [
        LINE_HEIGHT * max(text_lines[row * across : (row + 1) * across]) for row in range(rows)
    ]
    size = (
        max(6.5, GAP + across * (width + GAP)),  # room for the title
        HEAD_HEIGHT + rows * (height + GAP) + sum(texts) + LEGEND_HEIGHT,
    )
    figure = Figure(figsize=size, dpi=DPI)
    cells = []
    for i in range(len(images)):
        row, column = divmod(i, across)
        left = GAP + column * (width + GAP)
        bottom = size[1] - HEAD_HEIGHT - (row + 1) * height - row * GAP - sum(texts[:row])
        boxes = (left, bottom, width, height), (left, bottom - texts[row], width, texts[row])
        scaled = [(x / size[0], y / size[1], w / size[0], h / size[1]) for x, y, w, h in boxes]
        image_axes, text_axes = (figure.add_axes(box) for box in scaled)
        # data coordinates in inches, from the top
        text_axes.set(xlim=(0, width), ylim=(texts[row], 0))
        text_axes.set_axis_off()
        cells.append((image_axes, text_axes))
    return figure, cells


class _Cell:
    """The text beneath an image, written line by line from the top.

    Args:
        axes: Measured in inches, from the top.
        renderer: Tells how wide a text is.
    """

    def __init__(self, axes: Axes, renderer: RendererAgg) -> None:
        self.axes = axes
        self.width = axes.get_xlim()[1]
        self.y = 0.0
        self.renderer = renderer

    def write_heading(self, texts: Iterable[str], **style: str) -> None:
        """Write the first of the texts that fits into a line of its own."""
        self._write(0.02, self.y, self._first_fit(texts, self.width - 0.04, **style), **style)
        self.y += LINE_HEIGHT

    def write_lines(self, lines: list[Line], class_names: Sequence[str], columns: int) -> None:
        """Write lines into columns, one column after the other."""
        if not lines:
            self.write_heading(['no label'], style='italic', color='#606060')
            return
        shown = lines if len(lines) <= MOST_LINES else lines[: MOST_LINES - 1]
        per_column = math.ceil(min(len(lines), MOST_LINES) / columns)
        width = (self.width - GAP * (columns - 1)) / columns
        for i, line in enumerate(shown):
            column, row = divmod(i, per_column)
            self._write_line(
                line, class_names, column * (width + GAP), self.y + row * LINE_HEIGHT, width
            )
        if len(shown) < len(lines):
            column, row = divmod(len(shown), per_column)
            self._write(
                column * (width + GAP) + MARK_WIDTH,
                self.y + row * LINE_HEIGHT,
                f'and {len(lines) - len(shown)} more',
                style='italic',
            )

    def _write_line(
        self, line: Line, class_names: Sequence[str], x: float, y: float, width: float
    ) -> None:
        verdict, label, score = line
        corner, height = (x + MARK_WIDTH, y + 0.015), LINE_HEIGHT - 0.03
        room = width - MARK_WIDTH - SCORE_WIDTH
        length = room * min(max(score, 0), 1)
        colour = verdict.edgecolor
        self.axes.add_patch(
            Rectangle(corner, length, height, facecolor=colour, edgecolor='none', alpha=0.75)
        )
        frame = Rectangle(corner, room, height, fill=False, edgecolor=colour, linewidth=0.8)
        frame.set_linestyle(verdict.linestyle)
        self.axes.add_patch(frame)
        if verdict.mark:
            self._write(x, y, verdict.mark, fontsize=FONT_SIZE + 1)
        name = self._first_fit(_starts(class_names[label]), room - 0.06)
        self._write(x + MARK_WIDTH + 0.03, y, name)
        self._write(x + width, y, f'{score:.2f}', ha='right')

    def _write(self, x: float, y: float, text: str, **style: Any) -> None:
        style = {'fontsize': FONT_SIZE, 'va': 'center', 'parse_math': False, **style}
        self.axes.text(x, y + LINE_HEIGHT / 2, text, **style)

    def _first_fit(self, texts: Iterable[str], room: float, **style: str) -> str:
        font = FontProperties(size=FONT_SIZE, weight=style.get('weight'))
        for text in texts:  # noqa: B007  (the last one, where none fits)
            width, _, _ = self.renderer.get_text_width_height_descent(text, font, ismath=False)
            if width <= room * DPI:
                break
        return text


def _starts(text: str) -> Iterable[str]:
    """A text, and shorter and shorter beginnings of it."""
    yield text
    for length in range(len(text) - 1, 0, -1):
        yield f'{text[:length].rstrip()}\N{HORIZONTAL ELLIPSIS}'


def _ends(text: str) -> Iterable[str]:
    """A text, and shorter and shorter ends of it."""
    for length in range(max(len(text), 4), 3, -1):
        yield shorten(text, length)
