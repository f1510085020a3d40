"""The kernels of In-Place ABN in Triton; ``triton_norm.py`` launches them.

Sums are in float32 whatever the map's precision. The variance is taken around a value near the
mean, the mean of a program's first tile, so that a large mean does not cancel it: relative to its
own sum of squares a program errs by at most eps times its number of tiles, whatever the values.
The programs' statistics are put together by Chan's parallel formula.
"""

import triton
import triton.language as tl

# Sizes that change with the batch must not each compile a kernel of their own.
_SIZES = ['images', 'channels', 'pixels', 'steps', 'chunk', 'splits']


@triton.jit
def line_lengths(channels, pixels, LAST: tl.constexpr, ALIGN: tl.constexpr):
    # The product tells the compiler what divides a line's length, hence how wide a load may be,
    # without a kernel for every length.
    if LAST:
        channels = channels // ALIGN * ALIGN
    else:
        pixels = pixels // ALIGN * ALIGN
    return channels, pixels


@triton.jit
def _channel(block, channels, LAST: tl.constexpr, COLS: tl.constexpr):
    # The channels of a block, (COLS,) or a single one, and which of them there are.
    if LAST:
        channel = block * COLS + tl.arange(0, COLS)
    else:
        channel = block
    return channel, channel < channels


@triton.jit
def _tile(
    step, block, images, channels, pixels,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    # The tile's first offset, the offsets from there (ROWS, COLS), which of them there are, and how
    # many of them are in each channel. A map may have more values than 32 bits can count.
    step = tl.cast(step, tl.int64)
    rows = tl.arange(0, ROWS)[:, None]
    cols = tl.arange(0, COLS)[None, :]
    if LAST:
        start = step * ROWS * channels + block * COLS
        offsets = rows.to(tl.int64) * channels + cols
        lines = tl.minimum(tl.cast(images, tl.int64) * pixels - step * ROWS, ROWS).to(tl.int32)
        cols_left = channels - block * COLS
        count = lines
    else:
        tiles_across = (pixels + COLS - 1) // COLS
        first_row = step // tiles_across * ROWS
        first_col = (step % tiles_across).to(tl.int32) * COLS
        start = (first_row * channels + block) * pixels + first_col
        offsets = rows.to(tl.int64) * channels * pixels + cols
        lines = tl.minimum(images - first_row, ROWS).to(tl.int32)
        cols_left = pixels - first_col
        count = lines * tl.minimum(cols_left, COLS)
    return start, offsets, (rows < lines) & (cols < cols_left), count


@triton.jit
def _sum_of_channel(values, LAST: tl.constexpr):
    if LAST:
        result = tl.sum(values, axis=0)
    else:
        result = tl.sum(tl.sum(values, axis=1), axis=0)
    return result


@triton.jit
def _load_figures(pointer, channel, exists):
    return tl.load(pointer + channel, mask=exists, other=0.0).to(tl.float32)


@triton.jit
def _load_scale(weight_ptr, weight_eps, channel, exists):
    # |weight| + eps, and its derivative: 1 at a weight of 0, which could not leave it otherwise.
    weight = _load_figures(weight_ptr, channel, exists)
    return tl.abs(weight) + weight_eps, tl.where(weight < 0, -1.0, 1.0)


@triton.jit
def _invert(y, grad_y, inverse_slope, slope):
    # The norm's output and the gradient there. With slopes of 1 both are as they came.
    positive = y > 0
    return tl.where(positive, y, y * inverse_slope), tl.where(positive, grad_y, grad_y * slope)


@triton.jit(do_not_specialize=_SIZES)
def partial_statistics_kernel(
    x_ptr, partial_ptr,
    images, channels, pixels, steps, chunk,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    # Write each program's count, mean and sum of squares around it: partial, (3, splits, C).
    block, split = tl.program_id(0), tl.program_id(1)
    channels, pixels = line_lengths(channels, pixels, LAST, ALIGN)
    channel, exists = _channel(block, channels, LAST, COLS)
    first = split * chunk
    start, offsets, mask, count = _tile(first, block, images, channels, pixels, LAST, ROWS, COLS)
    x = tl.load(x_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
    shift = _sum_of_channel(x, LAST) / count.to(tl.float32)
    total = tl.zeros((ROWS, COLS), tl.float32)
    squares = tl.zeros((ROWS, COLS), tl.float32)
    values = tl.cast(0, tl.int64)
    for step in range(first, tl.minimum(first + chunk, steps)):
        start, offsets, mask, count = _tile(step, block, images, channels, pixels, LAST, ROWS, COLS)
        x = tl.load(x_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
        centred = tl.where(mask, x - shift, 0.0)
        total += centred
        squares += centred * centred
        values += count
    values = values.to(tl.float32)
    total = _sum_of_channel(total, LAST)
    squares = _sum_of_channel(squares, LAST) - total * total / values
    row = split.to(tl.int64) * channels + channel
    size = tl.num_programs(1).to(tl.int64) * channels
    tl.store(partial_ptr + row, tl.where(exists, values, 0.0), mask=exists)
    tl.store(partial_ptr + size + row, shift + total / values, mask=exists)
    tl.store(partial_ptr + 2 * size + row, squares, mask=exists)


@triton.jit(do_not_specialize=_SIZES)
def statistics_kernel(
    partial_ptr, mean_ptr, invstd_ptr, running_mean_ptr, running_var_ptr, momentum, eps,
    channels, splits, SPLITS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    # Merge the programs' statistics into mean and invstd, (C,); update the running statistics.
    channel = tl.program_id(0) * COLS + tl.arange(0, COLS)
    exists = channel < channels
    size = splits * channels
    shift = tl.load(partial_ptr + size + channel, mask=exists, other=0.0)
    values = tl.zeros((SPLITS, COLS), tl.float32)
    total = tl.zeros((SPLITS, COLS), tl.float32)
    squares = tl.zeros((SPLITS, COLS), tl.float32)
    for first in range(0, splits, SPLITS):
        split = first + tl.arange(0, SPLITS)[:, None]
        mask = (split < splits) & exists[None, :]
        place = partial_ptr + split * channels + channel[None, :]
        count = tl.load(place, mask=mask, other=0.0)
        from_shift = tl.load(place + size, mask=mask, other=0.0) - shift[None, :]
        values += count
        total += count * from_shift
        squares += tl.load(place + 2 * size, mask=mask, other=0.0) + count * from_shift * from_shift
    values = tl.where(exists, tl.sum(values, axis=0), 2.0)  # none divides by nothing
    total = tl.sum(total, axis=0)
    mean = shift + total / values
    var = (tl.sum(squares, axis=0) - total * total / values) / values
    var = tl.where(var < 0, 0.0, var)  # by rounding; a NaN stays one
    tl.store(mean_ptr + channel, mean, mask=exists)
    tl.store(invstd_ptr + channel, 1 / tl.sqrt(var + eps), mask=exists)
    old_mean = _load_figures(running_mean_ptr, channel, exists)
    old_var = _load_figures(running_var_ptr, channel, exists)
    unbiased = var * (values / (values - 1))
    new_mean = old_mean + momentum * (mean - old_mean)
    new_var = old_var + momentum * (unbiased - old_var)
    tl.store(running_mean_ptr + channel, new_mean, mask=exists)
    tl.store(running_var_ptr + channel, new_var, mask=exists)


@triton.jit(do_not_specialize=_SIZES)
def normalize_kernel(
    x_ptr, y_ptr, mean_ptr, invstd_ptr, weight_ptr, bias_ptr, weight_eps, slope,
    images, channels, pixels, steps, chunk,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    # Write the leaky ReLU of the norm of x, in one pass.
    block, first = tl.program_id(0), tl.program_id(1) * chunk
    channels, pixels = line_lengths(channels, pixels, LAST, ALIGN)
    channel, exists = _channel(block, channels, LAST, COLS)
    mean = _load_figures(mean_ptr, channel, exists)
    bias = _load_figures(bias_ptr, channel, exists)
    scale, sign = _load_scale(weight_ptr, weight_eps, channel, exists)
    factor = scale * _load_figures(invstd_ptr, channel, exists)
    for step in range(first, tl.minimum(first + chunk, steps)):
        start, offsets, mask, _ = _tile(step, block, images, channels, pixels, LAST, ROWS, COLS)
        x = tl.load(x_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
        z = (x - mean) * factor + bias
        y = tl.where(z > 0, z, z * slope)
        tl.store(y_ptr + start + offsets, y.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def gradient_sums_kernel(
    kept_ptr, grad_y_ptr, weight_ptr, shift_ptr, invstd_ptr, partial_ptr,
    weight_eps, inverse_slope, slope, IDENTITY: tl.constexpr,
    images, channels, pixels, steps, chunk,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    # Write each program's sums of grad_z and of grad_z * xhat * sign(weight): partial, (2, splits,
    # C), the gradients of bias and weight. xhat is (x - mean) * invstd of an input that was kept,
    # (z - bias) / scale of an output; the shift is that mean or bias.
    block, split = tl.program_id(0), tl.program_id(1)
    channels, pixels = line_lengths(channels, pixels, LAST, ALIGN)
    channel, exists = _channel(block, channels, LAST, COLS)
    shift = _load_figures(shift_ptr, channel, exists)
    total = tl.zeros((ROWS, COLS), tl.float32)
    total_centred = tl.zeros((ROWS, COLS), tl.float32)
    first = split * chunk
    for step in range(first, tl.minimum(first + chunk, steps)):
        start, offsets, mask, _ = _tile(step, block, images, channels, pixels, LAST, ROWS, COLS)
        y = tl.load(kept_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
        grad_y = tl.load(grad_y_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
        z, grad_z = _invert(y, grad_y, inverse_slope, slope)
        total += grad_z
        total_centred += grad_z * (z - shift)
    scale, sign = _load_scale(weight_ptr, weight_eps, channel, exists)
    total_centred = _sum_of_channel(total_centred, LAST) * sign
    if IDENTITY:
        total_centred *= _load_figures(invstd_ptr, channel, exists)
    else:
        total_centred /= tl.where(exists, scale, 1.0)
    row = split.to(tl.int64) * channels + channel
    size = tl.num_programs(1).to(tl.int64) * channels
    tl.store(partial_ptr + row, _sum_of_channel(total, LAST), mask=exists)
    tl.store(partial_ptr + size + row, total_centred, mask=exists)


@triton.jit(do_not_specialize=_SIZES)
def gradient_kernel(
    kept_ptr, grad_y_ptr, weight_ptr, shift_ptr, invstd_ptr, sums_ptr, grad_x_ptr, share,
    weight_eps, inverse_slope, slope, IDENTITY: tl.constexpr, TRAINING: tl.constexpr,
    images, channels, pixels, steps, chunk,
    LAST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    # Write grad_x; sums, (2, C), are those of all programs, and share is 1 / (values of a channel).
    block, first = tl.program_id(0), tl.program_id(1) * chunk
    channels, pixels = line_lengths(channels, pixels, LAST, ALIGN)
    channel, exists = _channel(block, channels, LAST, COLS)
    invstd = _load_figures(invstd_ptr, channel, exists)
    scale, sign = _load_scale(weight_ptr, weight_eps, channel, exists)
    factor = scale * invstd
    if TRAINING:
        # grad_x = factor * (grad_z - mean(grad_z) - xhat * mean(grad_z * xhat))
        shift = _load_figures(shift_ptr, channel, exists)
        constant = factor * share * _load_figures(sums_ptr, channel, exists)
        per_value = invstd * share * sign * _load_figures(sums_ptr + channels, channel, exists)
        if IDENTITY:
            per_value *= factor
    for step in range(first, tl.minimum(first + chunk, steps)):
        start, offsets, mask, _ = _tile(step, block, images, channels, pixels, LAST, ROWS, COLS)
        y = tl.load(kept_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
        grad_y = tl.load(grad_y_ptr + start + offsets, mask=mask, other=0.0).to(tl.float32)
        z, grad_z = _invert(y, grad_y, inverse_slope, slope)
        grad_x = factor * grad_z
        if TRAINING:
            grad_x = grad_x - constant - (z - shift) * per_value
        tl.store(grad_x_ptr + start + offsets, grad_x.to(grad_x_ptr.dtype.element_ty), mask=mask)
