"""The stem's rearrangement: small blocks of pixels become channels (TResNet, section 2.1)."""

import torch
from torch import nn


class SpaceToDepth(nn.Module):
    """Move every 4x4 block of pixels into the channels, at a quarter of the resolution.

    ``(N, C, H, W) -> (N, 16 * C, H / 4, W / 4)``; ``H`` and ``W`` must be multiples of 4. The
    channels are ordered (row in block, column in block, colour), which is the order that the
    published weights expect and not that of ``torch.nn.functional.pixel_unshuffle``. A
    channels_last input gives a channels_last output.

    Raises:
        ValueError: If a side is no multiple of 4.
    """

    block_size = 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        b = self.block_size
        if h % b or w % b:
            raise ValueError(f'SpaceToDepth needs sides that are multiples of {b}, got {h}x{w}')
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        x = x.reshape(n, c, h // b, b, w // b, b)
        if channels_last and not x.is_contiguous():
            # (N, C, H/4, rows, W/4, columns) -> (N, H/4, W/4, rows * columns * C), seen as NCHW
            x = x.permute(0, 2, 4, 3, 5, 1).reshape(n, h // b, w // b, b * b * c)
            return x.permute(0, 3, 1, 2)
        # (N, C, H/4, rows, W/4, columns) -> (N, rows * columns * C, H/4, W/4)
        return x.permute(0, 3, 5, 1, 2, 4).reshape(n, b * b * c, h // b, w // b)
