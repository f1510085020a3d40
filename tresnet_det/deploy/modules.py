"""The modules that are exported: they take images as they are and return plain tensors.

All take ``images``, ``(N, 3, H, W)`` of float32: RGB in 0..255, neither normalised nor anything
else; the normalisation of the model's data preprocessor is in the graph.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import FCOSHead
from mmdet.models.detectors import SingleStageDetector
from torch import Tensor, nn

from ..checkpoints.img_norm import read_img_norm
from ..errors import InputError
from ..models import ImageClassifier
from .fuse import fuse_norms
from .nms import suppress

TASKS = ('detector', 'classifier', 'backbone')
_STEM_STRIDE = 4  # to a multiple of which TResNet pads inside, if need be


class Normalization(nn.Module):
    """What a data preprocessor does to RGB images: ``(N, 3, H, W)`` to the same.

    Args:
        data_preprocessor: MMDetection's ``DetDataPreprocessor``, or a ``ClsDataPreprocessor``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, data_preprocessor: nn.Module) -> None:
        super().__init__()
        img_norm = read_img_norm(data_preprocessor)
        self.gives_bgr = not img_norm['bgr_to_rgb']
        self.pad_value = float(getattr(data_preprocessor, 'pad_value', 0))
        for name in ('mean', 'std'):
            values = torch.tensor(img_norm[name], dtype=torch.float32)
            self.register_buffer(name, values[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.gives_bgr:
            images = images.flip(1)
        return (images - self.mean) / self.std

    @property
    def border(self) -> list[float]:
        """The RGB colour, in 0..255, that the border around an image has before normalisation."""
        colour = self.mean + self.pad_value * self.std  # (1 or 3, 1, 1)
        values = colour.flatten().expand(3).tolist()
        return values[::-1] if self.gives_bgr else values


class ExportedBackbone(nn.Module):
    """``images`` to the backbone's feature maps.

    Args:
        model: Any model with a ``backbone`` and a ``data_preprocessor``.
    """

    task = 'backbone'
    input_names = ('images',)

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.normalization = Normalization(model.data_preprocessor)
        padding = getattr(model.data_preprocessor, 'pad_size_divisor', 1)
        self.divisor = math.lcm(_STEM_STRIDE, padding)
        self.backbone = model.backbone
        indices = getattr(model.backbone, 'out_indices', (0,))
        strides = getattr(model.backbone, 'out_strides', [4 * 2**index for index in indices])
        self.output_names = tuple(f'stride_{stride}' for stride in strides)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return one ``(N, C, H / s, W / s)`` for each stride ``s``, rounded up."""
        return tuple(self.backbone(self.normalization(images)))


class ExportedClassifier(nn.Module):
    """``images`` to logits and scores.

    Args:
        model: The classifier.
    """

    task = 'classifier'
    input_names = ('images',)
    output_names = ('logits', 'scores')
    divisor = _STEM_STRIDE

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.normalization = Normalization(model.data_preprocessor)
        self.backbone = model.backbone
        self.head = model.head
        self.multi_label = model.head.multi_label

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return both as ``(N, classes)``; scores are in [0, 1]."""
        logits = self.head(self.backbone(self.normalization(images)))
        return logits, logits.sigmoid() if self.multi_label else logits.softmax(1)


class ExportedDetector(nn.Module):
    """``images``, ``sizes`` and ``original_sizes`` to boxes in the original images' pixels.

    FCOS with MMDetection's post-processing (``BaseDenseHead.predict_by_feat``), of which it takes
    the points and the decoding; with the candidates of every image and level in a row of fixed
    length, so that a graph can hold it. The order of the operations is MMDetection's, down to how
    classes are moved apart before NMS, so that the boxes are the same.

    Args:
        model: FCOS, its ``test_cfg`` with ``nms_pre`` and ``max_per_img`` from 1 and plain NMS.

    Raises:
        InputError: If it is another detector, or ``test_cfg`` asks for what this has not.
    """

    task = 'detector'
    input_names = ('images', 'sizes', 'original_sizes')
    output_names = ('boxes', 'scores', 'labels', 'num')

    def __init__(self, model: Any) -> None:
        super().__init__()
        head = model.bbox_head
        self.normalization = Normalization(model.data_preprocessor)
        self.divisor = model.data_preprocessor.pad_size_divisor
        self.backbone, self.neck, self.head = model.backbone, model.neck, head
        settings = read_post_processing(head.test_cfg)
        self.nms_pre: int = settings['nms_pre']
        self.max_per_img: int = settings['max_per_img']
        self.score_thr: float = settings['score_thr']
        self.min_size: float = settings['min_bbox_size']
        self.iou_threshold: float = settings['iou_threshold']
        self.class_agnostic: bool = settings['class_agnostic']

    def forward(
        self, images: Tensor, sizes: Tensor, original_sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return boxes, ``K`` places an image, those that are taken first, by descending score.

        Args:
            images: Resized images, at the left upper corner of their place.
            sizes: Height and width of each there, ``(N, 2)`` of int64.
            original_sizes: Height and width of each before it was resized, likewise.

        Returns:
            ``(N, K, 4)``, each box ``(x1, y1, x2, y2)`` in the original image; scores,
            ``(N, K)``, 0 for an empty place; class numbers, ``(N, K)`` of int64, -1 for an empty
            place; and how many places are taken, ``(N,)``. ``K`` is ``max_per_img``.
        """
        maps = self.head(self.neck(self.backbone(self.normalization(images))))
        points = self.head.prior_generator.grid_priors(
            [scores.shape[-2:] for scores in maps[0]], dtype=images.dtype, device=images.device
        )
        levels = [self._select(*level) for level in zip(*maps, points, strict=True)]
        scores, labels, centerness, distances, points = (
            torch.cat(parts, 1) for parts in zip(*levels, strict=True)
        )
        boxes = self.head.bbox_coder.decode(points, distances, max_shape=sizes)  # (N, K, 4)
        scale = (original_sizes / sizes).flip(1)  # (N, 2), of x and y
        boxes = boxes * scale.repeat(1, 2)[:, None]
        scores = scores * centerness
        if self.min_size >= 0:
            sides = boxes[..., 2:] - boxes[..., :2]
            scores = torch.where((sides > self.min_size).all(2), scores, 0)
        return self._suppress(boxes, scores, labels)

    def _select(
        self, cls_scores: Tensor, distances: Tensor, centerness: Tensor, points: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the ``nms_pre`` best pairs of point and class of a level, score 0 for none.

        Args:
            cls_scores: Logits, ``(N, C, h, w)``.
            distances: From each point to its box's sides, ``(N, 4, h, w)``, in pixels.
            centerness: Logits, ``(N, 1, h, w)``.
            points: ``(h * w, 2)``, x and y in pixels.

        Returns:
            Scores, labels, centerness, ``(N, nms_pre)`` each; distances ``(N, nms_pre, 4)``,
            points ``(N, nms_pre, 2)``.
        """
        classes = cls_scores.shape[1]
        scores = cls_scores.permute(0, 2, 3, 1).flatten(1).sigmoid()  # (N, h * w * C)
        scores = torch.where(scores > self.score_thr, scores, 0)
        # As many empty ones: then nms_pre is a number, however small the map is.
        scores, pairs = F.pad(scores, (0, self.nms_pre)).topk(self.nms_pre, dim=1)
        place = torch.where(scores > 0, pairs // classes, 0)  # (N, nms_pre)
        distances = distances.flatten(2).transpose(1, 2)  # (N, h * w, 4)
        return (
            scores,
            pairs % classes,
            centerness.flatten(1).sigmoid().gather(1, place),
            distances.gather(1, place[..., None].expand(-1, -1, 4)),
            points[place],
        )

    def _suppress(
        self, boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        apart = boxes
        if not self.class_agnostic:
            there = torch.where(scores[..., None] > 0, boxes, 0)
            span = there.amax((1, 2)) + 1  # (N,)
            apart = boxes + (labels.to(boxes.dtype) * span[:, None])[..., None]
        kept = suppress(apart, scores, self.iou_threshold, self.max_per_img)  # (N, K)
        missing = max(self.max_per_img - kept.shape[1], 0)
        scores, best = F.pad(kept, (0, missing)).topk(self.max_per_img, dim=1)
        taken = scores > 0
        best = torch.where(taken, best, 0)
        boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4))
        return (
            torch.where(taken[..., None], boxes, 0),
            scores,
            torch.where(taken, labels.gather(1, best), -1),
            taken.sum(1),
        )


ExportModule = ExportedBackbone | ExportedClassifier | ExportedDetector


def read_post_processing(test_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the post-processing of a ``test_cfg`` is set to, all of it.

    Raises:
        InputError: If it has a setting that the export does not know, or no such value.
    """
    settings: dict[str, Any] = dict(score_thr=0.0, min_bbox_size=-1, class_agnostic=False)
    settings |= test_cfg
    nms = dict(settings.pop('nms', None) or {})
    if nms.pop('type', 'nms') != 'nms' or 'iou_threshold' not in nms:
        raise InputError(
            f'test_cfg.nms is {test_cfg.get("nms")}: the export has plain NMS only, '
            "dict(type='nms', iou_threshold=0.6)"
        )
    nms.pop('split_thr', None)  # how mmcv divides the work, not what comes out
    settings |= nms
    known = {'nms_pre', 'score_thr', 'min_bbox_size', 'max_per_img', 'iou_threshold'}
    if unknown := sorted(set(settings) - known - {'class_agnostic'}):
        raise InputError(f'test_cfg.{unknown[0]} is not in the export: remove it')
    for key in ('nms_pre', 'max_per_img'):
        value = settings.get(key)
        if not isinstance(value, int) or value < 1:
            raise InputError(f'test_cfg.{key} must be a number from 1 for the export, got {value}')
    return settings


def build_export_module(model: Any, task: str) -> ExportModule:
    """Return the module to export: of an inference copy of the model, its norms folded.

    Args:
        model: A detector or a classifier with its weights; it is not changed.
        task: One of ``TASKS``.

    Raises:
        InputError: If the model is not of that task, or cannot be exported.
    """
    kind = type(model).__name__
    if task == 'backbone':
        return ExportedBackbone(fuse_norms(model)).eval()
    if task == 'classifier':
        if not isinstance(model, ImageClassifier):
            raise InputError(f'--task classifier: {kind} is no ImageClassifier')
        return ExportedClassifier(fuse_norms(model)).eval()
    head: Any = getattr(model, 'bbox_head', None)
    exact = type(head) is FCOSHead and head.use_sigmoid_cls and model.with_neck
    if not (isinstance(model, SingleStageDetector) and exact):
        raise InputError(
            f'{kind} with {type(head).__name__} has no export: of the detectors, FCOS has; of '
            'others, --task backbone exports the backbone'
        )
    divisor = model.data_preprocessor.pad_size_divisor
    if divisor % _STEM_STRIDE:
        raise InputError(
            f'model.data_preprocessor.pad_size_divisor is {divisor}: the export needs a multiple '
            'of 4; set it to 32'
        )
    return ExportedDetector(fuse_norms(model)).eval()
