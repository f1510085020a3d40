"""Hooks, and an optimiser, where MMEngine, MMDetection and torch have none; all are registered."""

from .backbone_speed import BackboneSpeedHook
from .checkpoint_guard import CheckpointGuardHook
from .hooks import CurvesHook, ProgressBarHook, StopOnNonFiniteHook
from .predictions_picture import PredictionsPictureHook
from .sgdw import SGDW

__all__ = [
    'SGDW',
    'BackboneSpeedHook',
    'CheckpointGuardHook',
    'CurvesHook',
    'PredictionsPictureHook',
    'ProgressBarHook',
    'StopOnNonFiniteHook',
]
