"""The backbone, registered with MMDetection."""

from .tresnet import TResNet

__all__ = ['TResNet']
