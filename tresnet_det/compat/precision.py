"""In which precision the operators compute."""

import torch
from torch import Tensor


def widened(values: Tensor) -> Tensor:
    """Return float64 as it is and everything else as float32.

    torchvision has no half precision on some devices, and coordinates in pixels do not fit it.
    """
    return values if values.dtype == torch.float64 else values.float()
