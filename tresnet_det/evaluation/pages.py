"""A report as Markdown and as one HTML file that needs no network, from the same sections."""

import base64
import csv
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..compat.installed import tool_command
from ..errors import InputError, printable
from ..files import write_whole
from .bootstrap import Interval
from .report import format_cell

DIGITS = 3  # of a fraction in a table
LONGEST_TABLE = 25  # rows; the files next to the report have the others
WORST, DRAWN = 20, 12  # images that are listed, and drawn
SEE_IMAGES = f'Give {tool_command("evaluate")} ... --images DIR to see them.'
T = TypeVar('T')
_STYLE = """
:root { color-scheme: light dark; --line: #d8d8d8; --soft: #f3f4f6; --bar: #56B4E980; }
@media (prefers-color-scheme: dark) { :root { --line: #444; --soft: #24262b; --bar: #0072B2b0; }
  body { background: #17181c; color: #e6e6e6; } .chart { filter: invert(.9) hue-rotate(180deg); } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 68rem; padding: 1rem; }
h1 { font-size: 1.4rem; line-height: 1.3; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
h1, h2, p, li, figcaption { overflow-wrap: anywhere; }
.headline { font-size: 1.5rem; font-weight: 600; line-height: 1.3; }
.next { background: var(--soft); border-radius: .5rem; margin: 1rem 0;
  padding: .6rem 1rem; }
.next h2 { margin-top: 0; } li { margin: .3rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .6rem; text-align: right; }
th { white-space: nowrap; } td.text, th.text { text-align: left; } .figures { margin: .8rem 0; }
.bar { background: linear-gradient(90deg, var(--bar) var(--share), transparent var(--share)); }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit,
  minmax(min(100%, 27rem), 1fr)); } figure { margin: 0; } img { max-width: 100%; height: auto; }
figcaption { font-size: .85rem; }
@media (max-width: 40rem) { table { font-size: .8rem; } th { white-space: normal; }
  th, td { padding: .2rem .25rem; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: Its heading.
        lines: Paragraphs of plain text; of a list of steps, its items.
        rows: A table, all rows with the same keys; None is shown as ``-``.
        bars: The column of the table that is drawn as bars, too.
        charts: Files next to the report, each with what it shows.
        tiles: Drawn images, ``(H, W, 3)`` of uint8 in RGB, each with what stands beneath; Markdown
            has the sheet of them among the charts.
        steps: Whether the lines are steps to take.
    """

    title: str
    lines: Sequence[str] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    bars: str | None = None
    charts: Mapping[str, str] = field(default_factory=dict)
    tiles: Sequence[tuple[np.ndarray, str]] = ()
    steps: bool = False


def _describe(name: str, interval: Interval, images: int) -> str:
    """Return a metric with its interval, as a line."""
    value, low, high = interval
    if np.isnan(value):
        return f'{name}: not measured, since there is no ground truth ({images} images)'
    if np.isnan(low):
        return f'{name} {value:.3f} ({images} images: too few for an interval)'
    return f'{name} {value:.3f} (95 % interval {low:.3f} to {high:.3f}; {images} images)'


def _compare(name: str, intervals: Sequence[Interval]) -> Section:
    """Return what is said of other results, these, and the difference."""
    first, second, difference = intervals
    sure = difference.low > 0 or difference.high < 0
    verdict = (
        f'These results are {"better" if difference.value > 0 else "worse"}: the interval of the '
        'difference is on one side of 0.'
        if sure
        else 'No difference can be read from these images: '
        + ('they are too few.' if np.isnan(difference.low) else 'its interval includes 0.')
    )
    parts = ('other results', first), ('these results', second), ('difference', difference)
    rows = [{'': what, name: v, 'from': low, 'to': high} for what, (v, low, high) in parts]
    return Section('Compared with other results', [verdict], rows)


