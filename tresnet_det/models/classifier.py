"""A classifier on MMEngine's Runner: data preprocessor, backbone and head."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModel, ImgDataPreprocessor
from torch import nn

from ..errors import InputError
from ..values import check_value
from .data_sample import ClsDataSample, stack_labels
from .heads import ClsHead

Config = Mapping[str, Any]


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """A backbone's last feature map and a classification head.

    The head's loss decides whether an image has one label or any number of them; see
    :class:`ClsDataSample` for the labels.

    Args:
        backbone: A ``TResNet``, or any other backbone in MMDetection's registry whose last output
            is ``(N, C, H, W)``: a config, or the module.
        head: ``LinearClsHead`` or ``MLDecoderHead``, likewise.
        data_preprocessor: Likewise; of type ``ClsDataPreprocessor`` where it names none.
        init_cfg: Of MMEngine's; the weights of backbone and head are named in theirs.

    Examples:
        >>> model = ImageClassifier(
        ...     backbone=dict(type='TResNet', arch='m'),
        ...     head=dict(
        ...         type='LinearClsHead',
        ...         in_channels=2048,
        ...         num_classes=80,
        ...         loss=dict(type='MultiLabelLoss', preset='asl'),
        ...     ),
        ... )
    """

    def __init__(
        self,
        backbone: Config | nn.Module,
        head: Config | ClsHead,
        data_preprocessor: Config | nn.Module | None = None,
        init_cfg: Config | Sequence[Config] | None = None,
    ) -> None:
        if not isinstance(data_preprocessor, nn.Module):
            # Built here: BaseModel asks MMEngine's root registry, which does not know ours.
            config = dict(dict(type='ClsDataPreprocessor'), **(data_preprocessor or {}))
            data_preprocessor = MODELS.build(config)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone: nn.Module = (
            backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        )
        self.head: ClsHead = head if isinstance(head, nn.Module) else MODELS.build(head)

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: Sequence[ClsDataSample] | None = None,
        mode: str = 'tensor',
    ) -> torch.Tensor | dict[str, torch.Tensor] | list[ClsDataSample]:
        """Return logits, losses or predictions.

        Args:
            inputs: ``(N, C, H, W)``, as the data preprocessor gives them.
            data_samples: One for each image, with ``gt_label`` for mode ``'loss'``.
            mode: ``'tensor'`` for the logits, ``(N, classes)``; ``'loss'`` for a dict of losses;
                ``'predict'`` for copies of the data samples with ``pred_score``, on the CPU.

        Raises:
            InputError: If the mode is none of them, or the labels are missing or no such labels.
        """
        if mode == 'tensor':
            return self.head(self.extract_feat(inputs))
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        raise InputError(f"unknown mode {mode!r}: use 'tensor', 'loss' or 'predict'")

    def extract_feat(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the backbone's last feature map, ``(N, C, h, w)``.

        Args:
            inputs: ``(N, C, H, W)``, as the data preprocessor gives them.
        """
        feats = self.backbone(inputs)
        return feats if isinstance(feats, torch.Tensor) else feats[-1]

    def loss(
        self, inputs: torch.Tensor, data_samples: Sequence[ClsDataSample] | None
    ) -> dict[str, torch.Tensor]:
        """Return what the head's ``loss`` does: see :meth:`forward`.

        Raises:
            InputError: If labels are missing or, on the CPU, none that the head's loss takes.
        """
        if not data_samples:
            raise InputError('a loss needs data samples with gt_label, one for each image')
        labels = stack_labels(data_samples)
        if labels.device.type == 'cpu':  # elsewhere, reading the values would hold up the device
            self.head.check_labels(labels)
        return self.head.loss(self.extract_feat(inputs), labels.to(inputs.device))

    def predict(
        self, inputs: torch.Tensor, data_samples: Sequence[ClsDataSample] | None = None
    ) -> list[ClsDataSample]:
        """Return data samples with ``pred_score``: see :meth:`forward`."""
        # All scores of a batch at once: one by one, each would wait for the device.
        scores = self.head.predict(self.extract_feat(inputs)).cpu()  # (N, classes)
        if data_samples is None:
            data_samples = [ClsDataSample() for _ in scores]
        predictions = [sample.new() for sample in data_samples]
        for prediction, score in zip(predictions, scores, strict=True):
            prediction.pred_score = score
        return predictions


