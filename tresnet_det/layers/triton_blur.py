"""The blur of ``refinements.BlurPool`` and its transpose in Triton, one kernel each.

Experimental: tested in Triton's interpreter and compiled for a GPU, but never run on one.

Each value of the result gathers what it is made of, so nothing is padded and nothing is added to
twice. Contiguous maps are taken for ``N * C`` images of one channel.
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import Function, once_differentiable

from .triton_kernels import aligned, dense, in_layout, is_channels_last, next_power_of_two

# Sizes that change with the batch must not each compile a kernel of their own.
_SIZES = ['images', 'channels', 'height', 'width', 'blurred_height', 'blurred_width']
# Values of the result that a program makes, from up to nine loads each: more need so many registers
# that fewer programs fit on a processor.
_TILE = 1024
_LONGEST_LINE = 64
_NUM_WARPS = 4
# From so many values on, offsets are counted in 64 bits: 32 hold twice as many, and those past the
# last value too.
_WIDE = 2**30


def blur_pool(x: torch.Tensor) -> torch.Tensor:
    """Blur and keep every second pixel: ``(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2))``.

    Args:
        x: In either layout, both sides at least 2 pixels (:class:`.BlurPool` checks them);
            :func:`.triton_kernels.is_available` must hold for it.
    """
    return _BlurPool.apply(x)


class _BlurPool(Function):
    @staticmethod
    def forward(ctx, x):
        x = dense(x)
        ctx.shape, ctx.last = x.shape, is_channels_last(x)
        height, width = x.shape[2:]
        y = _empty((*x.shape[:2], (height + 1) // 2, (width + 1) // 2), x, ctx.last)
        _launch(_blur_kernel, x, y, x.shape, y.shape, ctx.last)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y):
        grad_y = in_layout(grad_y, ctx.last)
        grad_x = _empty(ctx.shape, grad_y, ctx.last)
        _launch(_transposed_blur_kernel, grad_y, grad_x, ctx.shape, grad_y.shape, ctx.last)
        return grad_x


def _empty(shape: tuple, like: torch.Tensor, last: bool) -> torch.Tensor:
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def _launch(kernel, source, result, shape: tuple, blurred_shape: tuple, last: bool) -> None:
    """Run ``kernel`` from ``source`` to ``result``; ``shape`` is that before the blur."""
    images, channels, result_height, result_width = result.shape
    if last:
        lines, line = images * result_height * result_width, channels
    else:
        images, channels = images * channels, 1
        lines, line = images * result_height, result_width
    cols = min(next_power_of_two(line), _LONGEST_LINE)
    rows = min(next_power_of_two(lines), _TILE // cols)
    with torch.cuda.device_of(source):
        kernel[-(-lines // rows), -(-line // cols)](
            source, result, images, channels, *shape[2:], *blurred_shape[2:],
            last, rows, cols, aligned(line), max(source.numel(), result.numel()) >= _WIDE,
            num_warps=_NUM_WARPS,
        )  # fmt: skip


@triton.jit
def _tile(
    images, channels, height, width,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, ALIGN: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    # The tile of the result, (ROWS, COLS): its images, rows, columns and channels, each of a
    # shape that broadcasts to the tile's, its offsets, and which of them there are.
    line = tl.program_id(0)
    if WIDE:
        line = line.to(tl.int64)
    line = line * ROWS + tl.arange(0, ROWS)[:, None]
    value = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    # The product tells the compiler what divides a line's length, without a kernel for each.
    if LAST:
        length = channels // ALIGN * ALIGN
        channel = value
        w = line % width
        image_row = line // width
    else:
        length = width // ALIGN * ALIGN
        channel = 0
        w = value
        image_row = line
    image = image_row // height
    mask = (image < images) & (value < length)
    return image, image_row % height, w, channel, line * length + value, mask


@triton.jit
def _reflect(position, length):
    position = tl.abs(position)
    return tl.where(position >= length, 2 * (length - 1) - position, position)


@triton.jit(do_not_specialize=_SIZES)
def _blur_kernel(
    x_ptr, y_ptr, images, channels, height, width, blurred_height, blurred_width,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, ALIGN: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    image, h, w, channel, offsets, mask = _tile(
        images, channels, blurred_height, blurred_width, LAST, ROWS, COLS, ALIGN, WIDE
    )
    if LAST:
        channels = channels // ALIGN * ALIGN
    total = tl.zeros((ROWS, COLS), tl.float32)
    for i in tl.static_range(3):
        from_row = image * height + _reflect(2 * h + i - 1, height)
        for j in tl.static_range(3):
            from_pixel = from_row * width + _reflect(2 * w + j - 1, width)
            x = tl.load(x_ptr + from_pixel * channels + channel, mask=mask, other=0.0)
            total += x.to(tl.float32) * ((2 - (i - 1) * (i - 1)) * (2 - (j - 1) * (j - 1)))
    tl.store(y_ptr + offsets, (total / 16).to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _weight(position, length, blurred_length, SECOND: tl.constexpr):
    # An even pixel is the middle of one output, an odd one is next to one or two: the first of
    # them takes the second pixel twice, as the reflection of the one before the image, and the
    # last takes the last but one twice where there is none after it.
    odd = position % 2
    if SECOND:
        beside = ((position + 1) // 2 < blurred_length).to(tl.int32)
        weight = odd * beside * (1 + (position == length - 2).to(tl.int32))
    else:
        weight = 2 - odd + odd * (position == 1).to(tl.int32)
    return weight


@triton.jit(do_not_specialize=_SIZES)
def _transposed_blur_kernel(
    grad_y_ptr, grad_x_ptr, images, channels, height, width, blurred_height, blurred_width,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, ALIGN: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    image, h, w, channel, offsets, mask = _tile(
        images, channels, height, width, LAST, ROWS, COLS, ALIGN, WIDE
    )
    if LAST:
        channels = channels // ALIGN * ALIGN
    total = tl.zeros((ROWS, COLS), tl.float32)
    for i in tl.static_range(2):
        weight_h = _weight(h, height, blurred_height, i)
        from_row = image * blurred_height + (h + i) // 2
        for j in tl.static_range(2):
            weight = weight_h * _weight(w, width, blurred_width, j)
            from_pixel = from_row * blurred_width + (w + j) // 2
            place = grad_y_ptr + from_pixel * channels + channel
            grad_y = tl.load(place, mask=mask & (weight > 0), other=0.0)
            total += grad_y.to(tl.float32) * weight
    tl.store(grad_x_ptr + offsets, (total / 16).to(grad_x_ptr.dtype.element_ty), mask=mask)
