"""A log to look into, and the figure behind a picture."""

import logging

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmengine.logging import MMLogger


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
def figures(monkeypatch):
    """The figures that were written as pictures, whose artists say what was drawn."""
    written = []
    write = FigureCanvasAgg.print_png

    def record(canvas, *args, **kwargs):
        written.append(canvas.figure)
        write(canvas, *args, **kwargs)

    monkeypatch.setattr(FigureCanvasAgg, 'print_png', record)
    return written
