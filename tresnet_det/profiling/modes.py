"""What ``tools/benchmark.py`` can do: each mode measures, and says how to show the rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..errors import InputError
from . import ablation, charts, models
from .classifiers import ClassifierRun
from .comparison import Progress, Row, compare, compare_family, scale
from .operators import profile_rows
from .report import MIB, Column
from .settings import Settings

_MODEL = Column('model', 'model')
_SIZE = Column('pixels', 'size')
_SPEEDS = (
    Column('training img/s', 'training_img_per_s'),
    Column('ratio', 'training_ratio'),
    Column('inference img/s', 'inference_img_per_s'),
    Column('ratio', 'inference_ratio'),
)
_KEPT = (
    Column('kept MiB/img', 'kept_bytes_per_image', MIB),
    Column('ratio', 'kept_ratio'),
)
_COUNTS = (
    Column('params M', 'parameters', 1e6),
    Column('GMACs', 'multiply_adds', 1e9),
    *_KEPT,
)
_MEMORY = (Column('peak MiB', 'peak_bytes', MIB), Column('largest batch', 'largest_batch'))
_BAR_PANELS = (
    charts.Panel('training_img_per_s', 'Training', 'images/s', ratio_key='training_ratio'),
    charts.Panel('inference_img_per_s', 'Inference', 'images/s', ratio_key='inference_ratio'),
    charts.Panel('kept_bytes_per_image', 'Kept for backward', 'MiB per image', MIB, 'kept_ratio'),
)


@dataclass
class Result:
    """What a mode has measured.

    Attributes:
        rows: Of the CSV.
        columns: Of the printed tables.
        tables: The printed tables' rows, by title.
        draw: Draws the chart to a path, with ``title`` and ``caption``; None where there is none.
        chart_title: What the chart shows, before machine and settings.
        remarks: To print under the tables.
    """

    rows: list[Row]
    columns: Sequence[Column]
    tables: dict[str, list[Row]]
    draw: Callable[..., None] | None = None
    chart_title: str = ''
    remarks: list[str] = field(default_factory=list)


def run_models(
    names: Sequence[str] | None, size: int, settings: Settings, progress: Progress, speed: bool
) -> Result:
    """Compare named models: by default the paper's table, or for bytes alone the nearest kin."""
    names = names or (models.PAPER_TABLE if speed else models.BYTES_TABLE)
    specs = [models.resolve(name, size) for name in names]
    rows = compare(specs, settings, progress, speed)
    draw = partial(
        charts.draw_bars, rows, _BAR_PANELS, highlighted=[s.name for s in specs if s.is_ours]
    )
    title = 'Speed and memory' if speed else 'Memory that training keeps'
    title += f', batch {settings.batch_size}'
    columns = (_MODEL, _SIZE, *_COUNTS, *_MEMORY, *_SPEEDS)
    return Result(rows, columns, {f'ratios to {names[0]}': rows}, draw, title)


def run_family(settings: Settings, progress: Progress) -> Result:
    """Measure the two charts of the paper: published accuracy against speed."""
    rows = compare_family(settings, progress)
    columns = (_MODEL, _SIZE, Column('published top-1', 'published_top1', unit=' %'), *_SPEEDS)
    return Result(
        rows,
        columns,
        {f'ratios to {rows[0]["model"]}': rows},
        partial(charts.draw_family, rows),
        f'Published accuracy against measured speed, batch {settings.batch_size}',
        ["the top-1 figures are the papers' (arXiv 2003.13630, 1905.11946); the speeds are ours"],
    )


def run_ablation(
    base: Path, folder: Path, size: int, settings: Settings, progress: Progress
) -> Result:
    """Measure the paper's two ablation tables: refinements, then code optimisations, off."""
    specs = ablation.refinement_specs(base, folder, size)
    specs += ablation.optimisation_specs(specs[0])
    rows = compare(specs, settings, progress)
    columns = (_MODEL, Column('params M', 'parameters', 1e6), *_KEPT, *_MEMORY, *_SPEEDS)
    return Result(
        rows,
        columns,
        {
            f'{name}, one left out at a time; ratios to the full model': table
            for name, table in ablation.split_tables(rows).items()
        },
        partial(charts.draw_bars, rows, _BAR_PANELS, highlighted=[ablation.FULL]),
        f'TResNet with one thing left out at a time, batch {settings.batch_size}',
    )


