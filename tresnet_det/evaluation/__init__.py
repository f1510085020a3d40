"""Metrics, their text and JSON, and images of predictions and training curves.

Importing this package is cheap: COCO's metric is registered by name, and MMDetection's evaluation
(a third of a second), pycocotools and matplotlib are imported when they are first used. The
metrics of classification need neither.
"""

from importlib import import_module
from typing import Any

from mmdet.registry import METRICS

from .accuracy import AccuracyMetric
from .multilabel import MultiLabelMetric

_HOMES = {
    'CocoTwelveMetric': 'coco_metric',
    'average_precisions': 'multilabel',
    'best_f1_thresholds': 'multilabel',
    'draw_classifications': 'sheets',
    'draw_curves': 'plots',
    'draw_predictions': 'sheets',
    'format_table': 'report',
    'format_twelve': 'report',
    'write_results_json': 'report',
}
__all__ = ['AccuracyMetric', 'MultiLabelMetric', *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)


@METRICS.register_module(name='CocoTwelveMetric')
def _build_coco_twelve_metric(**kwargs: Any) -> Any:
    """Build the metric; the registry takes a function where it takes a class."""
    from .coco_metric import CocoTwelveMetric

    return CocoTwelveMetric(**kwargs)
