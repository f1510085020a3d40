"""Detection metrics, their text and JSON, and pictures of predictions and training curves.

Importing this package is cheap: the metric is registered by name, and MMDetection's evaluation
(a third of a second), pycocotools and matplotlib are imported when they are first used.
"""

from importlib import import_module
from typing import Any

from mmdet.registry import METRICS

_HOMES = {
    'CocoTwelveMetric': 'coco_metric',
    'draw_curves': 'curves',
    'draw_predictions': 'figures',
    'format_table': 'report',
    'format_twelve': 'report',
    'write_results_json': 'report',
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)


@METRICS.register_module(name='CocoTwelveMetric')
def _build_coco_twelve_metric(**kwargs):
    """Build the metric; the registry takes a function where it takes a class."""
    from .coco_metric import CocoTwelveMetric

    return CocoTwelveMetric(**kwargs)
