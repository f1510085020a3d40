"""A log to look into, and the real photographs where they are."""

import logging
import os
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

import tresnet_det  # noqa: F401  (prepares the stack before MMDetection is imported)


@pytest.fixture
def log():
    """Lines that mmengine's current logger gets during the test."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.handlers.append(handler)
    yield lines
    logger.handlers.remove(handler)


@pytest.fixture
def data_root():
    """Where the real photographs are; the test is skipped where they are not."""
    default = Path(__file__).parents[2] / '..' / 'shared' / 'data'
    root = Path(os.environ.get('TRESNET_DET_DATA', default))
    if not root.is_dir():
        pytest.skip(f'no real photographs at {root}: set TRESNET_DET_DATA')
    return root
