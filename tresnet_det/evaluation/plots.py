"""Charts by matplotlib: the curves of a training; colours and letters of all charts and images.

Made of matplotlib's objects, never by pyplot: no global state, no window, no backend to choose, so
that it works in a training process and in a notebook alike.

Names are data: no markup, no control characters, letters of any script. The font is DejaVu Sans,
which comes with matplotlib. Where it lacks a letter, a font of this machine that has it is taken;
where none has, the letter's number stands for it, and a line says so.
"""

import functools
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator

from ..errors import InputError, MissingFileError, few, printable
from ..files import replacing

# Okabe and Ito's palette, told apart with every kind of colour vision.
BLUE, ORANGE, GREEN, YELLOW = '#56B4E9', '#E69F00', '#009E73', '#F0E442'
PURPLE, RED, DARK_BLUE = '#CC79A7', '#D55E00', '#0072B2'
# A line and a marker each, so that a grey
# print can be read too.
LOOKS = ((DARK_BLUE, '-', 'o'), (RED, '--', 's'), (GREEN, ':', 'D'), (PURPLE, '-.', '^'),
         (ORANGE, '-', 'v'), (BLUE, '--', '<'), ('black', ':', '>'))  # fmt: skip
NO_METRIC = ('step', 'iter', 'epoch', 'time', 'data_time', 'memory')
MAIN_METRICS = ('mAP', 'mAP_50', 'mAP_75', 'top1', 'top5', 'CF1', 'OF1')
FONTS = Path(mpl.get_data_path(), 'fonts', 'ttf')
USUAL = str(FONTS / 'DejaVuSans.ttf')
_told: set[str] = set()  # letters without a font
_Series = dict[str, list[tuple[float, float]]]


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """Read ``vis_data/scalars.json``: one JSON object per line, the last one perhaps half written.

    Args:
        path: The file.

    Raises:
        MissingFileError: The file does not exist.
        InputError: A line is no JSON object.
    """
    if not Path(path).is_file():
        raise MissingFileError(f'{path} not found: mmengine writes it as vis_data/scalars.json.')
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
    """Draw losses, validation metrics and the learning rate, one panel each.

    Training records hold ``loss`` and its parts, ``lr`` and ``iter``; validation records hold
    the metrics (``coco/bbox_mAP``) and ``step``. A panel without data says so. Values that are
    not finite, and COCO's -1, are skipped.

    Args:
        records: Of a run, as :func:`read_records` gives them.
        out_path: The PNG to write.
        val_unit: ``epoch`` or ``iteration``, in which validation counts its steps.
        title: What stands above.

    Raises:
        InputError: The log holds neither losses nor metrics.
    """
    losses, metrics, rates = _split(records)
    if not (losses or metrics):
        raise InputError('The log holds no loss and no validation metric: has training begun?')
    with lettering([title, *losses, *metrics]):
        save_figure(_draw_curves(losses, metrics, rates, val_unit, title), out_path)


def _draw_curves(
    losses: _Series, metrics: _Series, rates: _Series, val_unit: str, title: str
) -> Figure:
    figure = Figure(figsize=(15, 4.6), dpi=100, layout='constrained')
    left, middle, right = figure.subplots(1, 3, width_ratios=(5, 5, 3))
    figure.suptitle(label(title), fontsize=13, weight='bold')
    _plot_series(left, losses, 'Training loss', 'iteration', 'loss')
    _plot_series(middle, metrics, 'Validation', val_unit, 'metric', marks=True)
    _plot_series(right, rates, 'Learning rate', 'iteration', 'learning rate')
    if metrics:
        name, points = next(iter(metrics.items()))
        x, y = max(points, key=lambda point: point[1])
        middle.axhline(y, color='grey', linewidth=0.8, linestyle=':', zorder=0)
        middle.set_title(f'Validation: best {label(name)} {y:.3f} at {val_unit} {x:g}', loc='left')
    for axes, series in ((left, losses), (right, rates)):
        values = [y for points in series.values() for _, y in points]
        if values and max(values) > 10 * min(values) > 0:
            axes.set_yscale('log')
            axes.yaxis.set_major_formatter('{x:g}')
            axes.set_ylabel(f'{axes.get_ylabel()} (log scale)')
    return figure


