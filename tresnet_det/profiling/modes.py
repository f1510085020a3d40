"""What the benchmark tool measures: each mode returns rows, and how to print and draw them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import charts, models
from .classifiers import ClassifierRun, Save, compare
from .operators import profile_rows
from .report import MIB, Column
from .settings import Settings
from .timing import Row

# A column that no row has is not printed.
COLUMNS = (
    Column('model', 'model'),
    Column('pixels', 'size'),
    Column('published top-1', 'published_top1', unit=' %'),
    Column('params M', 'parameters', 1e6),
    Column('GMACs', 'macs', 1e9),
    Column('kept MiB/img', 'kept_bytes_per_image', MIB),
    Column('ratio', 'kept_ratio'),
    Column('peak MiB', 'peak_bytes', MIB),
    Column('largest batch', 'largest_batch'),
    Column('training img/s', 'training_img_per_s'),
    Column('ratio', 'training_ratio'),
    Column('inference img/s', 'inference_img_per_s'),
    Column('ratio', 'inference_ratio'),
    Column('loading img/s', 'loading_img_per_s'),
)
PROFILE_COLUMNS = (
    Column('operator', 'operator'),
    Column('% of time', 'share', 0.01),
    Column('ms/img', 'milliseconds'),
)
PANELS = (
    charts.Panel('training_img_per_s', 'Training', 'images/s', ratio_key='training_ratio'),
    charts.Panel('inference_img_per_s', 'Inference', 'images/s', ratio_key='inference_ratio'),
    charts.Panel('kept_bytes_per_image', 'Activation memory', 'MiB/image', MIB, 'kept_ratio'),
)


@dataclass
class Result:
    """What a mode has measured.

    Attributes:
        tables: Rows by the title of the table that is printed.
        columns: Of the tables.
        draw: Draws the chart: ``draw(path, title=..., caption=...)``; None where there is none.
        title: Of the chart.
        remarks: Printed under the tables.
    """

    tables: dict[str, list[Row]]
    columns: Sequence[Column] = COLUMNS
    draw: Callable[..., None] | None = None
    title: str = ''
    remarks: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [row for rows in self.tables.values() for row in rows]


def _bars(rows: list[Row], highlighted: list[str], title: str, settings: Settings) -> Result:
    draw = partial(charts.draw_bars, rows, PANELS, highlighted=highlighted)
    title += f', batch {settings.batch_size}'
    return Result({f'ratios to {rows[0]["model"]}': rows}, draw=draw, title=title)


def run_models(
    names: Sequence[str] | None, size: int, settings: Settings, save: Save, speed: bool
) -> Result:
    """Compare named models: the paper's table, or without speed its closest relatives."""
    specs = [
        models.resolve(name, size)
        for name in names or (models.PAPER_TABLE if speed else models.BYTES_TABLE)
    ]
    rows = compare(specs, settings, save, speed)
    title = 'Speed and memory' if speed else 'Activation memory'
    return _bars(rows, [spec.name for spec in specs if spec.is_ours], title, settings)


def run_family(settings: Settings, save: Save) -> Result:
    """Measure the two charts of the paper: published accuracy against speed."""
    rows = compare([models.resolve(name, 0) for name in models.PUBLISHED_TOP1], settings, save)
    remark = "top-1 is the papers' (arXiv 2003.13630, 1905.11946); speeds are measured here"
    return Result(
        {f'ratios to {rows[0]["model"]}': rows},
        draw=partial(charts.draw_family, rows),
        title=f'Published accuracy against measured speed, batch {settings.batch_size}',
        remarks=[remark],
    )


def run_ablation(base: Path, folder: Path, size: int, settings: Settings, save: Save) -> Result:
    """Measure the paper's ablation: the model with one refinement removed at a time."""
    specs = models.ablation_specs(base, folder, size)
    rows = compare(specs, settings, save)
    return _bars(rows, [specs[0].name], 'TResNet with one thing removed at a time', settings)


def run_detectors(
    paths: Sequence[str], size: int, settings: Settings, data_root: str | None, save: Save
) -> Result:
    """Compare whole detectors, from their configs."""
    from .detectors import compare_detectors  # the detection stack is heavy to import

    rows, remarks = compare_detectors(paths, settings, size, data_root, save)
    ours = [row['model'] for row in rows if 'tresnet' in row['model']]
    result = _bars(rows, ours, 'Whole detectors', settings)
    result.remarks = [
        *remarks,
        'from scratch: all stages learn and norms measure their statistics; random weights detect '
        'little, so post-processing costs less than after a training',
    ]
    return result


def run_profile(names: Sequence[str] | None, size: int, settings: Settings, save: Save) -> Result:
    """Show in which operators the time goes."""
    tables: dict[str, list[Row]] = {}
    for name in names or ('timm:resnet50', 'tresnet_m'):
        run = ClassifierRun(models.resolve(name, size), settings)
        for row in profile_rows(name, run.workloads()):
            tables.setdefault(f'{name}, {row["task"]}', []).append(row)
        save([row for rows in tables.values() for row in rows])
    return Result(tables, PROFILE_COLUMNS)
