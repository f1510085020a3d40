"""The tasks that a config may be for, and everything that depends on which one it is.

A config is recognised by the classes that its types stand for, their base classes included, so that
a user's own model, head, loss, dataset or evaluator counts as what it is a child of. What is asked,
in this order:

1. The model: a child of MMDetection's detectors is for detection, and what is neither that nor an
   :class:`~tresnet_det.ImageClassifier` is too, unless 3. says otherwise.
2. The ``multi_label`` of the head's loss, by which the head itself chooses between sigmoid and
   softmax.
3. The evaluators and datasets: whether they are children of a task's own.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from mmdet.registry import DATASETS, METRICS, MODELS
from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import Registry

from .compat.installed import own_folder
from .datasets import ImageFolderDataset, MultiLabelDataset, TorchvisionDataset
from .evaluation.accuracy import AccuracyMetric
from .evaluation.multilabel import MultiLabelMetric
from .models import ImageClassifier


@METRICS.register_module(name='CocoTwelveMetric')
def build_coco_metric(**kwargs: Any) -> Any:
    """Build detection's metric; MMDetection's evaluation is imported when one is built."""
    from .evaluation.coco_metric import CocoTwelveMetric

    return CocoTwelveMetric(**kwargs)


@dataclass(frozen=True)
class Task:
    """One row of the table.

    Attributes:
        name: As in file names and in what the readers of data take.
        dataset: Type of the dataset that reads a folder of ``--data``.
        headlines: Keys of the metrics that are printed, each with its name for people. By the first
            the best checkpoint is chosen.
        threshold: Score from which a prediction is shown; in [0, 1].
        drawn: Images in the sheet of predictions that a test leaves.
        config: Name of the config that a folder of your own is trained with by default.
        children: Classes whose children are of this task: datasets and evaluators.
    """

    name: str
    dataset: str
    headlines: Mapping[str, str]
    threshold: float
    drawn: int
    config: str
    children: tuple[type, ...] = ()

    @property
    def detects(self) -> bool:
        """Whether boxes are predicted, and not labels of whole images."""
        return self is DETECTION

    @property
    def headline(self) -> str:
        """Key of the metric by which the best checkpoint is chosen."""
        return next(iter(self.headlines))

    @property
    def overlay(self) -> Path:
        """The config that ``--demo`` puts over a config of this task."""
        return own_folder('configs') / '_base_' / f'demo_{self.name}.py'

    def make_demo(self, folder: str) -> Path:
        """Write the embedded data of this task, unless the folder has it; return the folder."""
        # Here, since scikit-learn takes its time.
        if self is SINGLE_LABEL:
            from .datasets.demo.classes import make_demo_classes

            return make_demo_classes(folder)
        from .datasets.demo.digits import make_demo_data

        return make_demo_data(folder)

    def summarize(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Return what is printed of a test: the headlines, or all that a user's own metric gives.

        Args:
            metrics: All that the evaluators gave.
        """
        found = {label: metrics[key] for key, label in self.headlines.items() if key in metrics}
        return found or {k: v for k, v in metrics.items() if isinstance(v, int | float)}

    def measures_headline(self, evaluator: object) -> bool:
        """Whether an evaluator's config, or one of a list of them, gives the headline."""
        return self.headline.split('/')[0] in metric_prefixes(evaluator)


DETECTION = Task(
    name='detection',
    dataset='CocoDataset',
    headlines={'coco/bbox_mAP': 'bbox mAP', 'coco/segm_mAP': 'segm mAP'},
    threshold=0.3,
    drawn=12,
    config='fcos_tresnet_m.py',
)
MULTI_LABEL = Task(
    name='multilabel',
    dataset='MultiLabelDataset',
    headlines={'multilabel/mAP': 'mAP'},
    threshold=0.5,  # that of MultiLabelMetric
    drawn=24,
    config='multilabel_tresnet_m_448.py',
    children=(MultiLabelDataset, MultiLabelMetric),
)
SINGLE_LABEL = Task(
    name='classification',
    dataset='ImageFolderDataset',
    headlines={'accuracy/top1': 'top-1, %'},
    threshold=0.0,  # the best classes are shown whatever their score
    drawn=24,
    config='transfer/tresnet_m_folders.py',
    children=(ImageFolderDataset, TorchvisionDataset, AccuracyMetric),
)
TASKS = (DETECTION, SINGLE_LABEL, MULTI_LABEL)  # where data serves several, the first is offered
_CLASSIFIES = (MULTI_LABEL, SINGLE_LABEL)
_ROLES = ('train', 'val', 'test')


