"""A config for the tools."""

import pytest


@pytest.fixture
def config(tiny_config):
    """A detector's config on the demo data."""
    return tiny_config('detection')
