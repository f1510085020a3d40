"""Deformable convolution v1 (Dai et al., 2017), v2 (Zhu et al., 2019) and multi-scale attention.

Convolutions: input ``(N, C, H, W)``, weight ``(O, C / group, kH, kW)``, offset
``(N, 2 * deformable_group * kH * kW, H', W')`` in pixels with y before x, output
``(N, O, H', W')``. torchvision has both; buffers that only mmcv's kernels need stay untouched.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..precision import widened

# What torchvision takes in this order, by the names that mmcv gives it in its calls.
_SIZES = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
_MODULATED_SIZES = (
    *('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w'),
    *('group', 'deformable_group'),
)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **sizes: int,
) -> None:
    """Fill ``output`` with the deformable convolution."""
    _convolve(input, weight, offset, None, None, output, [sizes[name] for name in _SIZES])


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Fill ``gradInput`` and ``gradOffset``."""
    geometry = [sizes[name] for name in _SIZES]
    grads = _gradients(gradOutput, input, weight, offset, None, geometry)
    gradInput.copy_(grads[0])
    gradOffset.copy_(grads[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **sizes: int,
) -> None:
    """Add ``scale`` times the weight's gradient to ``gradWeight``."""
    geometry = [sizes[name] for name in _SIZES]
    # The gradient by the weight does not depend on the weight, which mmcv does not pass.
    grads = _gradients(gradOutput, input, torch.zeros_like(gradWeight), offset, None, geometry)
    gradWeight.add_(grads[1].to(gradWeight.dtype), alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Fill ``output``; ``mask`` ``(N, deformable_group * kH * kW, H', W')`` scales the samples."""
    geometry = [sizes[name] for name in _MODULATED_SIZES]
    _convolve(input, weight, offset, mask, bias if with_bias else None, output, geometry)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Fill the five gradients (``grad_bias`` only with a bias)."""
    geometry = [sizes[name] for name in _MODULATED_SIZES]
    grads = _gradients(grad_output, input, weight, offset, mask, geometry)
    outputs = (grad_input, grad_weight, grad_offset, grad_mask)
    for out, grad in zip(outputs, grads[:4], strict=True):
        out.copy_(grad)
    if with_bias:
        grad_bias.copy_(grads[4])


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021, eq. 3).

    Args:
        value: ``(N, S, M, D)``: all levels' pixels, M heads of D channels.
        spatial_shapes: each level's height and width, ``(L, 2)``.
        level_start_index: each level's first pixel in S, ``(L,)``; not needed, levels follow on
            each other.
        sampling_loc: ``(N, Q, M, L, P, 2)``, x and y as fractions of the level.
        attn_weight: ``(N, Q, M, L, P)``.
        im2col_step: mmcv's chunk of images; not needed.

    Returns:
        ``(N, Q, M * D)``.
    """
    out = _attend(widened(value), spatial_shapes, widened(sampling_loc), attn_weight)
    return out.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three gradients by running the forward pass again with autograd."""
    with torch.enable_grad():
        leaves = [widened(t).detach().requires_grad_() for t in (value, sampling_loc, attn_weight)]
        out = _attend(leaves[0], spatial_shapes, leaves[1], leaves[2])
        grads = torch.autograd.grad(out, leaves, grad_output.to(out.dtype))
    for filled, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        filled.copy_(grad)


def _convolve(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    output: Tensor,
    geometry: Sequence[int],
) -> None:
    if output.numel() == 0:
        return
    x = widened(input)
    output.copy_(
        torch.ops.torchvision.deform_conv2d(
            x,
            weight.to(x.dtype),
            offset.to(x.dtype),
            x.new_zeros(x.size(0), 1) if mask is None else mask.to(x.dtype),
            x.new_zeros(weight.size(0)) if bias is None else bias.to(x.dtype),
            *geometry,
            mask is not None,
        )
    )


def _gradients(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    geometry: Sequence[int],
) -> tuple[Tensor, ...]:
    """Return the gradients by input, weight, offset, mask and bias."""
    x = widened(input)
    return torch.ops.torchvision._deform_conv2d_backward(
        grad_output.to(x.dtype).contiguous(),
        x,
        weight.to(x.dtype),
        offset.to(x.dtype),
        x.new_zeros(x.size(0), 1) if mask is None else mask.to(x.dtype),
        x.new_zeros(weight.size(0)),
        *geometry,
        mask is not None,
    )


def _attend(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Sum the weighted samples over levels and points; see :func:`ms_deform_attn_forward`."""
    # Not above: mmcv.ops imports the operators of this module first.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, spatial_shapes.tolist(), locations, weights)