def find_task(cfg: Config) -> Task:
    """Return the task that a config is for: see the top of this module."""
    model: Any = cfg.get('model') or {}
    kind = built_type(MODELS, model)
    if kind and issubclass(kind, BaseTTAModel) and model.get('module'):
        model = model['module']
        kind = built_type(MODELS, model)
    loss = built_type(MODELS, (model.get('head') or {}).get('loss'))
    multi_label = getattr(loss, 'multi_label', None)
    if kind and issubclass(kind, ImageClassifier):
        if isinstance(multi_label, bool):
            return MULTI_LABEL if multi_label else SINGLE_LABEL
        return _of_data(cfg) or SINGLE_LABEL
    from mmdet.models.detectors import BaseDetector

    if kind and issubclass(kind, BaseDetector):
        return DETECTION
    return _of_data(cfg) or DETECTION


def unwrapped(model: Any) -> Any:
    """Return a model without what wraps it: for several processes, or test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def find_model_task(model: Any) -> Task:
    """Return the task of a model that is built, whatever wraps it."""
    model = unwrapped(model)
    if not isinstance(model, ImageClassifier):
        return DETECTION
    return MULTI_LABEL if getattr(model.head, 'multi_label', False) else SINGLE_LABEL


def _of_data(cfg: Config) -> Task | None:
    """Return the task whose own evaluators or datasets are in a config, None where none are."""
    parts = [(METRICS, cfg.get(f'{role}_evaluator')) for role in _ROLES]
    parts += [(DATASETS, (cfg.get(f'{role}_dataloader') or {}).get('dataset')) for role in _ROLES]
    for registry, part in parts:
        for kind in _built_types(registry, part):
            for task in _CLASSIFIES:
                if issubclass(kind, task.children):
                    return task
    return None


def metric_prefixes(evaluator: object) -> set[str]:
    """Return what the keys of the metrics of an evaluator's config begin with, before the slash."""
    parts = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
    return {
        part.get('prefix') or getattr(built_type(METRICS, part), 'default_prefix', None) or ''
        for part in parts
        if isinstance(part, Mapping)
    }


def built_type(registry: Registry, cfg: object) -> type | None:
    """Return the class that a config with a ``type`` builds; None where it is not known."""
    if not isinstance(cfg, Mapping):
        return type(cfg)
    kind = cfg.get('type')
    if isinstance(kind, str):
        # First what is there, since get() imports all of MMDetection's.
        kind = registry.module_dict.get(kind) or registry.get(kind)
        if kind is build_coco_metric:
            from .evaluation.coco_metric import CocoTwelveMetric

            return CocoTwelveMetric
        if inspect.isfunction(kind):
            kind = get_type_hints(kind).get('return')
    return kind if isinstance(kind, type) else None


def type_name(cfg: Mapping) -> str:
    """Return the name of a class, whether a config has its name, with a scope, or the class."""
    kind = cfg.get('type', '')
    return (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).split('.')[-1]


def _built_types(registry: Registry, node: object) -> Iterator[type]:
    """Yield the class of every part of a nest, the outer before the inner (wrappers' datasets)."""
    if isinstance(node, Mapping):
        kind = built_type(registry, node)
        if kind is not None:
            yield kind
        node = [node[key] for key in ('dataset', 'datasets') if key in node]
    if isinstance(node, list | tuple):
        for child in node:
            yield from _built_types(registry, child)
