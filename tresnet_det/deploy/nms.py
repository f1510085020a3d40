"""Non-maximum suppression as one operator that traces with fixed shapes.

``torchvision.ops.nms`` takes one image and returns as many boxes as are left: for a batch it
would have to move the images' boxes apart, which costs their last digits, and its result has no
shape that a graph knows. This operator takes a batch and returns scores. A program of torch.export
that holds it needs ``import tresnet_det.deploy`` before it is loaded; in an ONNX file it is the
standard NonMaxSuppression.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op('tresnet_det::suppress', mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, max_boxes: int) -> Tensor:
    """Return the scores with those of suppressed boxes at 0, ``(N, K)``.

    Args:
        boxes: ``(N, K, 4)``, each row ``(x1, y1, x2, y2)``, of one class or moved apart by class.
        scores: ``(N, K)``; a box of score 0 is none.
        iou_threshold: A box that overlaps one of higher score by more is suppressed, in [0, 1].
        max_boxes: Of each image, so many boxes of the highest scores stay.
    """
    kept = torch.zeros_like(scores)
    for image in range(len(boxes)):
        there = (scores[image] > 0).nonzero()[:, 0]
        order = nms(boxes[image, there], scores[image, there], iou_threshold)
        chosen = there[order[:max_boxes]]
        kept[image, chosen] = scores[image, chosen]
    return kept


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, max_boxes: int) -> Tensor:
    return torch.empty_like(scores)


def _onnx_suppress(boxes: Any, scores: Any, iou_threshold: float, max_boxes: int) -> Any:
    """Build :func:`suppress` out of ONNX operators; torch.onnx calls it while it translates."""
    from onnxscript import opset18

    op: Any = opset18
    # (boxes left in the whole batch, 3): image, class, box
    chosen = op.NonMaxSuppression(boxes, op.Unsqueeze(scores, [1]), max_boxes, iou_threshold, 0.0)
    places = op.Gather(chosen, [0, 2], axis=1)
    return op.ScatterND(op.Expand(0.0, op.Shape(scores)), places, op.GatherND(scores, places))


ONNX_TRANSLATIONS: dict[Callable, Callable] = {
    torch.ops.tresnet_det.suppress.default: _onnx_suppress
}
