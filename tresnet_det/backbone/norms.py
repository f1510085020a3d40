"""All norms of a model at once: to find them, and to keep their running statistics as they are."""

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers import InPlaceABN


def iterate_norms(module: nn.Module) -> Iterator[nn.Module]:
    """Yield every batch norm in ``module``, In-Place ABN included."""
    return (m for m in module.modules() if isinstance(m, (InPlaceABN, _BatchNorm)))


@contextlib.contextmanager
def keep_running_statistics(module: nn.Module) -> Iterator[None]:
    """Let the norms update copies of their running statistics, which are thrown away."""
    kept = [
        (norm, name, buffer)
        for norm in iterate_norms(module)
        for name, buffer in norm.named_buffers(recurse=False)
    ]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
