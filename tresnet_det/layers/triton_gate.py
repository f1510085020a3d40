"""Squeeze-and-excitation's product of a map and a gate per channel and image, in Triton.

Experimental: tested in Triton's interpreter and compiled for a GPU, but never run on one.

Forward reads and writes the map once. So does backward, where torch needs a pass for each factor's
gradient and another for the second's sum.
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import Function, once_differentiable

from .triton_kernels import NUM_WARPS, Tiling, dense, in_layout, is_channels_last, tile_planes
from .triton_norm_kernels import line_lengths

# Sizes that change with the batch must not each compile a kernel of their own.
_SIZES = ['planes', 'channels', 'pixels', 'steps', 'chunk']


def gate_product(y: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """Return ``y * gate``, in the layout of ``y``, keeping the two for backward.

    Args:
        y: ``(N, C, H, W)`` in either layout; :func:`.triton_kernels.is_available` must hold for it.
        gate: ``(N, C, 1, 1)``; where its dtype is another, the wider of the two is the product's.

    Raises:
        ValueError: If the gate is not of that shape.
    """
    if gate.shape != (*y.shape[:2], 1, 1):
        raise ValueError(f'a gate of shape {tuple(gate.shape)} is none for {tuple(y.shape)}')
    return _GateProduct.apply(y, gate)


class _GateProduct(Function):
    @staticmethod
    def forward(ctx, y, gate):
        y, gate = dense(y), gate.contiguous()
        out = torch.empty_like(y, dtype=torch.promote_types(y.dtype, gate.dtype))
        tiling = _tiling(y)
        with torch.cuda.device_of(y):
            _product_kernel[tiling.blocks, tiling.splits](
                y, gate, out, *_arguments(y, tiling), num_warps=NUM_WARPS
            )
        ctx.save_for_backward(y, gate)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        y, gate = ctx.saved_tensors
        tiling = _tiling(y)
        grad_out = in_layout(grad_out, tiling.last)
        grad_y = torch.empty_like(y)
        partial = y.new_empty((tiling.splits, *gate.shape), dtype=torch.float32)
        with torch.cuda.device_of(y):
            _gradients_kernel[tiling.blocks, tiling.splits](
                grad_out, y, gate, grad_y, partial, *_arguments(y, tiling), num_warps=NUM_WARPS
            )
            grad_gate = partial[0] if tiling.splits == 1 else partial.sum(0)
        return grad_y, grad_gate.to(gate.dtype)


def _tiling(y: torch.Tensor) -> Tiling:
    images, channels, height, width = y.shape
    return tile_planes(images, channels, height * width, is_channels_last(y))


def _arguments(y: torch.Tensor, tiling: Tiling) -> tuple:
    """Return what both kernels end with, but for the warps."""
    images, channels, height, width = y.shape
    return (
        images * channels, channels, height * width, tiling.steps, tiling.chunk,
        tiling.last, tiling.rows, tiling.cols, tiling.align,
    )  # fmt: skip


@triton.jit
def _planes(planes, channels, LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    # The planes of this program, (1, COLS) or (ROWS, 1), and which of them there are.
    block = tl.program_id(0)
    if LAST:
        blocks_across = (channels + COLS - 1) // COLS
        channel = block % blocks_across * COLS + tl.arange(0, COLS)[None, :]
        plane = block // blocks_across * channels + channel
        exists = channel < channels
    else:
        plane = block * ROWS + tl.arange(0, ROWS)[:, None]
        exists = plane < planes
    return plane, exists


@triton.jit
def _tile(step, channels, pixels, LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    # The tile's first offset, the offsets from there (ROWS, COLS), and which of its pixels, (ROWS,
    # 1) or (1, COLS), there are. A map may have more values than 32 bits can count.
    block = tl.program_id(0)
    rows = tl.arange(0, ROWS)[:, None]
    cols = tl.arange(0, COLS)[None, :]
    if LAST:
        blocks_across = (channels + COLS - 1) // COLS
        first_line = (block // blocks_across).to(tl.int64) * pixels + step * ROWS
        start = first_line * channels + block % blocks_across * COLS
        offsets = rows.to(tl.int64) * channels + cols
        exists = rows < pixels - step * ROWS
    else:
        start = block.to(tl.int64) * ROWS * pixels + step * COLS
        offsets = rows.to(tl.int64) * pixels + cols
        exists = cols < pixels - step * COLS
    return start, offsets, exists


@triton.jit(do_not_specialize=_SIZES)
def _product_kernel(
    y_ptr, gate_ptr, out_ptr, planes, channels, pixels, steps, chunk,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    channels, pixels = line_lengths(channels, pixels, LAST, ALIGN)
    plane, exists = _planes(planes, channels, LAST, ROWS, COLS)
    gate = tl.load(gate_ptr + plane, mask=exists, other=0.0).to(tl.float32)
    first = tl.program_id(1) * chunk
    for step in range(first, tl.minimum(first + chunk, steps)):
        start, offsets, in_image = _tile(step, channels, pixels, LAST, ROWS, COLS)
        mask = exists & in_image
        y = tl.load(y_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
        tl.store(out_ptr + start + offsets, (y * gate).to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def _gradients_kernel(
    grad_out_ptr, y_ptr, gate_ptr, grad_y_ptr, partial_ptr, planes, channels, pixels, steps, chunk,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    channels, pixels = line_lengths(channels, pixels, LAST, ALIGN)
    plane, exists = _planes(planes, channels, LAST, ROWS, COLS)
    gate = tl.load(gate_ptr + plane, mask=exists, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, COLS), tl.float32)
    first = tl.program_id(1) * chunk
    for step in range(first, tl.minimum(first + chunk, steps)):
        start, offsets, in_image = _tile(step, channels, pixels, LAST, ROWS, COLS)
        mask = exists & in_image
        grad_out = tl.load(grad_out_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
        y = tl.load(y_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
        grad_y = (grad_out * gate).to(grad_y_ptr.dtype.element_ty)
        tl.store(grad_y_ptr + start + offsets, grad_y, mask=mask)
        total += grad_out * y
    total = tl.sum(total, axis=0 if LAST else 1, keep_dims=True)
    row = tl.program_id(1).to(tl.int64) * planes
    tl.store(partial_ptr + row + plane, total, mask=exists)
