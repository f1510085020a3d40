"""Operators on boxes, each row ``(x1, y1, x2, y2)`` in pixels.

``offset`` is 0 or 1: a box's width is ``x2 - x1 + offset`` (1 for boxes that name their last
pixel). Thresholds are IoU, 0 to 1.
"""

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms

from ..precision import widened

_SOFT_METHODS = ('naive', 'linear', 'gaussian')


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes kept, by descending score.

    Args:
        boxes: ``(N, 4)``.
        scores: ``(N,)``.
        iou_threshold: a box that overlaps a kept one by more than this is dropped.
        offset: see the module.

    Returns:
        ``(K,)`` int64, on the boxes' device.
    """
    # torchvision wants one floating dtype for both, and in half precision x2 + 1 may be x2.
    boxes = widened(boxes)
    scores = scores.to(boxes.dtype)
    return torchvision_nms(_with_offset(boxes, offset), scores, iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS: overlapped boxes lose score instead of being dropped (Bodla et al., 2017).

    Of equal scores the first in the input is taken first.

    Args:
        boxes: ``(N, 4)``.
        scores: ``(N,)``.
        dets: ``(N, 5)``; its first K rows are filled with the kept boxes and their new scores.
        iou_threshold: the overlap from which 'naive' and 'linear' lower a score.
        sigma: the width of 'gaussian'.
        min_score: a box whose score falls below this is dropped.
        method: 0 'naive' (to 0), 1 'linear' (times 1 - IoU), 2 'gaussian' (times
            exp(-IoU^2 / sigma)).
        offset: see the module.

    Returns:
        ``(K,)`` int64, the kept boxes' indices in the order of ``dets``.
    """
    method_name = _SOFT_METHODS[method]
    boxes, left = widened(boxes), widened(scores).clone()
    alive = torch.ones_like(left, dtype=torch.bool)
    order: list[int] = []
    while alive.any():
        best = int(left.masked_fill(~alive, -torch.inf).argmax())
        if not alive[best]:  # only NaN or -inf is left
            break
        dets[len(order)] = torch.cat((boxes[best], left[best : best + 1])).to(dets.dtype)
        order.append(best)
        alive[best] = False
        overlap = _overlaps(boxes[best : best + 1], boxes, offset=offset)[0].nan_to_num(0.0)
        left = left * _decay(overlap, iou_threshold, sigma, method_name)
        alive &= ~(left < min_score)
    return torch.tensor(order, dtype=torch.int64, device=boxes.device)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes by the kept box that drops them.

    Args:
        dets: ``(N, 5)``, the fifth column being the score.
        iou_threshold: a box that overlaps a kept one by at least this joins its group.

    Returns:
        One list of indices a group, the kept box first, the others by descending score.
    """
    dets = widened(dets)
    overlaps = _overlaps(dets[:, :4], dets[:, :4])
    groups = []
    order = dets[:, 4].argsort(descending=True, stable=True)
    while order.numel():
        kept, rest = order[0], order[1:]
        joins = overlaps[kept, rest] >= iou_threshold
        groups.append([int(kept), *rest[joins].tolist()])
        order = rest[~joins]
    return groups


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Fill ``ious`` with the overlaps of two sets of boxes.

    Args:
        bboxes1: ``(M, 4)``.
        bboxes2: ``(N, 4)``.
        ious: filled; ``(M, N)``, or ``(M,)`` if aligned.
        mode: 0 divides by the union, 1 by the area of the box in ``bboxes1``.
        aligned: compare row by row instead of each with each.
        offset: see the module.
    """
    options = {'mode': ('iou', 'iof')[mode], 'aligned': aligned, 'offset': offset}
    ious.copy_(_overlaps(widened(bboxes1), widened(bboxes2), **options))


def _decay(overlap: Tensor, iou_threshold: float, sigma: float, method: str) -> Tensor:
    """Return the factor on each score, ``(N,)``."""
    if method == 'gaussian':
        return torch.exp(-overlap.square() / sigma)
    lowered = torch.zeros_like(overlap) if method == 'naive' else 1 - overlap
    return torch.where(overlap >= iou_threshold, lowered, torch.ones_like(overlap))


def _overlaps(first: Tensor, second: Tensor, **options: object) -> Tensor:
    """Return what mmcv's own function in torch does; options: ``mode``, ``aligned``, ``offset``."""
    # Not above: mmcv.ops imports the operators of this module first.
    from mmcv.ops.bbox import _bbox_overlaps_cpu

    return _bbox_overlaps_cpu(first, second, **options)


def _with_offset(boxes: Tensor, offset: int) -> Tensor:
    """Return boxes whose width is ``x2 - x1``; shifting the far corner is the same arithmetic."""
    if offset == 0:
        return boxes
    return boxes + boxes.new_tensor((0, 0, offset, offset))
