"""How a detector sees boxes: after which resize, and on which of its levels."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

# FCOS, section 3.2, as MMDetection's FCOSHead has it.
REGRESS_RANGES = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, math.inf))
STRIDES = (8, 16, 32, 64, 128)
RESIZES = ('Resize', 'RandomResize', 'RandomChoiceResize')


@dataclass(frozen=True)
class View:
    """How a detector sees boxes.

    Attributes:
        scale: Longer and shorter side that an image is resized to fit in; without
            ``keep_ratio``, width and height.
        keep_ratio: Whether it keeps its shape.
        ranges: Distances in pixels that each level regresses.
        strides: Of the levels, in pixels; as many as ranges, or the levels have numbers for names.
        origin: Where the resize is from.
    """

    scale: tuple[int, int] = (1333, 800)
    keep_ratio: bool = True
    ranges: tuple[tuple[float, float], ...] = REGRESS_RANGES
    strides: tuple[int, ...] = STRIDES
    origin: str = 'the default'

    @classmethod
    def of_config(cls, steps: Iterable[Mapping], head: Mapping) -> 'View':
        """Return the view of a config.

        Args:
            steps: The training pipeline's transforms. The first that resizes is taken; of several
                scales the largest.
            head: The config of the box head, with or without ``regress_ranges`` and ``strides``.
        """
        view = cls(origin='the default, the config has no Resize')
        if head.get('regress_ranges'):
            view = replace(view, ranges=tuple((low, high) for low, high in head['regress_ranges']))
        if head.get('strides') and len(head['strides']) == len(view.ranges):
            strides = (s[0] if isinstance(s, (list, tuple)) else s for s in head['strides'])
            view = replace(view, strides=tuple(strides))
        for step in steps:
            scales = step.get('scales') or step.get('scale')
            if step.get('type') not in RESIZES or not scales:
                continue
            several = isinstance(scales[0], (list, tuple))
            width, height = max(scales, key=math.prod) if several else scales
            keep = bool(step.get('keep_ratio', False))
            origin = "the config's" + (f', the largest of {step["type"]}' if several else '')
            return replace(view, scale=(width, height), keep_ratio=keep, origin=origin)
        return view

    def describe(self) -> str:
        """Return the resize in words."""
        how = '' if self.keep_ratio else ', whatever the shape'
        return f'{self.scale[0]} x {self.scale[1]}{how} ({self.origin})'

    def names(self) -> list[str]:
        """Return the levels' names, from P3 where the stride is 8."""
        if len(self.strides) != len(self.ranges):
            return [f'level {number}' for number in range(1, len(self.ranges) + 1)]
        return [f'P{round(math.log2(stride))}' for stride in self.strides]

    def pixels(self) -> list[str]:
        """Return each level's range in words: ``0 to 64``, ``above 512``."""
        return [  # from 1e8 on, MMDetection's infinity, there is no end
            f'above {low:g}' if high >= 1e8 else f'{max(low, 0):g} to {high:g}'
            for low, high in self.ranges
        ]

    def resize(self, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return the width and height of boxes in pixels after the resize, ``(M, 2)``.

        Args:
            boxes: ``(M, 4)``: left, top, width and height in pixels.
            sizes: Width and height of the image of each in pixels, ``(M, 2)``; NaN where they are
                not known, and so are the box's then.
        """
        if self.keep_ratio:
            low, high = sorted(self.scale)
            factor = np.minimum(high / sizes.max(1), low / sizes.min(1))[:, None]
        else:
            factor = np.array(self.scale) / sizes
        return boxes[:, 2:] * factor

    def count(self, sides: np.ndarray) -> dict[str, int]:
        """Count boxes by level: that of a point at the centre.

        Such a point regresses half of the longer side; others of the box regress more, and may be
        of the next level.

        Args:
            sides: Width and height in pixels after the resize, ``(M, 2)``.

        Returns:
            By the level's name; as ``'narrow'`` those narrower than the first stride, which are of
            a level too.
        """
        ends = [end for _, end in self.ranges[:-1]]
        levels = np.searchsorted(ends, sides.max(1) / 2, side='left')
        counts = np.bincount(levels, minlength=len(self.ranges)).tolist()
        narrow = int((sides.min(1) < self.strides[0]).sum())
        return dict(zip(self.names(), counts, strict=True)) | {'narrow': narrow}
