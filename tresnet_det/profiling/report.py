"""What a measurement leaves behind: tables in the terminal, a CSV file, safely replaced."""

import csv
import datetime
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..files import replacing
from .settings import Settings

MIB = 2**20
_LIBRARIES = ('torch', 'torchvision', 'timm', 'mmdet')
_CPU_INFO = Path('/proc/cpuinfo')


class Column(NamedTuple):
    """A column of a printed table.

    Attributes:
        heading: What stands above.
        key: Of the rows; ``KEY_min`` and ``KEY_max`` are shown with it where they are there.
        scale: By which the figure is divided.
        unit: Directly behind the figure.
    """

    heading: str
    key: str
    scale: float = 1
    unit: str = ''


def describe(settings: Settings) -> dict[str, str]:
    """Return on what and how the figures are measured, one short text for each heading."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    found = {'python': platform.python_version()} | {
        library: text for library in _LIBRARIES if (text := _version(library))
    }
    header = {
        'machine': f'{cpu_model()}, {cores} of {os.cpu_count()} cores, {threads()}',
        'device': 'cpu',
        'versions': ', '.join(f'{name} {text}' for name, text in found.items()),
        'precision': describe_precision(settings),
        'layout': settings.layout,
        'compile': 'torch.compile' if settings.compile else 'no (eager)',
        'folded norms': 'inference of ours' if settings.fuse else 'no',
        'batch size': str(settings.batch_size),
        'rounds': f'{settings.rounds} of at least {settings.min_seconds:g} s, interleaved; '
        'median (smallest - largest)',
        'date': datetime.date.today().isoformat(),
        'command': shlex.join(['python', *sys.argv]),
    }
    if settings.device.type == 'cuda':
        header['device'] = torch.cuda.get_device_name(settings.device)
        cudnn = torch.backends.cudnn
        header['versions'] += f', CUDA {torch.version.cuda}, cuDNN {cudnn.version()}'
    return header


def describe_precision(settings: Settings) -> str:
    """Return the precision and what it means here."""
    if settings.precision != 'fp32':
        return f'{settings.precision} by autocast, weights in fp32'
    if settings.device.type == 'cuda' and torch.backends.cudnn.allow_tf32:
        return 'fp32, convolutions in TF32'
    return 'fp32'


def caption(settings: Settings) -> str:
    """Return the machine and the settings in a line, to stand under a chart."""
    if settings.device.type == 'cuda':
        machine = torch.cuda.get_device_name(settings.device)
    else:
        machine = f'{cpu_model()}, {threads()}'
    mode = ', compiled' if settings.compile else ''
    return f'{machine}, {settings.precision}, {settings.layout}{mode}'


def threads() -> str:
    """Return how many threads torch computes with on the CPU."""
    count = torch.get_num_threads()
    return f'{count} thread{"s" * (count > 1)}'


def cpu_model() -> str:
    """Return the name of the CPU, as well as the system knows it."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def format_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Lay the rows out under their headings; a column that no row has is left out."""
    columns = [c for c in columns if any(c.key in row for row in rows)]
    lines = [[c.heading for c in columns], *([_cell(row, c) for c in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    texts = []
    for line in lines:
        cells = [
            cell.ljust(width) if isinstance(rows[0].get(column.key), str) else cell.rjust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        texts.append('  '.join(cells).rstrip())
    return '\n'.join(texts)


def _cell(row: Mapping[str, Any], column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return '-'
    if isinstance(value, str):
        return value
    text = figure(value if column.scale == 1 else value / column.scale) + column.unit
    low, high = (row.get(f'{column.key}_{end}') for end in ('min', 'max'))
    if low is not None and high is not None:
        text += f' ({figure(low / column.scale)} - {figure(high / column.scale)})'
    return text


def figure(value: float) -> str:
    """Write a figure with three digits, or all those before the point."""
    if isinstance(value, int) or value == 0:
        return f'{value:.0f}'
    digits = next(
        (d for d, least in ((0, 100), (1, 10), (2, 0.1), (3, 0.01)) if abs(value) >= least), 4
    )
    return f'{value:.{digits}f}'


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], header: Mapping[str, str]) -> None:
    """Write the rows under the header's lines, which begin with ``#`` as comments do."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as temporary, temporary.open('w', newline='', encoding='utf-8') as file:
        for name, text in header.items():
            file.write(f'# {name}: {text}\n')
        writer = csv.DictWriter(file, keys, lineterminator='\n')
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _rounded(value) for key, value in row.items()})


def _rounded(value: object) -> object:
    return float(f'{value:.10g}') if isinstance(value, float) else value
