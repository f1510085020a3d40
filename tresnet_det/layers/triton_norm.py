"""In-Place ABN in Triton: the function of ``inplace_abn.py`` in two passes each way.

Experimental: tested in Triton's interpreter and compiled for a GPU, but never run on one.

torch's kernels write the norm's output before its activation, and in backward recover it and the
gradient there. Counted in maps read or written, they move 5 forward and 10 backward; the kernels of
``triton_norm_kernels.py`` move 3 and 5. The notation is that of ``inplace_abn.py``.
"""

import torch
from torch.autograd.function import Function, once_differentiable

from .triton_kernels import NUM_WARPS, Tiling, dense, in_layout, is_channels_last, tile_channels
from .triton_norm_kernels import (
    gradient_kernel,
    gradient_sums_kernel,
    normalize_kernel,
    partial_statistics_kernel,
    statistics_kernel,
)

# The statistics of the programs are put together by few programs, each with a block of these sizes.
_SPLITS_A_STEP = 128
_CHANNELS_A_PROGRAM = 16


def inplace_abn(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    training: bool,
    momentum: float,
    eps: float,
    slope: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return batch norm and leaky ReLU of ``x``, keeping the output alone for backward.

    With a slope of 1, the identity, the input is kept instead.

    Args:
        x: ``(N, C, H, W)`` in either layout; :func:`.triton_kernels.is_available` must hold for it.
        weight: ``(C,)``, of any sign; the scale is ``|weight| + eps``.
        bias: ``(C,)``.
        running_mean: ``(C,)``, contiguous; updated in place in training.
        running_var: ``(C,)``, contiguous; updated in place in training.
        training: Whether the statistics are the batch's; it then needs two values per channel.
        momentum: Share of the new batch in the running statistics.
        eps: Added to the variance and to ``|weight|``.
        slope: Slope of the leaky ReLU, above 0.

    Returns:
        The output; mean and inverse standard deviation, each ``(C,)`` and without gradient.

    Raises:
        ValueError: If the statistics are not of ``x``'s channels.
    """
    if not x.shape[1] == weight.numel() == bias.numel() == running_mean.numel():
        raise ValueError(f'{weight.numel()} channels were expected, got shape {tuple(x.shape)}')
    return _InPlaceABN.apply(
        x, weight, bias, running_mean, running_var, training, momentum, eps, slope
    )


class _InPlaceABN(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, training, momentum, eps, slope):
        x, weight, bias = dense(x), weight.contiguous(), bias.contiguous()
        tiling = _tiling(x)
        with torch.cuda.device_of(x):
            if training:
                mean, invstd = _statistics(x, tiling, running_mean, running_var, momentum, eps)
            else:
                mean, invstd = running_mean, (running_var + eps).rsqrt()
            y = torch.empty_like(x)
            normalize_kernel[tiling.blocks, tiling.splits](
                x, y, mean, invstd, weight, bias, eps, slope,
                *_arguments(x, tiling), num_warps=NUM_WARPS,
            )  # fmt: skip
        ctx.training, ctx.eps, ctx.slope = training, eps, slope
        # What is kept, and what of it has a normalised value of 0.
        kept, shift = (x, mean) if slope == 1 else (y, bias)
        ctx.save_for_backward(kept, weight, shift, invstd)
        ctx.mark_non_differentiable(mean, invstd)
        return y, mean, invstd

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, _grad_mean, _grad_invstd):
        kept, weight, shift, invstd = ctx.saved_tensors
        needs_x, *needs_parameters = ctx.needs_input_grad[:3]
        tiling = _tiling(kept)
        grad_y = in_layout(grad_y, tiling.last)
        inputs = kept, grad_y, weight, shift, invstd
        figures = ctx.eps, 1 / ctx.slope, ctx.slope, ctx.slope == 1
        arguments = _arguments(kept, tiling)
        grid = tiling.blocks, tiling.splits
        grad_x = grad_weight = grad_bias = sums = None
        with torch.cuda.device_of(kept):
            if ctx.training or any(needs_parameters):
                # the gradients of bias and weight, by program and channel
                partial = kept.new_empty((2, tiling.splits, kept.shape[1]), dtype=torch.float32)
                gradient_sums_kernel[grid](
                    *inputs, partial, *figures, *arguments, num_warps=NUM_WARPS
                )
                sums = partial[:, 0] if tiling.splits == 1 else partial.sum(1)  # (2, C)
                grad_bias, grad_weight = sums.to(weight.dtype)
            if needs_x:
                grad_x = torch.empty_like(kept)
                gradient_kernel[grid](
                    *inputs, sums, grad_x, kept.shape[1] / kept.numel(),
                    *figures, ctx.training, *arguments, num_warps=NUM_WARPS,
                )  # fmt: skip
        return grad_x, grad_weight, grad_bias, None, None, None, None, None, None


def _statistics(
    x: torch.Tensor,
    tiling: Tiling,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and inverse standard deviation, each ``(C,)``; update the running statistics."""
    channels = x.shape[1]
    # count, mean and sum of squares around it, by program and channel
    partial = x.new_empty((3, tiling.splits, channels), dtype=torch.float32)
    partial_statistics_kernel[tiling.blocks, tiling.splits](
        x, partial, *_arguments(x, tiling), num_warps=NUM_WARPS
    )
    mean = x.new_empty(channels, dtype=torch.float32)
    invstd = torch.empty_like(mean)
    statistics_kernel[(-(-channels // _CHANNELS_A_PROGRAM),)](
        partial, mean, invstd, running_mean, running_var, momentum, eps,
        channels, tiling.splits, _SPLITS_A_STEP, _CHANNELS_A_PROGRAM,
    )  # fmt: skip
    return mean, invstd


def _tiling(x: torch.Tensor) -> Tiling:
    images, channels, height, width = x.shape
    return tile_channels(images, channels, height * width, is_channels_last(x))


def _arguments(x: torch.Tensor, tiling: Tiling) -> tuple:
    """Return what every kernel over a map ends with, but for the warps."""
    images, channels, height, width = x.shape
    return (
        images, channels, height * width, tiling.steps, tiling.chunk,
        tiling.last, tiling.rows, tiling.cols, tiling.align,
    )  # fmt: skip
