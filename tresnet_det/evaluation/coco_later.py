"""The name under which configs have the COCO metric, whose imports wait until it is built."""

from typing import Any

from mmdet.registry import METRICS


@METRICS.register_module(name='CocoTwelveMetric')
def build_coco_metric(**kwargs: Any) -> Any:
    """Build the metric that gives the twelve; what it needs is imported when it is built."""
    from .coco_metric import CocoTwelveMetric

    return CocoTwelveMetric(**kwargs)
