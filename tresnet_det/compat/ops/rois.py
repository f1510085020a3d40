"""Pooling of regions: RoIAlign (He et al., 2017) and RoIPool (Girshick, 2015).

A region is a row ``(image, x1, y1, x2, y2)`` in the pixels of the network's input;
``spatial_scale`` takes it to the feature map's. Everywhere: input ``(N, C, H, W)``, rois
``(R, 5)``, output ``(R, C, PH, PW)``.
"""

import torch
from torch import Tensor

from ..precision import widened
from .roi_max import align_max_backward, align_max_forward

_MAX = 0  # mmcv's pool_mode; 1 is the average


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` with the average, or the largest, of bilinear samples in each bin.

    Args:
        input: feature map.
        rois: regions.
        output: filled.
        argmax_y: filled if the mode is max, with the rows of the samples chosen, as ``output``.
        argmax_x: the same with their columns.
        aligned_height: PH.
        aligned_width: PW.
        spatial_scale: feature pixels per input pixel.
        sampling_ratio: samples along a bin's side; 0 for one a feature pixel.
        pool_mode: 0 max, 1 average.
        aligned: shift by half a pixel, so that pixel centres are where they should be.
    """
    if pool_mode == _MAX:
        align_max_forward(
            input, rois, output, argmax_y, argmax_x, spatial_scale, sampling_ratio, aligned
        )
        return
    feature = widened(input)
    pooled = torch.ops.torchvision.roi_align(
        feature,
        rois.to(feature.dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        sampling_ratio,
        aligned,
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input`` from ``grad_output``; see :func:`roi_align_forward`."""
    if pool_mode == _MAX:
        align_max_backward(grad_output, rois, argmax_y, argmax_x, grad_input)
        return
    grad = widened(grad_output)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad,
            rois.to(grad.dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``output`` with the largest value in each bin.

    Not torchvision's operator: that one rounds a region to whole pixels before it is divided,
    mmcv's rounds each bin outwards.

    Args:
        input: feature map.
        rois: regions; x2 and y2 name the last pixel.
        output: filled; 0 where a bin is empty.
        argmax: int32, filled with each maximum's index ``y * W + x``, or -1 for an empty bin; of
            equal values the first counts.
        pooled_height: PH.
        pooled_width: PW.
        spatial_scale: feature pixels per input pixel.
    """
    height, width = input.shape[2:]
    output.zero_()
    argmax.fill_(-1)
    columns = _bin_edges(rois[:, 1], rois[:, 3], spatial_scale, pooled_width, width)
    rows = _bin_edges(rois[:, 2], rois[:, 4], spatial_scale, pooled_height, height)
    for r, image in enumerate(rois[:, 0].long().tolist()):
        for pw, (left, right) in enumerate(columns[r]):
            if left >= right:
                continue
            # Along the row first: then the first of equal values is the first in memory.
            row_max, x = input[image, :, :, left:right].max(dim=2)  # (C, H)
            for ph, (top, bottom) in enumerate(rows[r]):
                if top >= bottom:
                    continue
                value, y = row_max[:, top:bottom].max(dim=1)  # (C,)
                y = y + top
                output[r, :, ph, pw] = value
                index = y * width + x.gather(1, y[:, None])[:, 0] + left
                argmax[r, :, ph, pw] = index.to(argmax.dtype)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``grad_input``: each bin's gradient goes to its maximum. See :func:`roi_pool_forward`.

    The last three arguments are mmcv's; the indices in ``argmax`` say it all.
    """
    n, c, h, w = grad_input.shape
    plane = rois[:, 0].long()[:, None] * c + torch.arange(c, device=rois.device)  # (R, C)
    index = plane[:, :, None] * (h * w) + argmax.flatten(2)  # (R, C, PH * PW)
    filled = argmax.flatten(2) >= 0
    grad = widened(grad_output).flatten(2)
    total = grad.new_zeros(n * c * h * w)
    total.index_add_(0, index[filled], grad[filled])
    grad_input.copy_(total.view(n, c, h, w))


def _bin_edges(
    low: Tensor, high: Tensor, spatial_scale: float, bins: int, size: int
) -> list[list[tuple[int, int]]]:
    """Return each region's bins along one axis as pixel ranges, clipped to the map.

    Args:
        low: first pixel of each region, ``(R,)``.
        high: last pixel.
        spatial_scale: feature pixels per input pixel.
        bins: number of bins.
        size: the map's extent.

    Returns:
        For each region a list of ``(start, stop)``; empty ones where the region has no extent.
    """
    start = widened(low) * spatial_scale
    extent = (widened(high) + 1) * spatial_scale - start
    step = torch.arange(bins, device=low.device) * (extent / bins)[:, None]  # (R, bins)
    stop = torch.arange(1, bins + 1, device=low.device) * (extent / bins)[:, None]
    first = (step + start[:, None]).floor().clamp(0, size)
    last = (stop + start[:, None]).ceil().clamp(0, size)
    last = torch.where(extent[:, None] > 0, last, first)
    edges = torch.stack((first, last), dim=2).long().tolist()
    return [[(a, b) for a, b in region] for region in edges]
