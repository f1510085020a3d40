"""Stochastic depth (Huang et al., ECCV 2016)."""

import torch
from torch import nn


class DropPath(nn.Module):
    """Set the branch of a random share of a batch's images to zero, in training only.

    The others are divided by the share that stays, so that the expectation does not change.

    Args:
        drop_prob: Probability that an image's branch is dropped, in [0, 1).
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor of its own in training, ``x`` itself otherwise; ``(N, ...)``."""
        if not self.training or self.drop_prob == 0:
            return x
        keep_prob = 1 - self.drop_prob
        shape = (len(x),) + (1,) * (x.dim() - 1)
        kept = (keep_prob + torch.rand(shape, dtype=x.dtype, device=x.device)).floor()
        return x.div(keep_prob) * kept
