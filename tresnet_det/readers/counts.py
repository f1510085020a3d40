"""How much of your own data is learnt from: what is held out, what a dataset's filter drops.

One line says it, the same in ``check_data.py`` and in a training: :func:`summarize`.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, few
from .split import ORIGINS, ROLES, Split

SHARE = 0.1  # of the training images that are held out
SEED = 0


@dataclass(frozen=True)
class Counts:
    """What matters of ``N`` images to a dataset's filter.

    Attributes:
        sides: ``(N,)``, the shorter side in pixels; NaN where it is not known.
        filled: ``(N,)``, whether anything is annotated of a class.
        objects: ``(N,)``, boxes or labels that are learnt.
    """

    sides: np.ndarray
    filled: np.ndarray
    objects: np.ndarray

    @property
    def num_images(self) -> int:
        """How many images there are."""
        return len(self.sides)

    @property
    def num_objects(self) -> int:
        """Boxes or labels that are learnt."""
        return int(self.objects.sum())

    @property
    def num_empty(self) -> int:
        """Images without any annotation of a class."""
        return int((~self.filled).sum())

    @classmethod
    def of(cls, split: Split, rows: np.ndarray, task: str) -> 'Counts':
        """Count the images of a split that have these numbers."""
        total, known = len(split.files), split.labels >= 0
        pairs = np.column_stack([split.rows, split.labels])[known]
        objects = split.rows[split.usable]
        if task != 'detection':  # a class counts once an image
            objects = np.unique(pairs, axis=0)[:, 0]
        filled = np.bincount(split.rows[known], minlength=total) > 0
        numbers = np.bincount(objects, minlength=total)
        return cls(split.sizes.min(1)[rows], filled[rows], numbers[rows])

    def kept(self, filter_cfg: Mapping) -> tuple[np.ndarray, list[str]]:
        """Return which images a dataset's ``filter_cfg`` keeps, ``(N,)``, and a line for others."""
        least = filter_cfg.get('min_size') or 0
        small = self.sides < least
        empty = ~self.filled & bool(filter_cfg.get('filter_empty_gt')) & ~small
        lines = []
        if empty.any():
            lines.append(f'{empty.sum()} training images without objects are not trained on')
        if small.any():
            lines.append(describe_small(small.sum(), least))
        return ~small & ~empty, lines


def summarize(
    parts: Mapping[str, Counts], classes: Sequence[str], task: str, filters: Mapping[str, Mapping]
) -> str:
    """Say in a line what is trained on and measured on.

    Args:
        parts: By role.
        classes: Their names.
        task: What for.
        filters: The ``filter_cfg`` of a dataset by role, where it has one.

    Raises:
        InputError: Nothing is left to train on.
    """
    texts = []
    for role, part in parts.items():
        kept, lines = part.kept(filters.get(role) or {})
        if role == 'train':
            check_left('data', kept.sum(), lines)
        of = '' if kept.all() else f' of {len(kept)}'
        what = 'boxes' if task == 'detection' else 'labels'
        texts.append(f'{role} {kept.sum()}{of} images with {part.objects[kept].sum()} {what}')
    return f'data: {", ".join(texts)}; {len(classes)} classes: {few(classes, 20)}'


def describe_small(count: int, least: float) -> str:
    """Say that a filter drops images for their size."""
    images = f'{count} training images with a side below {least} pixels'
    return f'{images} are not trained on (lower filter_cfg.min_size to have them)'


def check_left(where: object, count: int, lines: Sequence[str]) -> None:
    """Raise an InputError, with the reasons, where none of the training images is left."""
    if not count:
        raise InputError(f'{where}: no training image is left: {"; ".join(lines)}')


def plan_parts(splits: Mapping[str, Split], task: str) -> dict[str, tuple[Split, np.ndarray]]:
    """Return by role a split and the numbers of its images; validation out of training if need be.

    Args:
        splits: By role.
        task: What for.

    Raises:
        InputError: There are too few images to hold one out.
    """
    parts = {role: (split, np.arange(len(split.files))) for role, split in splits.items()}
    if 'train' in splits and 'val' not in splits:
        train, val = _divide(splits['train'], task)
        parts |= {'train': (splits['train'], train), 'val': (splits['train'], val)}
    return {role: parts[role] for role in ROLES if role in parts}


def _divide(split: Split, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which images are trained on, and which are held out."""
    rows, labels = np.arange(len(split.files)), split.single_labels()
    filled = np.isin(rows, split.rows[split.labels >= 0] if split.boxes is None else split.rows)
    if split.source.kind == 'folders' and task == 'classification':
        groups = [np.flatnonzero(labels == label) for label in range(len(split.classes))]
        for name, group in zip(split.classes, groups, strict=True):
            if len(group) < 2:
                raise InputError(
                    f'{split.folder / name}: its one image cannot be both for training and '
                    'validation: add images, or a val/ folder'
                )
    elif filled.sum() < 2:
        raise InputError(
            f'{split.source.ann_file}: {filled.sum()} image with boxes or labels is too few to '
            'hold one out to validate on: add images, or a validation split'
        )
    else:
        groups = [rows[filled]]
        # Of those without, a tenth too where these are boxes, and that is an image.
        if split.source.kind in ('coco', *ORIGINS) and (~filled).sum() * SHARE >= 1:
            groups.append(rows[~filled])
    files = split.files
    val = [group[sorted(choose_held_out([files[row] for row in group]))] for group in groups]
    held_out = np.sort(np.concatenate(val))
    return np.setdiff1d(rows, held_out), held_out


def choose_held_out(names: Sequence[str]) -> set[int]:
    """Return which of the images are held out: a tenth of them, at least one.

    It is those whose names come first by the SHA-256 of ``0/NAME``: the same in every run and on
    every machine, and little changed by images that are added.
    """

    def key(index: int) -> bytes:
        return hashlib.sha256(os.fsencode(f'{SEED}/{names[index]}')).digest()

    count = min(len(names), max(1, round(len(names) * SHARE)))
    return set(sorted(range(len(names)), key=key)[:count])
