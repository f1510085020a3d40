"""A log to look into, the metric by both backends, and the figure behind an image."""

import logging
from functools import partial

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


@pytest.fixture(params=['pycocotools', 'faster_coco_eval'])
def backend(request):
    """Each backend in turn; the quick one where it is installed."""
    if request.param == 'faster_coco_eval':
        pytest.importorskip('faster_coco_eval')
    return request.param


@pytest.fixture
def build(backend):
    """The metric, by each backend in turn."""
    from tresnet_det.evaluation import CocoTwelveMetric

    return partial(CocoTwelveMetric, backend=backend)


@pytest.fixture
def figures(monkeypatch):
    """The figures that were written as images, whose artists say what was drawn."""
    written = []
    write = FigureCanvasAgg.print_png

    def record(canvas, *args, **kwargs):
        written.append(canvas.figure)
        write(canvas, *args, **kwargs)

    monkeypatch.setattr(FigureCanvasAgg, 'print_png', record)
    return written
