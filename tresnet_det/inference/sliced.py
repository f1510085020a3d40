"""Large images in tiles: small objects at their own scale, large ones from the image as a whole."""

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData

from ..engine import config as edit
from ..errors import InputError, check_whole, shown
from ..tasks import find_task
from .onnx_runner import SMALLEST_TILE, Answer, predict_tiles
from .pipeline import Pipeline, predicts_masks


class Slicing(NamedTuple):
    """How images are cut.

    Attributes:
        tile: Side of a tile in pixels.
        overlap: Share of a tile that the next one has too, in [0, 1).
        iou_thr: Of NMS between the tiles: the model's own.
        batch_size: Tiles at once.
    """

    tile: int
    overlap: float
    iou_thr: float
    batch_size: int = 8

    @classmethod
    def of(cls, cfg: Config, tile: int, overlap: float) -> 'Slicing':
        """Return that for the model of a config.

        Raises:
            InputError: It is no detector of boxes alone, or tiles would not move on.
        """
        if not find_task(cfg).detects or predicts_masks(cfg):
            raise InputError('--slice is for detectors of boxes: omit it')
        check_whole('tile', tile, 1)
        if tile < SMALLEST_TILE:
            raise InputError(f'--slice {tile}: give {SMALLEST_TILE} pixels or more')
        if not isinstance(overlap, Real) or not 0 <= overlap <= 0.9:
            raise InputError(f'--overlap {shown(overlap)}: give a share from 0 to 0.9')
        parts = edit.iterate_dicts(cfg.model.get('test_cfg'))
        found = [part['iou_threshold'] for part in parts if 'iou_threshold' in part]
        return cls(tile, overlap, found[-1] if found else 0.5)

    def add_tiles(
        self, pixels: np.ndarray, sample: Any, infer: Callable[[Sequence[np.ndarray]], list]
    ) -> Any:
        """Put what is found in an image's tiles into its data sample; return the sample.

        Args:
            pixels: ``(H, W, 3)`` of uint8 in RGB; no larger than a tile, nothing is done.
            sample: With ``pred_instances`` of the image as a whole.
            infer: Returns the data samples of images.
        """
        whole = _as_answer(sample)

        def answer(crops: Sequence[np.ndarray]) -> list[Answer]:
            return [_as_answer(found) for found in infer(crops)]

        cut = self.tile, self.overlap, self.iou_thr, self.batch_size
        merged = predict_tiles(pixels, whole, answer, *cut)
        if merged is not whole:
            found = {name: torch.from_numpy(merged[name]) for name in ('scores', 'labels')}
            boxes = torch.from_numpy(merged['boxes'])
            sample.pred_instances = InstanceData(bboxes=boxes, **found)
        return sample

    def put_into(self, model: Any, pipeline: Pipeline) -> None:
        """Let a model's ``test_step`` predict the tiles of each image, too."""
        plain = model.test_step

        def infer(crops: Sequence[np.ndarray]) -> list:
            return plain(pseudo_collate([pipeline.prepare(crop) for crop in crops]))

        def test_step(data: Any) -> list:
            samples = plain(data)
            return [self.add_tiles(pipeline.read(s.img_path), s, infer) for s in samples]

        model.test_step = test_step


def _as_answer(sample: Any) -> Answer:
    found = sample.pred_instances.cpu()
    values = {'boxes': found.bboxes, 'scores': found.scores, 'labels': found.labels}
    return {name: value.numpy() for name, value in values.items()}
