"""Hooks, loops and an optimizer where MMEngine, MMDetection and torch have none; registered."""

from .backbone_speed import BackboneSpeedHook
from .checkpoint_hook import SafeCheckpointHook
from .hooks import CheckpointGuardHook, CurvesHook, ProgressBarHook, ShareStatisticsHook
from .loggers import ClassScalarsHook
from .non_finite import StopOnNonFiniteHook
from .one_cycle import WarmupCosineLR, WarmupCosineMomentum
from .predictions_image import PredictionsImageHook
from .sgdw import SGDW
from .train_loops import ResumableEpochTrainLoop, ResumableIterTrainLoop

__all__ = [
    'SGDW',
    'BackboneSpeedHook',
    'CheckpointGuardHook',
    'ClassScalarsHook',
    'CurvesHook',
    'PredictionsImageHook',
    'ProgressBarHook',
    'ResumableEpochTrainLoop',
    'ResumableIterTrainLoop',
    'SafeCheckpointHook',
    'ShareStatisticsHook',
    'StopOnNonFiniteHook',
    'WarmupCosineLR',
    'WarmupCosineMomentum',
]
