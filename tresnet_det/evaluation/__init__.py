"""Metrics, their text and JSON, charts, and images of predictions.

Importing this package is cheap. COCO's metric (``coco_metric``; registered by ``tasks.py``), and
what draws (``draw``, ``plots``), are imported where they are used: MMDetection's evaluation takes a
third of a second to import, and pycocotools and matplotlib take their time.
"""

from .accuracy import AccuracyMetric
from .multilabel import MultiLabelMetric, average_precisions, best_f1_thresholds
from .report import format_table, format_twelve, write_results_json

__all__ = [
    'AccuracyMetric',
    'MultiLabelMetric',
    'average_precisions',
    'best_f1_thresholds',
    'format_table',
    'format_twelve',
    'write_results_json',
]
