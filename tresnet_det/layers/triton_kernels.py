"""When the Triton kernels may run, and how they cut a feature map into tiles.

Experimental: opt-in, tested in Triton's interpreter and compiled for a GPU, never run on one.

The kernels are in ``triton_norm.py``, ``triton_blur.py`` and ``triton_gate.py``, which need the
package ``triton`` and are imported on first use. This module needs torch alone. Without a GPU the
kernels run in Triton's interpreter, where ``TRITON_INTERPRET=1`` was set before Python started.

Every kernel sees a map of ``(N, C, H, W)`` as lines of neighbouring values: a pixel's channels in
channels_last, a channel's pixels otherwise. A tile is a power of two of lines by a power of two of
values in each.
"""

import functools
from typing import NamedTuple

import torch

DTYPES = (torch.float16, torch.bfloat16, torch.float32)

# Values a program holds at a time: 16 for each of 256 threads, two 16-byte loads of half precision.
TILE = 4096
NUM_WARPS = 8
# Programs a kernel is cut into where the map is large enough: about eight for each of an H100's 132
# processors, which fill it, and few enough for their partial sums to be summed at no cost.
PROGRAMS = 1024
# In channels_last a tile's lines are at most this long: 128 bytes in half precision.
_CHANNELS_A_TILE = 64


def require_triton() -> None:
    """Raise an ImportError that says what to install, where ``triton`` is missing."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "backend='triton' needs the package triton (pip install triton); "
            'the default backend needs nothing'
        ) from error


def check_backend(backend: str) -> None:
    """Check that a layer's backend is ``'torch'``, or ``'triton'`` where that is installed.

    Raises:
        ValueError: If it is neither.
        ImportError: If ``triton`` is missing.
    """
    if backend == 'triton':
        require_triton()
    elif backend != 'torch':
        raise ValueError(f"backend {backend!r} is not one of ('torch', 'triton')")


def is_available(x: torch.Tensor) -> bool:
    """Tell whether the kernels can take ``x``: a map, on a GPU or in Triton's interpreter.

    float64 and empty tensors are left to torch.
    """
    if x.dtype not in DTYPES or x.dim() != 4 or x.numel() == 0:
        return False
    if x.is_cuda:
        return _mode() is not None
    return x.device.type == 'cpu' and _mode() == 'interpreter'


@functools.cache
def _mode() -> str | None:
    """Return ``'gpu'``, ``'interpreter'``, or ``None`` where triton is missing."""
    try:
        import triton
        from triton import language as tl
    except ImportError:
        return None
    # Triton reads the variable when a function is decorated. Its own library tells what it read:
    # with the variable set later the kernels could not call that library.
    return 'gpu' if isinstance(tl.sum, triton.JITFunction) else 'interpreter'


def dense(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` itself where it is dense in either layout, a contiguous copy otherwise."""
    if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last):
        return x
    return x.contiguous()


def is_channels_last(x: torch.Tensor) -> bool:
    """Tell whether a pixel's channels are the neighbours in a dense ``x``.

    A map of one pixel has both layouts and its channels are its longest lines; so are the pixels of
    a map of one channel.
    """
    one_pixel = x.shape[2] * x.shape[3] == 1
    return x.is_contiguous(memory_format=torch.channels_last) and (
        one_pixel or not x.is_contiguous()
    )


def in_layout(x: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Return ``x`` itself where it is dense in that layout, a copy that is otherwise."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return x.contiguous(memory_format=layout)


def next_power_of_two(n: int) -> int:
    """Return the least power of two that is at least ``n``, from 1."""
    return 1 << (n - 1).bit_length()


def aligned(n: int) -> int:
    """Return the largest power of two, up to 16, that divides ``n``: what loads may rely on."""
    return min(n & -n, 16)


class Tiling(NamedTuple):
    """How a map is cut into programs and tiles, for kernels with values per channel or plane.

    A program has one block of channels (or of planes, a channel of an image each), loads their
    values once and walks over ``chunk`` of the ``steps`` tiles there are of that block.

    Attributes:
        last: Whether the layout is channels_last.
        rows: Lines of a tile, a power of two.
        cols: Values of a line within a tile, a power of two.
        align: The power of two, at most 16, that divides every line's length.
        blocks: Blocks of channels or of planes.
        steps: Tiles of a block.
        chunk: Tiles a program walks over; the last program of a block may have fewer.
        splits: Programs for a block.
    """

    last: bool
    rows: int
    cols: int
    align: int
    blocks: int
    steps: int
    chunk: int
    splits: int


def tile_channels(images: int, channels: int, pixels: int, last: bool) -> Tiling:
    """Cut a map whose values are per channel.

    In channels_last a block is a tile's width of channels and a tile has ``rows`` pixels of them;
    otherwise a block is one channel and a tile has ``cols`` of its pixels in ``rows`` images.
    """
    if last:
        rows, cols = _pixels_by_channels(images * pixels, channels)
        blocks, steps = -(-channels // cols), -(-images * pixels // rows)
        return _share_out(last, rows, cols, channels, blocks, steps)
    # Several images' lines at a time: 7 x 7 pixels would not fill a tile, and of a long line's
    # last tile up to half would be empty.
    cols = min(next_power_of_two(pixels), TILE // min(next_power_of_two(images), 16))
    rows = min(next_power_of_two(images), TILE // cols)
    steps = -(-images // rows) * -(-pixels // cols)
    return _share_out(last, rows, cols, pixels, channels, steps)


def tile_planes(images: int, channels: int, pixels: int, last: bool) -> Tiling:
    """Cut a map whose values are per channel and image.

    In channels_last a block is a tile's width of channels of one image and a tile has ``rows``
    pixels of them; otherwise a block is ``rows`` planes and a tile has ``cols`` pixels of each.
    """
    if last:
        rows, cols = _pixels_by_channels(pixels, channels)
        blocks, steps = images * -(-channels // cols), -(-pixels // rows)
        return _share_out(last, rows, cols, channels, blocks, steps)
    cols = min(next_power_of_two(pixels), TILE // 16)
    rows = min(next_power_of_two(images * channels), TILE // cols)
    return _share_out(last, rows, cols, pixels, -(-images * channels // rows), -(-pixels // cols))


def _pixels_by_channels(pixels: int, channels: int) -> tuple[int, int]:
    cols = min(next_power_of_two(channels), _CHANNELS_A_TILE)
    return min(next_power_of_two(pixels), TILE // cols), cols


def _share_out(last: bool, rows: int, cols: int, line: int, blocks: int, steps: int) -> Tiling:
    chunk = -(-steps // max(PROGRAMS // blocks, 1))
    return Tiling(last, rows, cols, aligned(line), blocks, steps, chunk, -(-steps // chunk))
