"""RoIAlign that takes the largest bilinear sample of a bin, in plain torch.

torchvision has only the average. Each region is sampled by two small matrices, one along each
axis, since the samples form a grid. Shapes are those of :mod:`tresnet_det.compat.ops.rois`.
"""

import math

import torch
from torch import Tensor

from ..precision import widened

_NO_SAMPLE = -1.0  # mmcv's mark for a bin without samples


def align_max_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Fill ``output`` with the largest samples, ``argmax_y`` and ``argmax_x`` with their place."""
    ph, pw = output.shape[2:]
    feature = widened(input)
    output.zero_()
    argmax_y.fill_(_NO_SAMPLE)
    argmax_x.fill_(_NO_SAMPLE)
    for r, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        ys = _samples(y1, y2, spatial_scale, ph, sampling_ratio, aligned, feature)  # (PH, GH)
        xs = _samples(x1, x2, spatial_scale, pw, sampling_ratio, aligned, feature)  # (PW, GW)
        if ys.numel() == 0 or xs.numel() == 0:
            continue
        values = _sample_grid(feature[int(image)], ys.flatten(), xs.flatten())
        # (C, PH * GH, PW * GW) -> (C, PH, PW, GH * GW)
        values = values.unflatten(2, xs.shape).unflatten(1, ys.shape).transpose(2, 3).flatten(3)
        largest, index = values.max(dim=3)
        output[r] = largest.to(output.dtype)
        row, column = index // xs.size(1), index % xs.size(1)  # (C, PH, PW)
        argmax_y[r] = ys.gather(1, row.movedim(1, 0).flatten(1)).view(ph, -1, pw).movedim(0, 1)
        argmax_x[r] = (
            xs.gather(1, column.movedim(2, 0).flatten(1)).view(pw, -1, ph).permute(1, 2, 0)
        )


def align_max_backward(
    grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor
) -> None:
    """Fill ``grad_input``: each bin's gradient goes to the four pixels around its sample."""
    n, c, h, w = grad_input.shape
    plane = rois[:, 0].long()[:, None] * c + torch.arange(c, device=rois.device)  # (R, C)
    grad = widened(grad_output)
    sampled = (argmax_y != _NO_SAMPLE).to(grad.dtype)
    total = grad.new_zeros(n * c * h * w)
    for y, weight_y in _corners(widened(argmax_y), h):
        for x, weight_x in _corners(widened(argmax_x), w):
            index = (plane[:, :, None, None] * h + y) * w + x  # (R, C, PH, PW)
            share = grad * weight_y * weight_x * sampled
            total.index_add_(0, index.flatten(), share.flatten())
    grad_input.copy_(total.view(n, c, h, w))


def _samples(
    low: float,
    high: float,
    spatial_scale: float,
    bins: int,
    sampling_ratio: int,
    aligned: bool,
    like: Tensor,
) -> Tensor:
    """Return the places of a region's samples along one axis, ``(bins, samples a bin)``."""
    start = low * spatial_scale - (0.5 if aligned else 0.0)
    extent = (high - low) * spatial_scale
    if not aligned:  # the first RoIAlign made every region a pixel wide at least
        extent = max(extent, 1.0)
    count = sampling_ratio if sampling_ratio > 0 else max(math.ceil(extent / bins), 0)
    bin_starts = torch.arange(bins, dtype=like.dtype, device=like.device)[:, None]
    within = (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) / max(count, 1)
    return start + (bin_starts + within) * (extent / bins)


def _sample_grid(feature: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """Return ``feature`` ``(C, H, W)`` at each crossing of ``ys`` and ``xs``: ``(C, Y, X)``."""
    rows = _interpolation(ys, feature.size(1))  # (Y, H)
    columns = _interpolation(xs, feature.size(2))  # (X, W)
    return rows @ feature @ columns.T


def _interpolation(places: Tensor, size: int) -> Tensor:
    """Return the matrix ``(len(places), size)`` that interpolates linearly at ``places``."""
    matrix = places.new_zeros(len(places), size)
    for pixel, weight in _corners(places, size):
        matrix.scatter_add_(1, pixel[:, None], weight[:, None])
    return matrix


def _corners(places: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the two pixels next to each place and their weights; 0 more than a pixel outside."""
    inside = ((places >= -1) & (places <= size)).to(places.dtype)
    clipped = places.clamp(0, size - 1)
    below = clipped.floor()
    fraction = clipped - below
    above = (below + 1).clamp(max=size - 1)
    return (below.long(), (1 - fraction) * inside), (above.long(), fraction * inside)
