import os
from pathlib import Path

import pytest
import torch

import tresnet_det  # noqa: F401  (prepares the stack before a test imports MMDetection)

ROOT = Path(__file__).resolve().parents[1]

# One block a stage, a quarter of the width: the mechanics, at a price that a test can pay.
TINY_ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real photographs; the test is skipped, saying so, where it is absent."""
    folder = Path(os.environ.get('TRESNET_DET_DATA', ROOT.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no real data at {folder}: set TRESNET_DET_DATA')
    return folder


@pytest.fixture
def tiny_arch() -> dict:
    return dict(TINY_ARCH)
