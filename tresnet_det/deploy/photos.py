"""Photos by a config's own test pipeline, and what a PyTorch model says of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from torch import nn

from ..datasets import build_transforms, decode_rgb
from ..tasks import find_task
from .images import find_test_dataset


class Photo(NamedTuple):
    """A photo as the config's own test pipeline gives it.

    Attributes:
        path: The file.
        image: Resized, ``(H, W, 3)`` of uint8 in RGB.
        original_size: Height and width before that.
        batch: A batch of this one, for the model.
    """

    path: Path
    image: np.ndarray
    original_size: tuple[int, int]
    batch: dict


class PhotoReader:
    """Reads photos by the test pipeline of a config.

    Args:
        cfg: The config.
    """

    def __init__(self, cfg: Config) -> None:
        pipeline = find_test_dataset(cfg)['pipeline']
        self._detects = find_task(cfg).detects
        if self._detects:  # photos have no annotations
            pipeline = [step for step in pipeline if step['type'] != 'LoadAnnotations']
            self._transforms = Compose(pipeline)
        else:
            self._transforms = build_transforms(pipeline)

    def __call__(self, path: Path) -> Photo:
        """Return a photo.

        Raises:
            InputError: If it is not there or broken.
        """
        if self._detects:
            data = self._transforms(dict(img_path=str(path), img_id=0))
            sample = data['data_samples']
            image = data['inputs'].flip(0).permute(1, 2, 0).numpy()  # OpenCV's order is BGR
            batch = dict(inputs=[data['inputs']], data_samples=[sample])
            return Photo(path, np.ascontiguousarray(image), sample.ori_shape, batch)
        original = decode_rgb(path)
        inputs = self._transforms(original)
        image = np.ascontiguousarray(inputs.permute(1, 2, 0).numpy())
        return Photo(path, image, tuple(original.shape[1:]), dict(inputs=[inputs]))


class ModelAnswers:
    """What a PyTorch model says of photos, in the form of ``onnx_runner.py``.

    Args:
        model: In evaluation mode.
        task: ``'detector'``, ``'classifier'`` or ``'backbone'``.
        output_names: Of the exported module.
    """

    def __init__(self, model: nn.Module, task: str, output_names: Sequence[str]) -> None:
        self.model, self.task, self.output_names = model, task, output_names

    @torch.inference_mode()
    def __call__(self, photo: Photo) -> dict[str, np.ndarray]:
        """Return the answer to a photo."""
        data = self.model.data_preprocessor(photo.batch, False)
        if self.task == 'detector':
            found = self.model(**data, mode='predict')[0].pred_instances
            outputs = dict(boxes=found.bboxes, scores=found.scores, labels=found.labels)
        elif self.task == 'classifier':
            logits = self.model(data['inputs'], mode='tensor')[0]
            scores = logits.sigmoid() if self.model.head.multi_label else logits.softmax(0)
            outputs = dict(logits=logits, scores=scores)
        else:
            features = self.model.backbone(data['inputs'])
            outputs = {
                name: value[0] for name, value in zip(self.output_names, features, strict=True)
            }
        return {name: value.cpu().numpy() for name, value in outputs.items()}
