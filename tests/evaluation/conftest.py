"""A log to look into, the metric by both backends, and the figure behind a chart."""

import logging
from functools import partial

import pytest
from matplotlib.figure import Figure
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
    from tresnet_det.evaluation.coco_metric import CocoTwelveMetric

    return partial(CocoTwelveMetric, backend=backend)


@pytest.fixture
def figures(monkeypatch):
    """The figures that were written as images, whose artists say what was drawn."""
    written = []
    write = Figure.savefig

    def record(figure, *args, **kwargs):
        written.append(figure)
        write(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', record)
    return written
