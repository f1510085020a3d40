"""Large images in tiles: small objects at their own scale, large ones from the image as a whole."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData

from ..engine import config as edit
from ..errors import InputError
from ..tasks import find_task
from .onnx_runner import SMALLEST_TILE, merge_tiles, tile_windows
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
        if tile < SMALLEST_TILE:
            raise InputError(f'--slice {tile}: give {SMALLEST_TILE} pixels or more')
        if not 0 <= overlap <= 0.9:
            raise InputError(f'--overlap {overlap:g}: give a share from 0 to 0.9')
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
        height, width = pixels.shape[:2]
        windows = tile_windows(height, width, self.tile, self.overlap)
        tiles: list[Any] = []
        if len(windows) == 1:
            return sample
        crops = (pixels[y1:y2, x1:x2] for x1, y1, x2, y2 in windows)
        while batch := list(islice(crops, self.batch_size)):
            tiles += infer(batch)
        found = [one.pred_instances.cpu() for one in (sample, *tiles)]
        answers = [
            dict(boxes=f.bboxes.numpy(), scores=f.scores.numpy(), labels=f.labels.numpy())
            for f in found
        ]
        merged = merge_tiles(answers[0], answers[1:], windows, self.iou_thr)
        boxes, scores, labels = (torch.from_numpy(merged[k]) for k in ('boxes', 'scores', 'labels'))
        sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=labels)
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
