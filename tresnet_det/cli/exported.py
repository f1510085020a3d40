"""Measure an exported file as a checkpoint is measured: ``tools/test.py CONFIG FILE.onnx``.

Images are read and prepared as the file says, by onnxruntime's runner and not by the config, so
that what is measured is what will run. The config says which data, and what the classes are.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tqdm import tqdm

from ..errors import InputError, few
from ..evaluation.explain import explain, read_detections
from ..evaluation.explain_labels import explain_labels
from ..evaluation.labels import Labels, relative, write_labels
from ..evaluation.report import format_twelve
from ..files import write_whole
from ..tasks import MULTI_LABEL, find_task


def measure_exported(cfg: Config, path: str, out: Path) -> tuple[str, int]:
    """Run an exported file over the test images, and write results and report.

    Args:
        cfg: The config, which names the data.
        path: The ``.onnx`` file.
        out: The folder of the report; it is made.

    Returns:
        The headline with its interval, and how many images were measured.

    Raises:
        InputError: onnxruntime is not installed, or the file does not fit the config.
    """
    try:
        from ..inference.onnx_runner import OnnxModel
    except ImportError as error:
        raise InputError(f'{path} needs onnxruntime: pip install onnxruntime') from error
    try:
        model = OnnxModel(path)
    except ValueError as error:
        raise InputError(str(error)) from error
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    dataset: Any = DATASETS.build(cfg.test_dataloader.dataset)
    task, classes = find_task(cfg), tuple(dataset.metainfo['classes'])
    if (model.task == 'detector') is not task.detects or model.task == 'backbone':
        raise InputError(f'{path} is a {model.task}, and the config is for {task.name}')
    if model.classes and tuple(model.classes) != classes:
        raise InputError(
            f'{path} has the classes {few(model.classes)}, and the data {few(classes)}: give the '
            'config that it was exported with'
        )
    infos = [dataset.get_data_info(n) for n in range(len(dataset))]
    answers = []
    for info in tqdm(infos, path, disable=None):
        try:
            answers.append(model.predict(info['img_path']))
        except ValueError as error:
            raise InputError(str(error)) from error
    out.mkdir(parents=True, exist_ok=True)
    title = f'{Path(path).name} on {len(infos)} images'
    if not task.detects:
        labels, folder = _to_labels(infos, answers, classes, task is MULTI_LABEL)
        write_labels(out / 'results.json', labels)
        return explain_labels(labels, out, title, Path(folder)), len(infos)
    rows = [row for pair in zip(infos, answers, strict=True) for row in _to_rows(*pair, dataset)]
    write_whole(out / 'results.bbox.json', json.dumps(rows).encode())
    result = read_detections(dataset.ann_file, out / 'results.bbox.json', classes)
    print(format_twelve(result.metrics))
    images = (dataset.data_prefix or {}).get('img')
    return explain(result, out, title, images and Path(images)), len(infos)


def _to_rows(info: dict, found: dict[str, np.ndarray], dataset: Any) -> list[dict[str, Any]]:
    """Return COCO's results of an image."""
    boxes = found['boxes'].astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    columns = boxes.tolist(), found['scores'].astype(float).tolist(), found['labels'].tolist()
    return [
        dict(image_id=info['img_id'], category_id=dataset.cat_ids[n], bbox=box, score=score)
        for box, score, n in zip(*columns, strict=True)
    ]


def _to_labels(
    infos: list, answers: list, classes: tuple[str, ...], several: bool
) -> tuple[Labels, str]:
    truth = np.stack([np.asarray(info['gt_label']) for info in infos])
    if not several:
        truth = np.eye(len(classes), dtype=np.int8)[truth.reshape(-1).astype(int)]
    scores = np.stack([found['scores'] for found in answers]).astype(float)
    names, folder = relative([str(info['img_path']) for info in infos])
    return Labels(names, classes, truth.astype(np.int8), scores, several), folder
