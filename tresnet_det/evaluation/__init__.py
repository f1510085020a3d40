"""From predictions to numbers, to what is wrong, and to a report that says what to do next.

Importing this package is cheap, and nothing of it but what the Runner calls (``coco_metric``,
``multilabel``, ``accuracy``; registered by ``tasks.py``) imports PyTorch. What draws (``draw``,
``plots``, ``charts``) is imported where it is used, since matplotlib takes its time.
"""

from .report import format_table, format_twelve, write_results_json

__all__ = ['format_table', 'format_twelve', 'write_results_json']
