"""What a test leaves of its results: files of them, a report, thresholds in the checkpoint."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..checkpoints.publish import write_pickle
from ..compat.checkpoint_io import load_checkpoint_file
from ..errors import InputError
from ..evaluation.accuracy import KeepScores
from ..evaluation.detections import write_images
from ..evaluation.explain import explain, read_detections
from ..evaluation.explain_labels import explain_labels
from ..evaluation.labels import write_labels
from ..tasks import MULTI_LABEL, find_task


def keep_results(cfg: Config, metrics: list[Any], dataset: Any, folder: Path) -> None:
    """Let the metrics leave what they measure, as ``results.bbox.json`` and the like.

    Args:
        cfg: The config.
        metrics: Of its evaluator; of a classifier, one that keeps the scores is added.
        dataset: What is measured on.
        folder: Gets the files.
    """
    task = find_task(cfg)
    for metric, _ in _coco_metrics(cfg, metrics):
        if metric.outfile_prefix is None:
            folder.mkdir(parents=True, exist_ok=True)
            metric.outfile_prefix = str(folder / 'results')
    if not task.detects:
        keeper = KeepScores(task is MULTI_LABEL)
        keeper.dataset_meta = dataset.metainfo
        metrics.append(keeper)


def _coco_metrics(cfg: Config, metrics: list[Any]) -> list[tuple[Any, str]]:
    """Return this project's and MMDetection's metrics of a detector, with their ground truth."""
    if not find_task(cfg).detects:
        return []
    from mmdet.evaluation import CocoMetric  # takes its time

    parts = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    return [
        (metric, part['ann_file'])
        for metric, part in zip(metrics, parts, strict=False)
        if isinstance(metric, CocoMetric) and part.get('ann_file') and not metric.format_only
    ]


def explain_results(
    cfg: Config, metrics: list[Any], dataset: Any, folder: Path
) -> tuple[list[Path], dict[str, Any]]:
    """Write the report that ``evaluate.py`` writes, of masks a second one, in place of older ones.

    Whatever fails, the metrics matter more: it is a warning.

    Returns:
        The reports, and the ``metrics.json`` of the first one, empty where there is none.
    """
    name, reports = Path(cfg.filename or 'test').stem, []
    numbers: dict[str, Any] = {}
    images = (getattr(dataset, 'data_prefix', None) or {}).get('img')
    for file in ('metrics.json', 'report.html', 'report.md'):  # of another checkpoint, perhaps
        for part in (folder, folder / 'segm'):
            (part / file).unlink(missing_ok=True)
    try:
        for metric, ann_file in _coco_metrics(cfg, metrics):
            names = {category['name'] for category in metric._coco_api.dataset['categories']}
            classes = [class_ for class_ in dataset.metainfo['classes'] if class_ in names]
            for kind in sorted({'bbox', 'segm'} & {*metric.metrics}):
                out = folder if kind == 'bbox' else folder / kind
                out.mkdir(parents=True, exist_ok=True)
                results = f'{metric.outfile_prefix}.{kind}.json'
                result = read_detections(ann_file, results, classes)
                title = f'{name} on {Path(ann_file).name}'
                explain(result, out, title, images and Path(images))
                write_images(Path(results).with_name('images.json'), result.images)
                reports.append(out / 'report.html')
                numbers = numbers or json.loads((out / 'metrics.json').read_text())
        for keeper in metrics:
            if isinstance(keeper, KeepScores) and keeper.kept:
                folder.mkdir(parents=True, exist_ok=True)
                write_labels(folder / 'results.json', keeper.kept)
                title = f'{name} on {keeper.folder}'
                explain_labels(keeper.kept, folder, title, Path(keeper.folder))
                reports.append(folder / 'report.html')
                numbers = numbers or json.loads((folder / 'metrics.json').read_text())
    except Exception as error:
        print_log(f'no report: {type(error).__name__}: {error}', 'current', logging.WARNING)
    else:
        if not reports and find_task(cfg).detects:
            print_log('no report: test_evaluator has no CocoMetric with an ann_file', 'current')
    return reports, numbers


def keep_thresholds(checkpoint: str, numbers: dict[str, Any], classes: Sequence[str]) -> None:
    """Write the operating thresholds of a report into the ``meta`` of a checkpoint.

    A class without one, or without a place in the annotations, has that of all classes.

    Args:
        checkpoint: The file.
        numbers: What :func:`explain_results` returned.
        classes: All of the dataset.

    Raises:
        InputError: There is none, or the file is no checkpoint of a training.
    """
    overall = numbers.get('threshold')
    content = load_checkpoint_file(checkpoint)
    meta = content.get('meta')
    if overall is None or not isinstance(meta, dict):
        why = 'none was found: see the report' if overall is None else 'the file has no meta'
        raise InputError(f'--keep-thresholds: {checkpoint}: no thresholds are written, {why}')
    own = {name: value for name, value in numbers['thresholds'].items() if value is not None}
    meta['thresholds'] = {name: own.get(name, overall) for name in classes}
    write_pickle(content, checkpoint)
    print(f'  thresholds     of {len(classes)} classes, in the checkpoint')