@MODELS.register_module()
class ClsDataPreprocessor(ImgDataPreprocessor):
    """Stack the images of a batch as they are, move them to the device, normalise them there.

    The defaults give TResNet's input, RGB in [0, 1], from 8-bit RGB images. Labels stay on the
    CPU until the classifier moves all of a batch at once.

    Args:
        mean: Per channel, in 0..255, in the order that the network takes.
        std: Likewise.
        bgr_to_rgb: Whether the channels are swapped, for images read as BGR, as mmcv does.
        channels_last: Whether the batch is laid out channels-last.
        mixup_alpha: Mixup's Beta distribution has this parameter twice; 0 for no mixup. In
            training only, for single labels, which become soft. With ``cutmix_alpha`` too, each
            batch draws one of both.
        cutmix_alpha: The same of CutMix.
        num_classes: Classes, which mixup and CutMix must know.
        non_blocking: Whether the host continues while a pinned batch is being copied.

    Raises:
        InputError: If an argument is out of its range (a ``ValueError``).
    """

    gives_rgb = True  # images are read as RGB, or swapped: see img_norm

    def __init__(
        self,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (255.0, 255.0, 255.0),
        bgr_to_rgb: bool = False,
        channels_last: bool = False,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        num_classes: int | None = None,
        non_blocking: bool = False,
    ) -> None:
        if len(mean) not in (1, 3) or len(std) != len(mean) or not all(value > 0 for value in std):
            raise InputError(
                'mean and std of the data preprocessor need 3 values each, or 1, std above 0: got '
                f'{tuple(mean)} and {tuple(std)}'
            )
        check_value('data_preprocessor.mixup_alpha', mixup_alpha)
        check_value('data_preprocessor.cutmix_alpha', cutmix_alpha)
        super().__init__(
            mean=[float(value) for value in mean],
            std=[float(value) for value in std],
            bgr_to_rgb=bgr_to_rgb,
            non_blocking=non_blocking,
        )
        self.channels_last = channels_last
        self.num_classes = num_classes
        self.batch_augment: nn.Module | None = None
        if mixup_alpha or cutmix_alpha:
            if num_classes is None:
                raise InputError('mixup and CutMix need num_classes of the data preprocessor')
            self.batch_augment = _batch_augment(mixup_alpha, cutmix_alpha, num_classes)

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Return ``inputs``, ``(N, C, H, W)`` in the model's dtype and place, and ``data_samples``.

        Args:
            data: ``inputs``, a list of ``(C, H, W)`` or a batch ``(N, C, H, W)``, 8-bit or float in
                0..255, and ``data_samples``, which may be missing. Nothing in it is changed.
            training: Whether mixup and CutMix may be applied.

        Raises:
            InputError: If there is no image, or they differ in shape or have the wrong channels,
                or mixup's labels are not single and known.
        """
        data_samples: Any = data.get('data_samples')
        inputs = self.cast_data(self._stack(data['inputs']))
        if self._channel_conversion:
            inputs = inputs.flip(1)
        # 8-bit minus float is float; but numpy's float64 is not what the model takes.
        inputs = torch.sub(inputs, self.mean).to(self.mean.dtype).div_(self.std)
        if training and self.batch_augment is not None:
            inputs, data_samples = self._mix(inputs, data_samples)
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return dict(inputs=inputs, data_samples=data_samples)

    def _stack(self, images: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        if not isinstance(images, torch.Tensor):
            shapes = sorted({tuple(image.shape) for image in images})
            if not shapes:
                raise InputError('the data preprocessor got a batch without images')
            if len(shapes) > 1:
                raise InputError(
                    f'the images of a batch differ in shape, {shapes[:3]}: resize or crop them '
                    'to one size in the pipeline, or use batch size 1'
                )
            images = torch.stack(list(images))
        channels = len(self.mean)
        fits = images.dim() == 4 and (channels == 1 or images.shape[1] == channels)
        if not fits or (self._channel_conversion and images.shape[1] != 3):
            raise InputError(
                f'the data preprocessor takes (N, {channels}, H, W), got {tuple(images.shape)}: '
                'set mean, std and bgr_to_rgb for such images'
            )
        return images

    def _mix(
        self, inputs: torch.Tensor, data_samples: Sequence[ClsDataSample]
    ) -> tuple[torch.Tensor, list[ClsDataSample]]:
        assert self.batch_augment is not None
        assert self.num_classes is not None
        labels = stack_labels(data_samples)
        if labels.dim() != 1 or not ((labels >= 0) & (labels < self.num_classes)).all():
            raise InputError(
                'mixup and CutMix need one known class number an image, from 0 to '
                f'{self.num_classes - 1}: set mixup_alpha and cutmix_alpha to 0 for other labels'
            )
        inputs, labels = self.batch_augment(inputs, labels.to(inputs.device))
        mixed = [sample.new() for sample in data_samples]
        for sample, label in zip(mixed, labels, strict=True):
            sample.gt_label = label  # (classes,), with the sum 1
        return inputs, mixed


def _batch_augment(mixup_alpha: float, cutmix_alpha: float, num_classes: int) -> nn.Module:
    from torchvision.transforms import v2  # slow to import, and few need it

    chosen = [
        kind(alpha=alpha, num_classes=num_classes)
        for kind, alpha in ((v2.MixUp, mixup_alpha), (v2.CutMix, cutmix_alpha))
        if alpha
    ]
    return v2.RandomChoice(chosen)
