"""Measure an exported file as a checkpoint is measured: ``tools/test.py CONFIG FILE.onnx``.

The config's own evaluators and data, and what the file finds by onnxruntime: images are prepared
as the file says and not as the config does, so that what is measured is what will run.
"""

from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope

from ..engine.building import config_errors
from ..errors import InputError, few
from ..tasks import find_task
from .reports import keep_results


def measure_exported(cfg: Config, path: str, out: Path) -> tuple[dict, list[Any], Any]:
    """Run an exported file over the test images of a config.

    Args:
        cfg: The config, which names data and evaluators.
        path: The ``.onnx`` file.
        out: Gets the results.

    Returns:
        The metrics, what computed them, and the dataset.

    Raises:
        InputError: onnxruntime is not installed, or the file does not fit the config.
    """
    try:
        from ..deploy.measure import evaluate_file
        from ..inference.onnx_runner import OnnxModel
    except ImportError as error:
        raise InputError(f"{path}: onnxruntime is needed: pip install -e '.[export]'") from error
    try:
        model = OnnxModel(path)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    task = find_task(cfg)
    if model.task != ('detector' if task.detects else 'classifier'):
        raise InputError(f'{path} is a {model.task}, and the config is for {task.name}')
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    with config_errors():
        dataset: Any = DATASETS.build(cfg.test_dataloader.dataset)
        evaluator = Evaluator(cfg.test_evaluator)
    classes = list(dataset.metainfo.get('classes') or ())
    if model.classes and classes and list(model.classes) != classes:
        raise InputError(
            f'{path} has the classes {few(model.classes)}, and the data {few(classes)}: give the '
            'config that it was exported with'
        )
    keep_results(cfg, evaluator.metrics, dataset, out)
    try:
        metrics = evaluate_file(model, dataset, evaluator)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    return metrics, evaluator.metrics, dataset
