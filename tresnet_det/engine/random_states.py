"""The random states that a training step depends on: take them, put them back."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


def random_states(model: nn.Module) -> dict[str, Any]:
    """Return the states of Python, NumPy and torch as plain values, which a checkpoint can hold.

    Args:
        model: The generator of its device is included where that is a GPU.
    """
    numpy = np.random.get_state(legacy=False)
    keys = torch.from_numpy(numpy['state']['key'].astype(np.int64))
    rest = (numpy['state']['pos'], numpy['has_gauss'], numpy['gauss'])
    states = {
        'python': random.getstate(),
        'numpy': (numpy['bit_generator'], keys, *rest),
        'torch': torch.get_rng_state(),
    }
    device = next((p.device for p in model.parameters()), torch.device('cpu'))
    if device.type == 'cuda':  # on the host: nothing waits for the device
        states['cuda'] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Restore what :func:`random_states` returned; a GPU's state only where a GPU is visible."""
    version, keys, gauss = states['python']
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'])
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'])
