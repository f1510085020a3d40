"""A classifier of one block a stage, and settings that a test can pay for."""

import pytest
import torch

from tresnet_det import TResNet
from tresnet_det.profiling.models import ModelSpec, TResNetClassifier
from tresnet_det.profiling.settings import Settings


@pytest.fixture
def settings():
    return Settings(torch.device('cpu'), batch_size=2, rounds=2, min_seconds=0)


@pytest.fixture
def tiny(tiny_arch):
    return TResNetClassifier(TResNet(arch=tiny_arch, out_indices=(3,)), num_classes=5)


@pytest.fixture
def tiny_spec(tiny_arch):
    def build():
        return TResNetClassifier(TResNet(arch=tiny_arch, out_indices=(3,)))

    return ModelSpec('tiny', 64, build, is_ours=True, folds=True)
