"""Deformable pooling of regions (Dai et al., 2017, section 2.2), on torch's own bilinear sampling.

A region is a row ``(image, x1, y1, x2, y2)`` in the pixels of the network's input. Everywhere:
input ``(N, C, H, W)``, rois ``(R, 5)``, offset ``(R, 2, PH, PW)`` with x before y, or empty for
none, output ``(R, C, PH, PW)``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..precision import widened


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fill ``output`` with the average of bilinear samples in each bin.

    Args:
        input: feature map.
        rois: regions.
        offset: shifts of the bins, as fractions of the region's sides over ``gamma``.
        output: filled; 0 where a region has no extent and ``sampling_ratio`` is 0.
        pooled_height: PH.
        pooled_width: PW.
        spatial_scale: feature pixels per input pixel.
        sampling_ratio: samples along a bin's side; 0 for one a feature pixel.
        gamma: factor on the offsets.
    """
    output.copy_(
        _pool(
            widened(input),
            rois,
            widened(offset),
            (pooled_height, pooled_width),
            spatial_scale,
            sampling_ratio,
            gamma,
        )
    )


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fill both gradients by running the forward pass again with autograd.

    The offsets' gradient is the output's derivative everywhere. mmcv's kernel differs for samples
    in the last row or column or just outside the map, where its formula is no derivative.
    """
    with torch.enable_grad():
        leaves = [widened(t).detach().requires_grad_() for t in (input, offset)]
        size = (pooled_height, pooled_width)
        out = _pool(leaves[0], rois, leaves[1], size, spatial_scale, sampling_ratio, gamma)
        if not out.requires_grad:  # no region has a sample
            grad_input.zero_()
            grad_offset.zero_()
            return
        grads = torch.autograd.grad(
            out, leaves, grad_output.to(out.dtype), allow_unused=True, materialize_grads=True
        )
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[1])


def _pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    boxes = rois[:, 1:].to(input.dtype) * spatial_scale - 0.5
    low, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]  # (R, 2), x before y
    bins = sides / sides.new_tensor((size[1], size[0]))
    if sampling_ratio > 0:
        counts = torch.full_like(bins, sampling_ratio)
    else:
        counts = bins.ceil().clamp(min=0)
    shift: Tensor | float = 0.0
    if offset.numel():
        shift = gamma * sides[:, :, None, None] * offset  # (R, 2, PH, PW)
    # each bin's first corner
    ys, xs = (torch.arange(n, dtype=bins.dtype, device=bins.device) for n in size)
    corners = low[:, :, None, None] + shift
    corners = corners + torch.stack(
        (
            (bins[:, 0, None, None] * xs).expand(-1, *size),
            (bins[:, 1, None, None] * ys[:, None]).expand(-1, *size),
        ),
        dim=1,
    )
    # Regions of one image with equally many samples are pooled together.
    keys = torch.cat((rois[:, :1].to(counts.dtype), counts), dim=1).long()  # (R, 3)
    kinds, kind = keys.unique(dim=0, return_inverse=True)
    output = input.new_zeros(len(rois), input.size(1), *size)
    for index, (image, columns, rows) in enumerate(kinds.tolist()):
        if columns == 0 or rows == 0:
            continue
        members = (kind == index).nonzero()[:, 0]
        samples = _sample(input[image], corners[members], bins[members], rows, columns)
        output.index_copy_(0, members, samples.mean(dim=-1).movedim(0, 1))
    return output


def _sample(plane: Tensor, corners: Tensor, bins: Tensor, rows: int, columns: int) -> Tensor:
    """Return ``rows * columns`` samples in each bin, 0 more than a pixel outside the map.

    Args:
        plane: ``(C, H, W)``.
        corners: each bin's first corner, x and y, ``(R, 2, PH, PW)``.
        bins: each region's bin width and height, ``(R, 2)``.
        rows: samples along a bin's height.
        columns: samples along its width.

    Returns:
        ``(C, R, PH, PW, rows * columns)``.
    """
    height, width = plane.shape[1:]
    y, x = (
        (torch.arange(n, dtype=plane.dtype, device=plane.device) + 0.5) / n for n in (rows, columns)
    )
    x = corners[:, 0, :, :, None] + bins[:, 0, None, None, None] * x  # (R, PH, PW, columns)
    y = corners[:, 1, :, :, None] + bins[:, 1, None, None, None] * y  # (R, PH, PW, rows)
    x = x[..., None, :].expand(*x.shape[:3], rows, columns).flatten(3)
    y = y[..., :, None].expand(*y.shape[:3], rows, columns).flatten(3)
    inside = (x >= -1) & (x <= width) & (y >= -1) & (y <= height)
    # to grid_sample's -1 ... 1, the centres of the outermost pixels
    grid = torch.stack((2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1), dim=-1)
    values = F.grid_sample(
        plane[None], grid.flatten(0, 2)[None], padding_mode='border', align_corners=True
    )  # (1, C, R * PH * PW, rows * columns)
    return values[0].unflatten(1, x.shape[:3]) * inside
