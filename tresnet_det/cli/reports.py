"""What a test leaves of its results: files of them, a report, thresholds in the checkpoint."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from ..compat.checkpoint_io import load_checkpoint_file
from ..errors import InputError
from ..evaluation.accuracy import KeepScores
from ..evaluation.detections import write_images
from ..evaluation.explain import explain, read_detections
from ..evaluation.explain_labels import explain_labels
from ..evaluation.labels import write_labels
from ..files import replacing
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
    for metric in _coco_metrics(cfg, metrics):
        if metric.outfile_prefix is None:
            folder.mkdir(parents=True, exist_ok=True)
            metric.outfile_prefix = str(folder / 'results')
    if not task.detects:
        keeper = KeepScores(task is MULTI_LABEL)
        keeper.dataset_meta = dataset.metainfo
        metrics.append(keeper)


def _coco_metrics(cfg: Config, metrics: list[Any]) -> list[Any]:
    """Return the metrics of detectors that have a file of ground truth."""
    if not find_task(cfg).detects:
        return []
    from ..evaluation.coco_metric import CocoTwelveMetric  # takes its time

    coco = [metric for metric in metrics if isinstance(metric, CocoTwelveMetric)]
    return [metric for metric in coco if metric.ann_file and not metric.format_only]


def explain_results(cfg: Config, metrics: list[Any], dataset: Any, folder: Path) -> list[Path]:
    """Write the report that ``evaluate.py`` writes; return it, of masks a second one.

    Whatever fails, the metrics matter more: it is a warning.
    """
    reports, name = [], Path(cfg.filename or 'test').stem
    images = (getattr(dataset, 'data_prefix', None) or {}).get('img')
    try:
        for metric in _coco_metrics(cfg, metrics):
            numbered = zip(dataset.metainfo['classes'], metric.cat_ids, strict=True)
            classes = [class_ for class_, number in numbered if number is not None]
            for kind in metric.metrics:
                out = folder if kind == 'bbox' else folder / kind
                out.mkdir(parents=True, exist_ok=True)
                results = f'{metric.outfile_prefix}.{kind}.json'
                result = read_detections(metric.ann_file, results, classes)
                title = f'{name} on {Path(metric.ann_file).name}'
                explain(result, out, title, images and Path(images))
                write_images(Path(results).with_name('images.json'), result.images)
                reports.append(out / 'report.html')
        for keeper in metrics:
            if isinstance(keeper, KeepScores) and keeper.kept:
                folder.mkdir(parents=True, exist_ok=True)
                write_labels(folder / 'results.json', keeper.kept)
                title = f'{name} on {keeper.folder}'
                explain_labels(keeper.kept, folder, title, Path(keeper.folder))
                reports.append(folder / 'report.html')
    except Exception as error:
        print_log(f'no report: {error}', 'current', logging.WARNING)
    return reports


def read_threshold(numbers: Path) -> float | None:
    """Return the operating threshold of a report's ``metrics.json``, None without one."""
    return json.loads(numbers.read_text()).get('threshold') if numbers.is_file() else None


def keep_thresholds(checkpoint: str, numbers: Path) -> None:
    """Write the operating thresholds of a report into the ``meta`` of a checkpoint.

    A class without one has that of all classes.

    Raises:
        InputError: There is none, or the file is no checkpoint of a training.
    """
    found = json.loads(numbers.read_text()) if numbers.is_file() else {}
    overall = found.get('threshold')
    content = load_checkpoint_file(checkpoint)
    if overall is None or 'meta' not in content:
        why = 'the file has no meta' if 'meta' not in content else 'none does: see the report'
        raise InputError(f'--keep-thresholds: {checkpoint}: no thresholds are written, {why}')
    named = found['thresholds'].items()
    content['meta']['thresholds'] = {k: overall if v is None else v for k, v in named}
    with replacing(checkpoint) as temporary:
        torch.save(content, temporary)
    print(f'  thresholds     of {len(content["meta"]["thresholds"])} classes, in the checkpoint')
