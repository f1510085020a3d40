"""Whether MMDetection is here: without it, the package is a backbone in plain torch."""

import functools
import importlib.util

INSTALL = 'pip install "tresnet-det[lite]"'


@functools.cache
def has_detection() -> bool:
    """Whether MMEngine and MMDetection are installed; looks for them, imports nothing."""
    return all(importlib.util.find_spec(name) is not None for name in ('mmengine', 'mmdet'))


def needs_detection(name: str) -> str:
    """Return the line that says what is missing for ``name``."""
    return f'{name} needs MMDetection, which is not installed: {INSTALL}'
