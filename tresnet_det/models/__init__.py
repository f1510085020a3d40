"""The backbone and the classifiers on it, registered with MMDetection."""

from .classifier import ClsDataPreprocessor, ImageClassifier
from .data_sample import ClsDataSample
from .heads import LinearClsHead
from .losses import (
    AsymmetricLoss,
    SingleLabelAsymmetricLoss,
    SoftmaxCrossEntropyLoss,
    multi_label_loss,
)
from .ml_decoder import MLDecoderHead
from .tresnet import TResNet

__all__ = [
    'AsymmetricLoss',
    'ClsDataPreprocessor',
    'ClsDataSample',
    'ImageClassifier',
    'LinearClsHead',
    'MLDecoderHead',
    'SingleLabelAsymmetricLoss',
    'SoftmaxCrossEntropyLoss',
    'TResNet',
    'multi_label_loss',
]
