"""Metrics, their text and JSON, charts, and images of predictions.

Importing this package is cheap. COCO's metric is registered by its name; it (``coco_metric``) and
what draws (``draw``, ``plots``) are imported from their modules where they are used, since
MMDetection's evaluation takes a third of a second, and pycocotools and matplotlib their time.
"""

from .accuracy import AccuracyMetric
from .multilabel import MultiLabelMetric, average_precisions, best_f1_thresholds
from .report import build_coco_metric, format_table, format_twelve, write_results_json

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
