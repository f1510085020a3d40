"""Which part of a dataset is for what, by its name."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import InputError, few

ROLES = ('train', 'val', 'test')
# In this order: test-dev is a test, and trainval is no train.
ROLE_WORDS = {
    'test': ('test', 'testing'),
    'trainval': ('trainval',),
    'val': ('val', 'valid', 'validation', 'minival', 'dev', 'eval'),
    'train': ('train', 'training'),
}

T = TypeVar('T')


def role_of(name: str) -> str | None:
    """Return what a part of data is for by its name, such as ``instances_val2017``.

    Returns:
        A key of `ROLE_WORDS`; None where the name says nothing.
    """
    words = set(re.split('[^a-z]+', name.lower()))
    if words & {*ROLE_WORDS['val']} and words & {*ROLE_WORDS['train']}:
        return 'trainval'
    return next((role for role, known in ROLE_WORDS.items() if words & {*known}), None)


def assign_roles(parts: Sequence[tuple[str, T]], where: Path) -> tuple[dict[str, T], list[str]]:
    """Give each role its part.

    A part for both training and validation is for training where there is neither; so is the only
    one whose name is of no role, where there is none for training.

    Args:
        parts: Names and what they name.
        where: For messages.

    Returns:
        The parts by role, and a line for each that was skipped.

    Raises:
        InputError: Several could be for one role.
    """
    by_role: dict[str | None, list[tuple[str, T]]] = {}
    for name, item in parts:
        by_role.setdefault(role_of(name), []).append((name, item))
    spare = by_role.pop('trainval', [])
    if not by_role.keys() & {'train', 'val'}:  # it holds both
        by_role.setdefault('train', []).extend(spare)
    others = by_role.pop(None, [])
    if not by_role.get('train'):
        by_role['train'], others = others, []
    splits = {}
    for role in ROLES:
        candidates = by_role.get(role) or []
        if len(candidates) > 1:
            raise InputError(
                f'{where}: {few(name for name, _ in candidates)} could all be for {role}: keep '
                'one, and put train, val or test into the names'
            )
        if candidates:
            splits[role] = candidates[0][1]
    return splits, [f'{name} is skipped: its name is of no split' for name, _ in others]
