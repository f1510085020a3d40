"""A warm-up that ends: its learning rate reaches the config's, however short the training is."""

import math
from typing import Any

from ..tasks import type_name
from .config import iterate_dicts

# What keeps the rate down at first; at 1 it keeps nothing. The last one reaches it in one step.
WARMUPS = {'LinearLR': 'start_factor', 'ConstantLR': 'factor', 'QuadraticWarmupLR': None}
SHARE = 0.1  # of the training, where the config's own warm-up does not fit


def fit_warmup(schedulers: Any, steps: int, total: int, by_epochs: bool, most: float) -> list[str]:
    """Shorten the warm-ups of a config that are too long for the training.

    One that takes more than ``most`` of it, or lasts until the rate is lowered, becomes one of a
    tenth. MMEngine's schedulers of length 1 keep their first value for ever: one of an epoch is
    counted in steps, and one of a single step does nothing.

    Args:
        schedulers: ``param_scheduler`` of a config; changed in place.
        steps: Of an epoch.
        total: Of the training.
        by_epochs: Whether the loop has epochs, so that what is counted in them moves.
        most: Share of the training.

    Returns:
        What was changed, a line each.
    """
    parts = list(iterate_dicts(schedulers))

    def in_steps(part: dict[str, Any], length: float) -> float:
        return length * (steps if part.get('by_epoch', True) else 1)

    lowered = [
        in_steps(part, min([*part.get('milestones', ()), part.get('step_size', math.inf)]))
        for part in parts
    ]
    room, lines = min([total * most, *lowered]), []
    for part in parts:
        kind, end = type_name(part), part.get('end')
        key = WARMUPS.get(kind)
        rises = part.get(key, 0) < part.get('end_factor', 1)
        if kind not in WARMUPS or not rises or not end or part.get('begin'):
            continue
        in_epochs = part.get('by_epoch', True)
        whole_epochs = in_epochs and not part.get('convert_to_iter_based')
        length = int(in_steps(part, end))
        moves = by_epochs or not whole_epochs
        if length <= room and moves and (end if whole_epochs else length) > 1:
            continue
        if length > room:
            length = max(1, round(min(total * SHARE, room)))
        if length > 1 or key or length < in_steps(part, end):
            new = f'warm-up of {length} steps' if length > 1 else 'no warm-up'
            unit = ' epochs' * in_epochs
            lines.append(f'{new} instead of {end}{unit}: the training has {total}')
        if length == 1 and key:
            part[key] = part.get('end_factor', 1.0)
        part.pop('convert_to_iter_based', None)
        part.update(by_epoch=False, end=length)
    return lines