def _split(records: Sequence[Mapping[str, Any]]) -> tuple[_Series, _Series, _Series]:
    """Losses, the main validation metrics and learning rates by name, as (x, y) points."""
    losses: _Series = {'loss': []}  # the sum first
    metrics: _Series = {}
    rates: _Series = {}
    for record in records:
        training = 'loss' in record or 'lr' in record
        x = record.get('iter', record.get('step', 0)) if training else record.get('step', 0)
        for key, value in record.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                continue
            if not training and key not in NO_METRIC and value != -1:
                metrics.setdefault(key, []).append((x, value))
            elif training and 'loss' in key:
                losses.setdefault(key, []).append((x, value))
            elif training and key == 'lr':
                rates.setdefault(key, []).append((x, value))
    main = {key: points for key, points in metrics.items() if key.endswith(MAIN_METRICS)}
    few = dict(list((main or metrics).items())[: len(LOOKS)])
    return {key: points for key, points in losses.items() if points}, few, rates


def _plot_series(
    axes: Axes, series: _Series, title: str, x_label: str, y_label: str, marks: bool = False
) -> None:
    label_axes(axes, title, x_label, y_label)
    if not series:
        axes.text(0.5, 0.5, 'not in this log', ha='center', va='center', transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    axes.xaxis.set_major_locator(
        MaxNLocator('auto', steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    for n, (name, points) in enumerate(series.items()):
        colour, line, mark = LOOKS[n % len(LOOKS)]
        mark = mark if marks or len(points) < 3 else ''
        axes.plot(
            *zip(*sorted(points), strict=True), line, color=colour, marker=mark, markersize=4,
            label=label(name), linewidth=1.4 if n else 2,
        )  # fmt: skip
    axes.legend(fontsize=8)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a chart, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary)


def label_axes(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Give axes their names and a quiet grid."""
    axes.set_title(title, loc='left', fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)


@functools.cache
def _letters_of(font: str) -> frozenset[int]:
    try:
        opened = FT2Font(font)
    except (OSError, RuntimeError):  # what is no font that FreeType can read
        return frozenset()
    return frozenset(opened.get_charmap()) if opened.scalable else frozenset()


@functools.cache
def _find_font(letter: str) -> Any:
    """Return matplotlib's entry of the first upright font with a letter, None where none has it."""
    # That last one has a frame for every letter there is.
    entries = [e for e in font_manager.fontManager.ttflist if not e.name.startswith('Last Resort')]
    upright = sorted(entries, key=lambda e: (e.style != 'normal', str(e.weight) != '400'))
    return next((e for e in upright if ord(letter) in _letters_of(e.fname)), None)


def _find_lacking(text: str) -> list[str]:
    usual = _letters_of(USUAL)
    return [] if text.isascii() else [c for c in dict.fromkeys(text) if ord(c) not in usual]


def _escape(text: str, letters: Iterable[str]) -> str:
    new = [c for c in letters if c not in _told and _find_font(c) is None]
    if new:
        from mmengine.logging import print_log  # takes its time, and is seldom needed

        _told.update(new)
        line = f'no font on this machine has {few(new)}: install one, such as Noto Sans CJK'
        print_log(f'{line}; \\uNUMBER is drawn in their place', 'current', logging.WARNING)
    for letter in letters:
        text = text.replace(letter, letter.encode('unicode_escape').decode('ascii'))
    return text


def fit_letters(text: str) -> tuple[str, str]:
    """Return a name as Pillow can draw it, and the file of the font that has its letters."""
    text = printable(text)
    lacking = _find_lacking(text)
    for entry in filter(None, map(_find_font, lacking)):
        if {ord(c) for c in text} <= _letters_of(entry.fname):
            return text, entry.fname
    return _escape(text, lacking), USUAL


def label(text: str) -> str:
    """Return a name as matplotlib draws it as it is, within :func:`lettering`."""
    text = printable(text)
    text = _escape(text, [c for c in _find_lacking(text) if _find_font(c) is None])
    # What begins with an underscore is no entry of a legend, and what is between dollars is maths.
    return ('\u2009' * text.startswith('_') + text).replace('$', r'\$')


@contextmanager
def lettering(texts: Iterable[str]) -> Iterator[None]:
    """Let matplotlib draw these names by fonts that have their letters."""
    found = map(_find_font, _find_lacking(''.join(map(printable, texts))))
    families = dict.fromkeys(entry.name for entry in found if entry)
    with mpl.rc_context({'font.family': ['DejaVu Sans', *families]}):
        yield
