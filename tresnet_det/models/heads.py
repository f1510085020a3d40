"""Classification heads: from a backbone's last feature map to logits, loss and scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import nn

from ..checkpoints import load_head_weights
from ..errors import InputError, check_init_cfg
from ..values import check_value

LossConfig = Mapping[str, Any] | nn.Module


class ClsHead(BaseModule):
    """What classification heads share: loss and scores of the logits that ``forward`` returns.

    Args:
        in_channels: Channels of the feature map.
        num_classes: Classes.
        loss: A config of a loss in ``losses.py``, or such a loss: it decides between one label an
            image and several.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` takes what
            :func:`load_head_weights` does.

    Raises:
        InputError: If an argument is out of its range (a ``ValueError``).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        loss: LossConfig,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        check_init_cfg(init_cfg)
        super().__init__(init_cfg=init_cfg)
        for name, value in (('in_channels', in_channels), ('num_classes', num_classes)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f'{name} of {type(self).__name__} must be at least 1, got {value}')
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.loss_module: Any = loss if isinstance(loss, nn.Module) else MODELS.build(loss)
        if not hasattr(self.loss_module, 'multi_label'):
            raise InputError(
                f'{type(self.loss_module).__name__} is no loss for {type(self).__name__}: use '
                'AsymmetricLoss, MultiLabelLoss, SoftmaxCrossEntropyLoss or '
                'SingleLabelAsymmetricLoss'
            )

    @property
    def multi_label(self) -> bool:
        """Whether an image may have any number of labels."""
        return self.loss_module.multi_label

    def loss(
        self, feats: torch.Tensor | Sequence[torch.Tensor], labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return ``loss``, a scalar; for multi-label data also its scales.

        See :meth:`AsymmetricLoss.scales`; MMEngine logs them and adds only the loss.

        Args:
            feats: As ``forward`` takes them.
            labels: ``(N,)`` or ``(N, classes)``, as the loss takes them, on the same device.
        """
        logits = self(feats)
        if logits.dim() != 2 or logits.shape[1] != self.num_classes:
            raise InputError(
                f'{type(self).__name__} returns {tuple(logits.shape)}, not (images, num_classes), '
                f'and num_classes is {self.num_classes}'
            )
        loss = self.loss_module(logits, labels)
        scales = getattr(self.loss_module, 'scales', None)
        return {'loss': loss} | (scales(loss, labels) if scales else {})

    def predict(self, feats: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the scores, ``(N, classes)`` of float32 in [0, 1].

        Args:
            feats: As ``forward`` takes them.
        """
        logits = self(feats).float()
        return logits.sigmoid() if self.multi_label else logits.softmax(1)

    def check_labels(self, labels: torch.Tensor) -> None:
        """Raise an InputError where labels are none that the loss takes; best on the CPU.

        Args:
            labels: Of a batch, ``(N,)`` or ``(N, classes)``.
        """
        self.loss_module.check_labels(labels, self.num_classes)

    def init_weights(self) -> None:
        """Load the weights that ``init_cfg`` names, or keep those drawn at construction.

        Raises:
            InputError: As of :func:`load_head_weights`, or another key is in ``init_cfg``.
        """
        cfg = self.init_cfg
        if not isinstance(cfg, Mapping) or cfg['type'] != 'Pretrained':
            super().init_weights()
            return
        others = sorted(set(cfg) - {'type', 'checkpoint'})
        if others:
            raise InputError(f'init_cfg of a head takes type and checkpoint, not {others}')
        load_head_weights(self, cfg['checkpoint'])
        self.is_init = True

    def last_feature_map(self, feats: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the last of a backbone's feature maps, ``(N, in_channels, H, W)``.

        Raises:
            InputError: If it has another number of channels.
        """
        x = feats if isinstance(feats, torch.Tensor) else feats[-1]
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise InputError(
                f'{type(self).__name__} takes (N, {self.in_channels}, H, W), the backbone gives '
                f'{tuple(x.shape)}: set in_channels of the head to its last channels'
            )
        return x


@MODELS.register_module()
class LinearClsHead(ClsHead):
    """Global average pooling and one fully-connected layer.

    Args:
        in_channels: Channels of the feature map.
        num_classes: Classes.
        loss: See :class:`ClsHead`.
        dropout: Rate of the dropout between the two, in [0, 1).
        init_cfg: See :class:`ClsHead`; None for weights of standard deviation 0.01 and no bias.

    Raises:
        InputError: If an argument is out of its range (a ``ValueError``).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        loss: LossConfig,
        dropout: float = 0.0,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(in_channels, num_classes, loss, init_cfg)
        check_value('head.dropout', dropout)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, feats: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the logits, ``(N, num_classes)``.

        Args:
            feats: ``(N, in_channels, H, W)``, or a backbone's feature maps with that as the last.

        Raises:
            InputError: If it has another number of channels.
        """
        pooled = self.last_feature_map(feats).mean((2, 3))  # (N, in_channels)
        return self.fc(self.dropout(pooled))
