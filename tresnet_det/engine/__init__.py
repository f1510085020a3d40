"""Hooks of ours where mmengine and MMDetection have none; importing registers them, cheaply."""

from .backbone_speed import BackboneSpeedHook
from .checkpoint_guard import CheckpointGuardHook
from .hooks import CurvesHook, ProgressBarHook, StopOnNonFiniteHook
from .predictions_picture import PredictionsPictureHook

__all__ = [
    'BackboneSpeedHook',
    'CheckpointGuardHook',
    'CurvesHook',
    'PredictionsPictureHook',
    'ProgressBarHook',
    'StopOnNonFiniteHook',
]
