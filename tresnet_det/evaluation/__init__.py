"""Metrics, their text and JSON, charts, and images of predictions.

Importing this package is cheap. COCO's metric (``coco_metric``), and what draws (``draw``,
``plots``), are imported where they are used: MMDetection's evaluation takes a third of a second to
import, and pycocotools and matplotlib take their time.
"""

from typing import Any

from mmdet.registry import METRICS

from .accuracy import AccuracyMetric
from .multilabel import MultiLabelMetric, average_precisions, best_f1_thresholds
from .report import format_table, format_twelve, write_results_json


@METRICS.register_module(name='CocoTwelveMetric')
def build_coco_metric(**kwargs: Any) -> Any:
    """Build detection's metric; MMDetection's evaluation is imported when one is built."""
    from .coco_metric import CocoTwelveMetric

    return CocoTwelveMetric(**kwargs)


__all__ = [
    'AccuracyMetric',
    'MultiLabelMetric',
    'average_precisions',
    'best_f1_thresholds',
    'build_coco_metric',
    'format_table',
    'format_twelve',
    'write_results_json',
]