def run_detectors(
    paths: Sequence[str],
    size: int,
    settings: Settings,
    data_root: str | None,
    progress: Progress,
) -> Result:
    """Compare whole detectors, from their configs."""
    from .detectors import compare_detectors  # the detection stack is heavy to import

    rows, remarks = compare_detectors(paths, settings, size, data_root, progress)
    columns = (
        _MODEL,
        _SIZE,
        *_COUNTS,
        *_SPEEDS,
        Column('loading img/s', 'loading_img_per_s'),
        Column('its share', 'loading_share', 0.01, ' %'),
    )
    remarks += [
        'random weights, all stages learn and norms measure their statistics (as from scratch); '
        'random weights detect little, so post-processing costs less than after a training',
        "its share: of loading, in one process at the config's own size, in the time of loading "
        'and a training step',
    ]
    ours = [row['model'] for row in rows if 'tresnet' in row['model']]
    draw = partial(charts.draw_bars, rows, _BAR_PANELS, highlighted=ours)
    return Result(
        rows,
        columns,
        {f'ratios to {rows[0]["model"]}': rows},
        draw,
        f'Whole detectors, batch {settings.batch_size}',
        remarks,
    )


def run_scaling(names: Sequence[str] | None, settings: Settings, progress: Progress) -> Result:
    """Measure cost against resolution and against batch."""
    rows = scale(names or models.SCALING_MODELS, settings, progress)
    columns = (_MODEL, _SIZE, Column('batch', 'batch_size'), *_SPEEDS)
    tables = {
        f'{title}; ratios to {rows[0]["model"]}': [row for row in rows if row['varies'] == varies]
        for varies, title in (('size', 'resolution'), ('batch_size', 'batch'))
    }
    return Result(rows, columns, tables, partial(charts.draw_scaling, rows), 'Cost of an image')


def run_processes(
    names: Sequence[str] | None, size: int, counts: Sequence[int], settings: Settings
) -> Result:
    """Hold the plan's time of a step against several processes of this machine."""
    from .process_scaling import measure_processes

    name, *others = names or ['tresnet_m']
    if others:
        raise InputError('--processes measures one model: give --models one name')
    rows, link = measure_processes(name, size, counts, settings)
    columns = (
        Column('processes', 'processes'),
        Column('bytes', 'bytes'),
        Column('computing s', 'compute_seconds'),
        Column('step s', 'step_seconds'),
        Column('s', 'seconds'),
        Column('planned s', 'planned_seconds'),
        Column('error', 'error', 0.01, ' %'),
    )
    tables = {
        f'{name} at {size} pixels, a training step': [r for r in rows if r['what'] == 'step'],
        'all-reduce': [r for r in rows if r['what'] == 'all_reduce'],
    }
    remark = (
        f'one link, fitted to the all-reduces of the smallest group: {link.bandwidth / 1e9:.3g} '
        f'GB/s, {link.latency * 1e6:.3g} microseconds'
    )
    tables = {title: table for title, table in tables.items() if table}
    return Result(rows, columns, tables, remarks=[remark] if len(tables) > 1 else [])


def run_profile(
    names: Sequence[str] | None, size: int, settings: Settings, progress: Progress
) -> Result:
    """Show in which operators the time goes."""
    specs = [models.resolve(name, size) for name in names or models.SCALING_MODELS]
    tasks_of = {s.name: partial(_build_tasks, s, settings) for s in specs}
    rows = profile_rows(tasks_of, progress)
    columns = (
        Column('operator', 'operator'),
        Column('% of time', 'share', 0.01),
        Column('ms/img', 'milliseconds'),
    )
    tables: dict[str, list[Row]] = {}
    for row in rows:
        tables.setdefault(f'{row["model"]}, {row["task"]}', []).append(row)
    return Result(rows, columns, tables)


def _build_tasks(spec: models.ModelSpec, settings: Settings) -> dict:
    return ClassifierRun(spec, settings).tasks()
