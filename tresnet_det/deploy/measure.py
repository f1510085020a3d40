"""The metrics of an exported file: the config's own evaluators on what ``onnx_runner.py`` finds."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from tqdm import tqdm

from ..engine.building import config_errors
from ..errors import InputError
from ..inference.onnx_runner import Answer, OnnxModel
from ..tasks import find_task
from .programs import quiet


class FileEvaluation:
    """The validation images of a config, on which files are evaluated one after the other.

    Args:
        cfg: Of the model, with ``val_dataloader`` and ``val_evaluator``.

    Attributes:
        name: Of the headline metric, for people.

    Raises:
        InputError: The config has no validation, or one that does not give the headline.
    """

    def __init__(self, cfg: Config) -> None:
        self._task, self._cfg = find_task(cfg), cfg
        if not (cfg.get('val_dataloader') and cfg.get('val_evaluator')):
            raise InputError(
                '--int8: the config has no val_dataloader and val_evaluator: set both, so that '
                'the accuracy can be compared'
            )
        if not self._task.measures_headline(cfg.val_evaluator):
            raise InputError(f'--int8: val_evaluator does not give {self._task.headline}')
        self.name = self._task.headlines[self._task.headline].removesuffix(', %')
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        with config_errors(), _silent():
            self._dataset = DATASETS.build(cfg.val_dataloader.dataset)

    def __len__(self) -> int:
        return len(self._dataset)

    def __call__(self, model: OnnxModel) -> float:
        """Return the headline metric of a file, in [0, 1]; images are prepared as the file says."""
        with config_errors(), _silent():
            evaluator = Evaluator(self._cfg.val_evaluator)
            value = evaluate_file(model, self._dataset, evaluator)[self._task.headline]
        return value / 100 if self._task.headline == 'accuracy/top1' else value


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Leave out the tables of the evaluators, and what pycocotools prints."""
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        yield


def evaluate_file(model: OnnxModel, dataset: Any, evaluator: Evaluator) -> dict[str, float]:
    """Return the metrics of a file; images are prepared as the file says.

    Args:
        model: The file.
        dataset: Whose items are data samples with ``img_path``.
        evaluator: Of metrics on that dataset.
    """
    evaluator.dataset_meta = dataset.metainfo
    for index in tqdm(range(len(dataset)), 'images', disable=None, delay=1, leave=False):
        sample = dataset[index]['data_samples']
        evaluator.process([_add_answer(sample, model.predict(sample.img_path))])
    return evaluator.evaluate(len(dataset))


def _add_answer(sample: Any, answer: Answer) -> Any:
    """Put the answer of a file into a data sample, in the place of PyTorch's; return the sample."""
    tensors = {name: torch.from_numpy(value) for name, value in answer.items()}
    if 'boxes' in tensors:
        sample.pred_instances = InstanceData(bboxes=tensors.pop('boxes'), **tensors)
    else:
        sample.pred_score = tensors['scores']
    return sample