def write_report(
    folder: Path,
    title: str,
    name: str,
    images: int,
    intervals: Sequence[Interval],
    sections: Sequence[Section],
) -> str:
    """Write ``report.md`` and ``report.html``; the charts are in the folder already.

    Args:
        folder: Where both go.
        title: What was measured.
        name: Of the headline metric.
        images: How many were measured on.
        intervals: Of the metric, as :func:`~.bootstrap.find_intervals` gives them.
        sections: In the order in which they are read.

    Returns:
        The headline: the metric and its interval in one line, and in a second one the difference
        from other results.
    """
    headline = _describe(name, intervals[len(intervals) // 2], images)
    told = [headline]
    if len(intervals) > 1:
        sections = [_compare(name, intervals), *sections]
        value, low, high = intervals[-1]
        bounds = '' if np.isnan(low) else f' ({low:.3f} to {high:.3f})'
        told += [f'difference {value:+.3f}{bounds}. {sections[0].lines[0]}']
    title = printable(title)
    text = [f'# {title}', f'**{headline}**']
    for section in sections:
        text += [f'## {section.title}', *_markdown(section)]
    write_whole(folder / 'report.md', ('\n\n'.join(text) + '\n').encode())
    parts = [f'<h1>{html.escape(title)}</h1><p class="headline">{html.escape(headline)}</p>']
    for section in sections:
        frame = '<section class="next">' if section.steps else '<section>'
        parts.append(f'{frame}<h2>{html.escape(section.title)}</h2>{_html(section, folder)}')
    body = '\n'.join(f'{part}</section>' if n else part for n, part in enumerate(parts))
    page = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f'<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n'
        f'<body>\n{body}\n</body></html>\n'
    )
    write_whole(folder / 'report.html', page.encode(errors='backslashreplace'))
    return '\n'.join(told)


def draw_each(rows: Iterable[T], draw: Callable[[T], tuple]) -> tuple[list, list[str]]:
    """Return what is drawn of each, and a line for each whose image is not found or no image."""
    drawn, failures = [], []
    for row in rows:
        try:
            drawn.append(draw(row))
        except InputError as error:
            failures.append(f'Not drawn: {error}')
    return drawn, failures


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows with the same keys, unrounded; NaN and None are empty."""
    rows = list(rows)
    file = io.StringIO(newline='')
    writer = csv.writer(file)
    if rows:
        writer.writerow(rows[0])
    for row in rows:
        writer.writerow('' if v is None or v != v else v for v in row.values())
    write_whole(path, file.getvalue().encode(errors='backslashreplace'))


def _markdown(section: Section) -> list[str]:
    mark = '{}. {}' if section.steps else '{1}'
    lines = [mark.format(n, printable(line)) for n, line in enumerate(section.lines, 1)]
    parts = ['\n'.join(lines)] if section.steps else lines
    if section.rows:
        shown = section.rows[:LONGEST_TABLE]
        cells = [list(section.rows[0]), ['---'] * len(section.rows[0])]
        cells += [
            [format_cell(value, DIGITS).replace('|', r'\|') for value in row.values()]
            for row in shown
        ]
        parts.append('\n'.join(f'| {" | ".join(row)} |' for row in cells))
    parts += _rest(section)
    return parts + [f'![{what}]({name})' for name, what in section.charts.items()]


def _rest(section: Section) -> list[str]:
    more = len(section.rows) - LONGEST_TABLE
    return [f'and {more} more rows, in the files next to this report'] if more > 0 else []


def _html(section: Section, folder: Path) -> str:
    tag = 'li' if section.steps else 'p'
    text = ''.join(f'<{tag}>{html.escape(printable(line))}</{tag}>' for line in section.lines)
    parts = [f'<ol>{text}</ol>' if section.steps else text]
    table = [_table(section)] if section.rows else []
    table += [f'<p>{line}</p>' for line in _rest(section)]
    figures = [_figure(_encode(tile), caption) for tile, caption in section.tiles]
    for name, what in section.charts.items():
        if not (section.tiles and name.endswith('.jpg')):  # the sheet of the tiles
            data = base64.b64encode((folder / name).read_bytes()).decode()
            figures.append(_figure(f'image/png;base64,{data}', what, ' class="chart"'))
    shown = [f'<div class="figures">{"".join(figures)}</div>'] if figures else []
    return ''.join(parts + (shown + table if section.tiles else table + shown))


def _table(section: Section) -> str:
    keys = list(section.rows[0])
    kinds = [' class="text"' * isinstance(section.rows[0][key], str) for key in keys]
    most = max((row[section.bars] or 0 for row in section.rows), default=0) if section.bars else 0
    lines = ['<tr>' + ''.join(map('<th{}>{}</th>'.format, kinds, map(html.escape, keys)))]
    for row in section.rows[:LONGEST_TABLE]:
        looks = dict(zip(keys, kinds, strict=True))
        if most > 0 and section.bars:
            share = 100 * max(row[section.bars] or 0, 0) / most
            looks[section.bars] = f' class="bar" style="--share: {share:.0f}%"'
        cells = (html.escape(format_cell(value, DIGITS)) for value in row.values())
        lines.append('<tr>' + ''.join(map('<td{}>{}</td>'.format, looks.values(), cells)))
    return f'<div class="wide"><table>{"</tr>".join(lines)}</tr></table></div>'


def _figure(data: str, caption: str, kind: str = '') -> str:
    text = html.escape(printable(caption))
    image = f'<img{kind} alt="{text}" src="data:{data}">'
    return f'<figure>{image}<figcaption>{text}</figcaption></figure>'


def _encode(tile: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(tile).save(file, 'JPEG', quality=80)
    return f'image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}'
