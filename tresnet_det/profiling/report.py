"""What a measurement leaves behind: tables in the terminal, a CSV file, safely replaced."""

import contextlib
import csv
import datetime
import os
import platform
import shlex
import subprocess
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
# Of nvidia-smi.
_GPU_STATE = (
    'driver_version', 'clocks.sm', 'clocks.max.sm', 'clocks.mem', 'temperature.gpu', 'power.limit',
)  # fmt: skip


class Column(NamedTuple):
    """A column of a printed table.

    Attributes:
        heading: What stands above.
        key: Of the rows; ``KEY_min`` and ``KEY_max`` are shown with it where they are there.
        scale: By which the value is divided.
        unit: Directly behind the value.
    """

    heading: str
    key: str
    scale: float = 1
    unit: str = ''


def describe(settings: Settings) -> dict[str, str]:
    """Return on what and how it is measured, one short text for each heading."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    threads = torch.get_num_threads()
    versions = [f'python {platform.python_version()}']
    for library in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f'{library} {version(library)}')
    device, precision, state = 'cpu', settings.precision, {}
    if settings.device.type == 'cuda':
        state = {'state': gpu_state(settings.device)}
        device = torch.cuda.get_device_name(settings.device)
        versions += [f'CUDA {torch.version.cuda}', f'cuDNN {torch.backends.cudnn.version()}']
        if precision == 'fp32' and torch.backends.cudnn.allow_tf32:
            precision = 'fp32, convolutions in TF32'
    if settings.precision != 'fp32':
        precision += ' by autocast, weights in fp32'
    return {
        'machine': f'{_cpu_model()}, {cores} of {os.cpu_count()} cores, {threads} '
        f'thread{"s" * (threads > 1)}',
        'device': device,
        **state,
        'versions': ', '.join(versions),
        'precision': precision,
        'layout': settings.layout,
        'compile': 'torch.compile' if settings.compile else 'no (eager)',
        'folded norms': 'inference of ours and of NAME_folded' if settings.fuse else 'no',
        'batch size': str(settings.batch_size),
        'rounds': f'{settings.rounds} of at least {settings.min_seconds:g} s, interleaved; '
        'median (smallest - largest)',
        'date': datetime.date.today().isoformat(),
        'command': shlex.join(['python', *sys.argv]),
    }


def gpu_state(device: torch.device) -> str:
    """Return driver, clocks, temperature and power limit of a GPU as they are now."""
    uuid = getattr(torch.cuda.get_device_properties(device), 'uuid', None)  # torch has it from 2.5
    name = f'GPU-{uuid}' if uuid else device.index or 0
    query = [f'--id={name}', f'--query-gpu={",".join(_GPU_STATE)}', '--format=csv,noheader']
    try:
        done = subprocess.run(
            ['nvidia-smi', *query], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f'unknown: {type(error).__name__} of nvidia-smi'
    values = done.stdout.strip().split(', ')
    return ', '.join(f'{n} {v}' for n, v in zip(_GPU_STATE, values, strict=False))


def caption(settings: Settings) -> str:
    """Return device and settings in a line, to stand under a chart."""
    header = describe(settings)
    device = header['machine'] if header['device'] == 'cpu' else header['device']
    mode = ', compiled' if settings.compile else ''
    return f'{device}, {settings.precision}, {settings.layout}{mode}'


def _cpu_model() -> str:
    """Return the name of the CPU, as well as the system knows it."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def format_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Lay the rows out under their headings; a column that no row has is skipped."""
    columns = [c for c in columns if any(row.get(c.key) is not None for row in rows)]
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
    text = three_digits(value if column.scale == 1 else value / column.scale) + column.unit
    low, high = (row.get(f'{column.key}_{end}') for end in ('min', 'max'))
    if low is not None and high is not None:
        text += f' ({three_digits(low / column.scale)} - {three_digits(high / column.scale)})'
    return text


def three_digits(value: float) -> str:
    """Write a value with three digits, or all those before the point."""
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
