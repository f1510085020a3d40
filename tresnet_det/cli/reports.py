"""What a test leaves of its results: files of them, a report, thresholds in the checkpoint."""

import json
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner

from ..compat.checkpoint_io import load_checkpoint_file
from ..errors import InputError
from ..evaluation.accuracy import KeepScores
from ..evaluation.explain import explain, read_detections
from ..evaluation.explain_labels import explain_labels
from ..evaluation.labels import write_labels
from ..files import replacing
from ..tasks import MULTI_LABEL, find_task


def keep_results(runner: Runner, folder: Path) -> None:
    """Let the metrics leave what they measure, as ``results.bbox.json`` and the like."""
    for metric in coco_metrics(runner):
        if metric.outfile_prefix is None:
            folder.mkdir(parents=True, exist_ok=True)
            metric.outfile_prefix = str(folder / 'results')
    task = find_task(runner.cfg)
    if not task.detects:
        keeper = KeepScores(task is MULTI_LABEL)
        keeper.dataset_meta = runner.test_dataloader.dataset.metainfo
        runner.test_evaluator.metrics.append(keeper)


def coco_metrics(runner: Runner) -> list[Any]:
    """Return the metrics of detectors that have a file of ground truth."""
    if not find_task(runner.cfg).detects:
        return []
    from ..evaluation.coco_metric import CocoTwelveMetric  # takes its time

    metrics = [m for m in runner.test_evaluator.metrics if isinstance(m, CocoTwelveMetric)]
    return [metric for metric in metrics if metric.ann_file and not metric.format_only]


def explain_results(runner: Runner, folder: Path) -> list[Path]:
    """Write the report that ``evaluate.py`` writes; return it, of masks a second one.

    Whatever fails, the metrics matter more: it is a warning.
    """
    dataset, reports = runner.test_dataloader.dataset, []
    images = (getattr(dataset, 'data_prefix', None) or {}).get('img')
    for metric in coco_metrics(runner):
        numbered = zip(dataset.metainfo['classes'], metric.cat_ids, strict=True)
        classes = [name for name, number in numbered if number is not None]
        title = f'{Path(runner.cfg.filename or "test").stem} on {Path(metric.ann_file).name}'
        for kind in metric.metrics:
            out = folder if kind == 'bbox' else folder / kind
            try:
                out.mkdir(parents=True, exist_ok=True)
                results = f'{metric.outfile_prefix}.{kind}.json'
                result = read_detections(metric.ann_file, results, classes)
                explain(result, out, title, images and Path(images))
                reports.append(out / 'report.html')
            except Exception as error:
                runner.logger.warning(f'no report of {kind}: {error}')
    for keeper in runner.test_evaluator.metrics:
        if isinstance(keeper, KeepScores) and keeper.kept:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_labels(folder / 'results.json', keeper.kept)
                title = f'{Path(runner.cfg.filename or "test").stem} on {keeper.folder}'
                explain_labels(keeper.kept, folder, title, Path(keeper.folder))
                reports.append(folder / 'report.html')
            except Exception as error:
                runner.logger.warning(f'no report: {error}')
    return reports


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
