"""Weights: their formats, the one loader, and files for others.

``formats`` converts state dicts, ``load`` puts a file's weights into a model and reports what
fitted, ``publish`` writes files, ``hub`` downloads timm's, ``img_norm`` is the input normalization
that the weights were trained with.
"""

from .formats import to_timm
from .load import (
    LoadReport,
    load_backbone_weights,
    load_head_weights,
    load_weights,
    read_checkpoint,
)

__all__ = [
    'LoadReport',
    'load_backbone_weights',
    'load_head_weights',
    'load_weights',
    'read_checkpoint',
    'to_timm',
]
