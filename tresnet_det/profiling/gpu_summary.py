"""What a run of ``gpu.py`` comes to: its tables in Markdown, and the default backend on CUDA."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .gpu import Run
from .gpu_steps import BACKENDS, BASE, MODES
from .report import three_digits

_TABLES = {
    'memory': ('model', 'batch_size', 'peak_bytes_per_image', 'largest_batch', 'largest_tried'),
    'detectors': ('model', 'batch_size', 'training_img_per_s', 'training_ratio', 'peak_bytes'),
    'bccd': ('model', 'seed', 'val_map', 'seconds'),
    'skipped': ('what', 'why'),
}
_HEADINGS = {
    'memory': 'Largest training batch, peak memory',
    'detectors': 'FCOS, one training step at 2 x 800 x 1333',
    'bccd': 'FCOS on BCCD, from scratch',
    'skipped': 'Skipped',
}


class Speed(NamedTuple):
    """Training speed as a multiple of ResNet-50's in eager mode, with its spread."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f'{self.ratio:.2f} ({self.low:.2f} - {self.high:.2f})'


def training_speeds(rows: Sequence[dict[str, str]]) -> dict[tuple[str, str], Speed]:
    """Return the speeds by model and mode, at the largest batch that was measured."""
    rows = [row for row in rows if row.get('training_ratio')]
    largest = max((int(row['batch_size']) for row in rows), default=0)
    keys = [f'training_ratio{end}' for end in ('', '_min', '_max')]
    return {
        (row['model'], row['mode']): Speed(*(float(row[key]) for key in keys))
        for row in rows
        if int(row['batch_size']) == largest
    }


def is_correct(rows: Sequence[dict[str, str]], backend: str) -> bool:
    """Tell whether a backend was compared with float64, and passed every time."""
    passed = [row['passed'] == 'True' for row in rows if row['backend'] == backend]
    return bool(passed) and all(passed)


def choose_default(
    speeds: dict[tuple[str, str], Speed], correctness: Sequence[dict[str, str]]
) -> str | None:
    """Return the backend that is the default on CUDA: torch, unless a correct one beats it.

    In eager mode, and by more than the spread. None where torch's own speed is not known.
    """
    eager = {b: speeds[name, 'eager'] for b, name in BACKENDS.items() if (name, 'eager') in speeds}
    if 'torch' not in eager:
        return None
    faster = {
        backend: speed
        for backend, speed in eager.items()
        if speed.low > eager['torch'].high and is_correct(correctness, backend)
    }
    return max(faster, key=lambda backend: faster[backend].ratio, default='torch')


def judge_triton(
    speeds: dict[tuple[str, str], Speed], correctness: Sequence[dict[str, str]]
) -> str:
    """Say in words whether the Triton kernels win over ``torch.compile``."""
    own = [s for (name, _), s in speeds.items() if name == BACKENDS['triton']]
    compiled = speeds.get((BACKENDS['torch'], 'compile'))
    if not own or compiled is None:
        missing = 'the Triton kernels' if not own else 'torch.compile'
        return f'Not answered: no training speed of {missing} was measured.'
    best = max(own)
    if not is_correct(correctness, 'triton'):
        return 'The Triton kernels are wrong, or were not checked, on this GPU: do not use them.'
    if best.low > compiled.high:
        return f'The Triton kernels win over torch.compile: {best} to {compiled}. Keep them.'
    return (
        f'The Triton kernels win nothing over torch.compile: {best} to {compiled}. Delete '
        'layers/triton_*.py and their tests.'
    )


def summarize(run: Run) -> str:
    """Return the tables and the answer of a run."""
    speed, correctness = run.rows('speed'), run.rows('correctness')
    speeds = training_speeds(speed)
    default = choose_default(speeds, correctness)
    answers = [
        {
            'backend': backend,
            'correct': 'yes' if is_correct(correctness, backend) else 'no, or not checked',
            **{mode: speeds.get((name, mode), '') for mode in MODES},
            'default on CUDA': 'yes' if backend == default else '',
        }
        for backend, name in BACKENDS.items()
    ]
    parts = [
        f'# {"Rehearsal on the CPU" if run.dry else "Measured on a GPU"}, {run.started}',
        *(
            f'{name}: {text}'
            for row in run.rows('device')
            for name, text in row.items()
            if text and name != 'run'
        ),
        "## The default backend\n\nTraining, as a multiple of ResNet-50's speed in eager mode.",
        _table(answers),
        judge_triton(speeds, correctness),
        '## Correctness\n\nThe worst of all precisions and layouts, in eps of the precision.',
        _table(_worst(correctness)),
        f'## Speed\n\nbf16, channels_last, 224 pixels; ratios to {BASE} in eager mode, in turns.',
        _table([_speed_row(row) for row in speed]),
    ]
    for name, columns in _TABLES.items():
        rows = [{key: _number(row.get(key, '')) for key in columns} for row in run.rows(name)]
        parts += [f'## {_HEADINGS[name]}', _table(rows)]
    return '\n\n'.join(parts) + '\n'


def _worst(rows: Sequence[dict[str, str]]) -> list[dict[str, object]]:
    worst: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        key = row['backend'], row['layer']
        if key not in worst or _rank(row) > _rank(worst[key]):
            worst[key] = row
    columns = ('backend', 'layer', 'precision', 'layout', 'worst', 'error_in_eps', 'passed')
    return [{key: _number(row[key]) for key in columns} for row in worst.values()]


def _rank(row: dict[str, str]) -> tuple[bool, float]:
    return row['passed'] != 'True', float(row['error_in_eps'])


def _speed_row(row: dict[str, str]) -> dict[str, object]:
    result: dict[str, object] = {key: row[key] for key in ('model', 'mode', 'batch_size')}
    for task in ('training', 'inference'):
        ratio = [row.get(f'{task}_ratio{end}') for end in ('', '_min', '_max')]
        result[f'{task} img/s'] = _number(row.get(f'{task}_img_per_s', ''))
        result[f'{task} ratio'] = Speed(*map(float, ratio)) if all(ratio) else ''  # type: ignore
        result[f'{task} share of ceiling'] = _number(row.get(f'{task}_share_of_ceiling', ''))
    return result


def _number(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return text
    return text if value.is_integer() and value < 1e6 else three_digits(value)


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    if not rows:
        return 'nothing'
    lines = [rows[0].keys(), ['---'] * len(rows[0]), *(row.values() for row in rows)]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)
