"""What a run of ``gpu.py`` comes to: the default backend on CUDA, and its tables, in Markdown."""

from collections.abc import Mapping

from .gpu import Run
from .gpu_steps import BACKENDS, BASE, MODES
from .report import MIB, Column, format_table
from .timing import Row, Spread

_COLUMNS = (
    *(Column(key, key) for key in ('backend', 'passed', *MODES, 'default')),
    *(Column(key.replace('_', ' '), key) for key in ('model', 'mode', 'seed', 'batch_size')),
    Column('training img/s', 'training_img_per_s'),
    Column('ratio', 'training_ratio'),
    Column('% of ceiling', 'training_share', 0.01),
    Column('inference img/s', 'inference_img_per_s'),
    Column('ratio', 'inference_ratio'),
    Column('% of ceiling', 'inference_share', 0.01),
    Column('peak MiB', 'peak_bytes', MIB),
    Column('MiB per image', 'peak_bytes_per_image', MIB),
    *(Column(key.replace('_', ' '), key) for key in ('largest_batch', 'smallest_failed')),
    *(Column(key, key) for key in ('val_map', 'seconds', 'what', 'why')),
)
_HEADINGS = {
    'speed': f'Speed: bf16, channels_last; ratios to {BASE} in eager mode, in turns',
    'memory': 'Memory of training, and the largest batch of those that a GPU can count',
    'detectors': 'FCOS, a training step at 2 x 800 x 1333',
    'bccd': 'FCOS on BCCD from scratch, validation mAP',
    'skipped': 'Skipped',
}


def summarize(run: Run) -> str:
    """Return the answer and the tables of a run."""
    checks, speeds = count_checks(run), training_speeds(run)
    default = choose_default(speeds, checks)
    answers = [
        {'backend': backend, 'passed': '{} of {}'.format(*checks.get(backend, (0, 0)))}
        | {mode: show(speeds.get((BACKENDS.get(backend), mode))) for mode in MODES}
        | {'default': 'yes' if backend == default else ''}
        for backend in dict.fromkeys([*BACKENDS, *checks])
    ]
    title = 'A rehearsal on the CPU: its numbers mean nothing' if run.dry else 'On a GPU'
    parts = [f'# {title}, {run.started}']
    for row in run.rows('device'):
        parts += [f'{name}: {text}' for name, text in row.items() if text and name != 'run']
    parts += [
        "## The default backend on CUDA\n\nChecks passed; training speed, ResNet-50's is 1.",
        _table(answers),
        judge_triton(speeds, checks),
    ]
    for name, heading in _HEADINGS.items():
        parts += [f'## {heading}', _table(run.rows(name))]
    return '\n\n'.join(parts) + '\n'


def count_checks(run: Run) -> dict[str, tuple[int, int]]:
    """Return how many checks each backend passed, and how many there were."""
    results: dict[str, list[bool]] = {}
    for row in run.rows('correctness'):
        results.setdefault(row['backend'], []).append(row['passed'] == 'True')
    return {backend: (sum(passed), len(passed)) for backend, passed in results.items()}


def training_speeds(run: Run) -> dict[tuple[str | None, str], Spread]:
    """Return by model and mode the training speed, as a ratio, at the largest batch of the run."""
    rows = [row for row in run.rows('speed') if row.get('training_ratio')]
    largest = max((row['batch_size'] for row in rows), default=0)
    keys = ('training_ratio', 'training_ratio_min', 'training_ratio_max')
    return {
        (row['model'], row['mode']): Spread(*(row[key] for key in keys))
        for row in rows
        if row['batch_size'] == largest
    }


def choose_default(
    speeds: Mapping[tuple[str | None, str], Spread], checks: Mapping[str, tuple[int, int]]
) -> str | None:
    """Return torch, or what is faster in eager mode by more than the spread and right throughout.

    None where torch's own speed is not known.
    """
    eager = {b: speeds[name, 'eager'] for b, name in BACKENDS.items() if (name, 'eager') in speeds}
    if 'torch' not in eager:
        return None
    right = {b for b, (passed, count) in checks.items() if passed == count}
    faster = {b: s for b, s in eager.items() if b in right and s.low > eager['torch'].high}
    return max(faster, key=lambda backend: faster[backend].median, default='torch')


def judge_triton(
    speeds: Mapping[tuple[str | None, str], Spread], checks: Mapping[str, tuple[int, int]]
) -> str:
    """Say in words whether the Triton kernels win over ``torch.compile``."""
    own = [speed for (name, _), speed in speeds.items() if name == BACKENDS['triton']]
    compiled = speeds.get((BACKENDS['torch'], 'compile'))
    if not own or compiled is None:
        missing = 'torch.compile' if own else 'the Triton kernels'
        return f'Not answered: no training speed of {missing} was measured.'
    passed, count = checks.get('triton', (0, 0))
    if not count or passed < count:
        return 'The Triton kernels are wrong, or not checked: do not use them.'
    best = max(own)
    numbers = f'over torch.compile: {show(best)} to {show(compiled)}.'
    if best.low > compiled.high:
        return f'The Triton kernels win {numbers} Keep them.'
    return f'The Triton kernels win nothing {numbers} Delete layers/triton_*.py and their tests.'


def show(speed: Spread | None) -> str:
    """Write a ratio with its spread."""
    return '-' if speed is None else '{:.2f} ({:.2f} - {:.2f})'.format(*speed)


def _table(rows: list[Row]) -> str:
    return f'```\n{format_table(rows, _COLUMNS)}\n```' if rows else 'Nothing was measured.'
