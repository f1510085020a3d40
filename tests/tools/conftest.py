"""A detector's config whose data a test may damage."""

import pytest
from tool_runs import write_config


@pytest.fixture
def config(data, tmp_path):
    return write_config('detection', tmp_path / 'tiny.py', data.folder)
