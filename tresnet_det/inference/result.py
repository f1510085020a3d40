"""What a model finds in one image, as NumPy arrays: boxes, masks, classes and their scores."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as masks_of_coco

from ..errors import InputError, few, shown
from .output_files import save_image

if TYPE_CHECKING:
    import supervision


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What is found in one image, by descending score; its length is the number of finds.

    Attributes:
        boxes: ``(N, 4)``, x1 y1 x2 y2 in the pixels of the image as it was given; None of a
            classifier.
        scores: ``(N,)``, in [0, 1].
        labels: ``(N,)``, class numbers from 0.
        classes: Names of all classes of the model, by number.
        ori_shape: Height and width of the image, in pixels.
        source: The image: its file, or ``(H, W, 3)`` of uint8 in RGB.
        class_scores: Of a classifier ``(classes,)``, the score of each class by its number; None
            of a detector.
        rles: The masks as RLEs of pycocotools, with ``counts`` as str; None where
            there are boxes only.
    """

    boxes: NDArray[np.float32] | None
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: Sequence[str] = field(kw_only=True)
    ori_shape: tuple[int, int] = field(kw_only=True)
    source: str | NDArray[np.uint8] = field(kw_only=True)
    class_scores: NDArray[np.float32] | None = field(default=None, kw_only=True)
    rles: Sequence[dict[str, Any]] | None = field(default=None, kw_only=True)

    @classmethod
    def of(
        cls,
        sample: Any,
        classes: Sequence[str],
        pixels: NDArray[np.uint8],
        file: str | None = None,
    ) -> 'Result':
        """Return all that a model predicts for an image.

        Args:
            sample: Of :meth:`Predictor.infer`.
            classes: Names of the model's classes.
            pixels: ``(H, W, 3)`` of uint8 in RGB.
            file: The image's, which is read again where the image is asked for; None to keep the
                pixels.
        """
        height, width = pixels.shape[:2]
        given: dict[str, Any] = dict(
            classes=classes, ori_shape=(height, width), source=pixels if file is None else file
        )
        found = getattr(sample, 'pred_instances', None)
        if found is None:
            every = sample.pred_score.float().numpy()
            order = np.argsort(-every, kind='stable')
            return cls(None, every[order], order.astype(np.int64), class_scores=every, **given)
        order = np.argsort(-found.scores.numpy(), kind='stable')
        labels, scores, boxes = (
            values.numpy()[order] for values in (found.labels, found.scores, found.bboxes)
        )
        if 'masks' in found:
            given['rles'] = masks = [found.masks[n] for n in order]
            for n in np.flatnonzero(~boxes.any(1)):  # heads of masks alone, as SOLO's, say zeros
                x, y, w, h = masks_of_coco.toBbox(masks[n])
                boxes[n] = x, y, x + w, y + h
        numbers = labels.astype(np.int64)  # none of them may be floats
        return cls(boxes.astype(np.float32), scores.astype(np.float32), numbers, **given)

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        what = 'classes' if self.boxes is None else 'objects'
        return f'Result({len(self)} {what}: {few(self.names)})' if len(self) else 'Result(nothing)'

    @property
    def names(self) -> list[str]:
        """The class names of ``labels``."""
        return [self.classes[label] for label in self.labels]

    @property
    def masks(self) -> NDArray[np.bool_] | None:
        """``(N, H, W)``, decoded when asked for; None where there are boxes only."""
        if self.rles is None:
            return None
        masks = np.zeros((len(self), *self.ori_shape), bool)
        for mask, rle in zip(masks, self.rles, strict=True):
            mask[:] = masks_of_coco.decode(rle)
        return masks

    @property
    def image(self) -> NDArray[np.uint8]:
        """The image, ``(H, W, 3)`` in RGB.

        Raises:
            InputError: Its file is gone, or is no image any more.
        """
        if isinstance(self.source, np.ndarray):
            return self.source
        from ..evaluation.draw import read_image

        return read_image(self.source)

    def take(self, kept: NDArray[np.integer]) -> 'Result':
        """Return some of what is found, by their places."""
        boxes = None if self.boxes is None else self.boxes[kept]
        rles = None if self.rles is None else [self.rles[n] for n in kept]
        found = dict(boxes=boxes, scores=self.scores[kept], labels=self.labels[kept], rles=rles)
        return replace(self, **found)

    def select(self, thresholds: NDArray[np.float64], top: int | None = None) -> 'Result':
        """Return what is shown of it.

        Args:
            thresholds: ``(classes,)``: objects are shown from the one of their class, labels of
                multi-label classification above it.
            top: For single-label classification, this many classes are shown instead.
        """
        least = thresholds[self.labels]
        if self.boxes is not None:
            shown = self.scores >= least
        elif top is None:  # in the precision of the scores, as MultiLabelMetric has it
            shown = self.scores > least.astype(np.float32)
        else:
            shown = np.arange(len(self)) < top
        return self.take(np.flatnonzero(shown))

    def plot(self, path: str | Path | None = None, rows: int | None = None) -> NDArray[np.uint8]:
        """Draw what is found: objects on the image, classes beneath it.

        Args:
            path: An image file to write too; its ending decides the format.
            rows: Of classes, how many lines there is room for; None for as many as there are.

        Returns:
            ``(H', W', 3)`` in RGB: a small image is enlarged, so that the names can be read.

        Raises:
            InputError: The image cannot be read again, or the file cannot be written.
        """
        from ..evaluation.draw import Line, class_colour, draw_classes, draw_objects
        from ..evaluation.plots import BLUE

        colours = [BLUE if self.boxes is None else class_colour(label) for label in self.labels]
        lines = list(map(Line, self.names, self.scores.tolist(), colours))
        if self.boxes is None:
            drawn = np.array(draw_classes(self.image, lines, rows))
        else:
            drawn = np.array(draw_objects(self.image, self.boxes, lines, self.rles or ()))
        if not isinstance(path, str | os.PathLike | None):
            raise InputError(f'{shown(path)} is no path of a file')
        if path is not None:
            try:
                save_image(drawn, Path(path))
            except (OSError, ValueError) as error:
                raise InputError(f'{path}: the image cannot be written ({error})') from error
        return drawn

    def to_coco(
        self,
        image_id: int | str,
        categories: Mapping[str, int] | None = None,
        iou_type: str = 'bbox',
    ) -> list[dict[str, Any]]:
        """Return rows of a COCO results file, as ``loadRes`` of pycocotools takes them.

        Args:
            image_id: Of the annotation file.
            categories: The annotation file's number of each class; None to count from 1.
            iou_type: ``'bbox'`` for boxes, x y w h, or ``'segm'`` for masks, without the box, whose
                area COCO would take for the mask's.

        Raises:
            InputError: There are no boxes, or no masks, or a class has no number.
        """
        if iou_type not in ('bbox', 'segm'):
            raise InputError(f"iou_type must be 'bbox' or 'segm', got {iou_type!r}")
        places: list[Any] | None = None
        if iou_type == 'segm' and self.rles is not None:
            places = [dict(segmentation=rle) for rle in self.rles]
        elif iou_type == 'bbox' and self.boxes is not None:
            corners = self.boxes.tolist()
            places = [dict(bbox=[x1, y1, x2 - x1, y2 - y1]) for x1, y1, x2, y2 in corners]
        if places is None:
            raise InputError(f'the model finds no {"boxes" if iou_type == "bbox" else "masks"}')
        if not isinstance(categories, Mapping | None):
            raise InputError(f'categories must be a dict by class names, got {shown(categories)}')
        if isinstance(image_id, bool) or not isinstance(image_id, Integral | str):
            raise InputError(f'image_id must be a whole number or a text, got {shown(image_id)}')
        number = image_id if isinstance(image_id, str) else int(image_id)  # NumPy's is no JSON
        known = categories or {name: n for n, name in enumerate(self.classes, 1)}
        if lacking := [name for name in self.names if name not in known]:
            raise InputError(f'categories has no number of {few(dict.fromkeys(lacking))}')
        columns = zip(self.names, places, self.scores.tolist(), strict=True)
        return [
            dict(image_id=number, category_id=known[name], **place, score=score)
            for name, place, score in columns
        ]

    def to_supervision(self) -> 'supervision.Detections':
        """Return the objects as the package `supervision` has them, names in ``data``.

        Raises:
            InputError: The package is not installed whole, or there are no boxes.
        """
        if self.boxes is None:
            raise InputError('supervision.Detections has boxes, and a classifier finds none')
        try:
            import supervision
        except ImportError as error:
            raise InputError(f'to_supervision: {error}: pip install supervision') from error
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.labels,
            data=dict(class_name=np.array(self.names, dtype=str)),
        )
