"""A split that was read, its images looked at and where its boxes fall."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..readers.split import Split
from .scan import Scan


@dataclass
class Part:
    """A split and what was found out about it.

    Attributes:
        split: As it was read.
        scan: Of its ``N`` images.
        sizes: ``(N, 2)``, width and height in pixels as annotated or else as read; NaN where
            neither is.
        sides: ``(K, 2)``, width and height of the usable boxes in pixels after the resize.
    """

    split: Split
    scan: Scan
    sizes: np.ndarray
    sides: np.ndarray

    def class_images(self) -> np.ndarray:
        """Return in how many images each class is, ``(classes,)``."""
        good = self.split.labels >= 0
        pairs = np.unique(np.column_stack([self.split.rows, self.split.labels])[good], axis=0)
        return np.bincount(pairs[:, 1], minlength=len(self.split.classes))

    def numbers(self) -> dict[str, Any]:
        """Return the split's numbers, for a row of a table."""
        split, boxes = self.split, self.split.boxes
        sizes = self.sizes[~np.isnan(self.sizes).any(1)]
        middle = ' x '.join(f'{side:g}' for side in np.median(sizes, 0)) if len(sizes) else None
        return dict(
            split=split.name,
            images=len(split.files),
            boxes=None if boxes is None else len(boxes.xywh),
            ignored=None if boxes is None else int(boxes.ignored.sum()),
            labels=len(split.labels) if boxes is None else None,
            classes=len(split.classes),
            without=int((~split.annotated).sum()),
            size=middle,
        )
