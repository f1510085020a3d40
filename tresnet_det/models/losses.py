"""Losses of the classification heads, multi-label and single-label.

All of them compute in float32 under autocast (in float64 for such logits), and tell by
``multi_label`` how logits become scores: by a sigmoid for each class, or by one softmax over all.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import nn

from ..compat.precision import widened
from ..errors import InputError
from ..values import check_value

EPS = 1e-8  # the least probability that a logarithm is taken of, and the least focal base
RESOLUTION = torch.finfo(torch.float32).eps  # a shift below it is none
UNKNOWN = -1  # the label of which an image's annotator said nothing

# What to try on other data, in this order (the ASL authors' advice).
MULTI_LABEL_PRESETS = {
    'bce': dict(gamma_neg=0, gamma_pos=0, clip=0.0),
    'focal': dict(gamma_neg=2, gamma_pos=2, clip=0.0),
    'asl': dict(gamma_neg=4, gamma_pos=1, clip=0.05),
}


@MODELS.register_module()
class AsymmetricLoss(nn.Module):
    """Asymmetric loss, ASL, for images with any number of labels (arXiv 2009.14119, section 2).

    With ``p = sigmoid(logit)`` and the shifted probability ``p_m = max(p - clip, 0)``::

        -(1 - p) ** gamma_pos * log(p)        for a label that is there
        -p_m ** gamma_neg * log(1 - p_m)      for one that is not

    The logarithms are bounded by ``log(1e-8)`` = -18.4, as in the authors' code: beyond it, a label
    gives no gradient. With gammas and clip at 0 it is binary cross-entropy, to float32's precision.

    The size depends on ``reduction``. At logits of 0, the default gammas give 0.35 for each label
    that is there and 0.025 for each that is not: with 3 of 80 classes there and 128 images, 375
    by ``'sum'``, 2.9 by ``'batch_mean'`` and 0.037 by ``'mean'``. A learning rate belongs to one of
    them; the paper's 1e-4 goes with ``'sum'`` and Adam, which does not mind the factor. SGD does.

    Args:
        gamma_neg: Exponent of the focal weight of absent labels, at least 0.
        gamma_pos: The same of labels that are there.
        clip: How far the probabilities of absent labels are shifted down, in [0, 1).
            Those below it give neither loss nor gradient.
        reduction: ``'sum'`` over images and classes, ``'batch_mean'``, which is that divided by
            the number of images, or ``'mean'`` over the known labels.
        detach_focal_weight: Whether the gradient takes the focal weight as a constant, as the
            authors train.

    Raises:
        InputError: If an argument is out of its range (a ``ValueError``).
    """

    multi_label = True

    def __init__(
        self,
        gamma_neg: float = 4,
        gamma_pos: float = 1,
        clip: float = 0.05,
        reduction: str = 'sum',
        detach_focal_weight: bool = True,
    ) -> None:
        super().__init__()
        check_value('loss.gamma_neg', gamma_neg)
        check_value('loss.gamma_pos', gamma_pos)
        check_value('loss.clip', clip)
        _check_reduction(reduction, ('sum', 'batch_mean', 'mean'))
        self.gamma_neg = gamma_neg
        self.gamma_pos = gamma_pos
        self.clip = clip
        self.reduction = reduction
        self.detach_focal_weight = detach_focal_weight

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar of float32, or of float64 for such logits.

        Args:
            logits: ``(N, classes)``, before any sigmoid.
            labels: ``(N, classes)`` of any type: 1 present, 0 absent, -1 unknown. An unknown one
                counts nowhere.

        Raises:
            InputError: If the shapes differ.
        """
        _check_shape(labels, logits.shape, 'a 0, 1 or -1 for each image and class')
        with torch.autocast(logits.device.type, enabled=False):
            logits = widened(logits)
            present, known = labels > 0, labels >= 0
            p = torch.sigmoid(logits)
            shifted = (p - self.clip).clamp(min=0)
            # Without a shift, 1 - p would lose its digits where p is near 1, and be 0 in the end.
            log_absent = torch.log1p(-shifted) if self.clip > RESOLUTION else F.logsigmoid(-logits)
            log_likelihood = torch.where(present, F.logsigmoid(logits), log_absent)
            losses = -log_likelihood.clamp(min=math.log(EPS))
            if self.gamma_neg or self.gamma_pos:
                error = torch.where(present, 1 - p, shifted)
                if self.detach_focal_weight:
                    error = error.detach()
                losses = losses * torch.where(
                    present, _power(error, self.gamma_pos), _power(error, self.gamma_neg)
                )
            total = torch.where(known, losses, 0.0).sum()
            if self.reduction == 'mean':
                return total / known.sum().clamp(min=1)
            return total if self.reduction == 'sum' else total / max(len(logits), 1)

    def scales(self, loss: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return a loss of these labels by both usual scales, for the log, whatever the reduction.

        The sum grows with the batch and the classes, and a learning rate suits only one of both.

        Args:
            loss: What :meth:`forward` returned.
            labels: Those that it was given, ``(N, classes)``.

        Returns:
            ``sum_of_labels`` and ``mean_of_labels``, over the known ones, without gradients.
        """
        known = (labels >= 0).sum().clamp(min=1)
        counts: dict[str, Any] = {'sum': 1, 'batch_mean': max(len(labels), 1), 'mean': known}
        total = loss.detach() * counts[self.reduction]
        return {'sum_of_labels': total, 'mean_of_labels': total / known}

    def check_labels(self, labels: torch.Tensor, num_classes: int) -> None:
        """Raise an InputError unless labels are ``(N, num_classes)`` of 0, 1 and -1.

        It reads the values, for which a GPU would have to be waited: check on the CPU.
        """
        if labels.dim() != 2 or labels.shape[1] != num_classes:
            raise InputError(
                f'multi-label gt_label needs {num_classes} values an image, one a class, got '
                f'a batch of shape {tuple(labels.shape)}: set num_classes, or use a single-label '
                'loss'
            )
        wrong = labels[(labels != 0) & (labels != 1) & (labels != UNKNOWN)]
        if wrong.numel():
            raise InputError(
                f'multi-label gt_label holds {wrong[0].item():g}: it takes 1 (there), 0 (not '
                'there) and -1 (unknown)'
            )


@MODELS.register_module('MultiLabelLoss')
def multi_label_loss(
    preset: str = 'asl', reduction: str = 'sum', detach_focal_weight: bool = True
) -> AsymmetricLoss:
    """Build a loss by name, in configs as ``dict(type='MultiLabelLoss', preset='bce')``.

    Args:
        preset: ``'bce'`` for binary cross-entropy, ``'focal'`` for a focal loss with both gammas
            at 2, ``'asl'`` for the paper's asymmetric loss.
        reduction: See :class:`AsymmetricLoss`.
        detach_focal_weight: See :class:`AsymmetricLoss`; False gives the gradient of Lin et al.'s
            focal loss.

    Raises:
        InputError: If there is no such preset.
    """
    if preset not in MULTI_LABEL_PRESETS:
        raise InputError(
            f'unknown preset {preset!r} of MultiLabelLoss: use one of {list(MULTI_LABEL_PRESETS)}'
        )
    return AsymmetricLoss(
        **MULTI_LABEL_PRESETS[preset],
        reduction=reduction,
        detach_focal_weight=detach_focal_weight,
    )


class SingleLabelLoss(nn.Module):
    """What the single-label losses share.

    Args:
        label_smoothing: Share of the target that is spread over all classes, in [0, 1].
        reduction: ``'mean'`` over the images whose label is known, or ``'sum'``.

    Raises:
        InputError: If an argument is out of its range (a ``ValueError``).
    """

    multi_label = False

    def __init__(self, label_smoothing: float, reduction: str) -> None:
        super().__init__()
        check_value('loss.label_smoothing', label_smoothing)
        _check_reduction(reduction, ('mean', 'sum'))
        self.label_smoothing = label_smoothing
        self.reduction = reduction

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of each image, ``(N,)``; any finite value where the label is unknown.

        Args:
            logits: ``(N, classes)``, float32 or wider.
            labels: ``(N,)`` of int64, or soft ones, ``(N, classes)`` of the logits' type.
        """
        raise NotImplementedError

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss, a scalar as of :class:`AsymmetricLoss`; 0 where no label is known.

        Args:
            logits: ``(N, classes)``, before any softmax.
            labels: Class numbers, ``(N,)`` of a whole type, -1 for unknown; or soft ones as mixup
                makes them, ``(N, classes)``, each row with the sum 1, or -1 throughout.

        Raises:
            InputError: If the shapes do not fit.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits = widened(logits)
            if labels.is_floating_point():
                _check_shape(labels, logits.shape, 'class numbers, or shares of the classes')
                known, labels = (labels >= 0).all(1), labels.to(logits.dtype)
            else:
                _check_shape(labels, logits.shape[:1], 'a class number for each image')
                known, labels = labels >= 0, labels.long()
            total = torch.where(known, self.losses(logits, labels), 0.0).sum()
            return total if self.reduction == 'sum' else total / known.sum().clamp(min=1)

    def check_labels(self, labels: torch.Tensor, num_classes: int) -> None:
        """Raise an InputError unless labels are as :meth:`forward` takes them.

        It reads the values, for which a GPU would have to be waited: check on the CPU.
        """
        if labels.dim() == 1 and not labels.is_floating_point():
            wrong = labels[(labels < UNKNOWN) | (labels >= num_classes)]
            if wrong.numel():
                raise InputError(
                    f'gt_label {wrong[0].item()} is no class: with num_classes={num_classes} they '
                    f'go from 0 to {num_classes - 1}, and -1 is unknown'
                )
        elif labels.dim() == 2 and labels.shape[1] == num_classes and labels.is_floating_point():
            sums = labels.sum(1)
            wrong = ((sums - 1).abs() > 1e-2) & (labels >= 0).all(1)
            if wrong.any():
                raise InputError(
                    f'soft gt_label has the sum {sums[wrong][0].item():g}, not 1: for several '
                    'labels per image use a multi-label loss'
                )
        else:
            raise InputError(
                f'single-label gt_label must be a class number, or {num_classes} shares, got a '
                f'batch of shape {tuple(labels.shape)} and type {labels.dtype}; for several labels '
                'an image use a multi-label loss'
            )


@MODELS.register_module()
class SoftmaxCrossEntropyLoss(SingleLabelLoss):
    """Cross-entropy with label smoothing, torch's own. At logits of 0 it is ``log(classes)``.

    Args:
        label_smoothing: Share of the target that is spread over all classes, in [0, 1].
        reduction: ``'mean'`` over the images whose label is known, or ``'sum'``.

    Raises:
        InputError: If an argument is out of its range (a ``ValueError``).
    """

    def __init__(self, label_smoothing: float = 0.0, reduction: str = 'mean') -> None:
        super().__init__(label_smoothing, reduction)

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(
            logits,
            labels,
            ignore_index=UNKNOWN,
            reduction='none',
            label_smoothing=self.label_smoothing,
        )


@MODELS.register_module()
class SingleLabelAsymmetricLoss(SingleLabelLoss):
    """Single-label asymmetric loss, after the authors' code for ASL.

    With ``p`` the softmax and ``t`` the smoothed target, an image's loss is ``-sum(w * t *
    log(p))`` with ``w = (1 - p) ** gamma_pos`` for its class and ``w = p ** gamma_neg`` for the
    others, which smoothing alone gives a target. The weight has a gradient of its own. Soft labels
    ``y`` take the mean of both weights, ``y`` and ``1 - y`` parts: our extension, for mixup.

    Args:
        gamma_pos: Exponent of the focal weight of the image's class, at least 0.
        gamma_neg: The same of the other classes.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1].
        reduction: ``'mean'`` over the images whose label is known, or ``'sum'``.

    Raises:
        InputError: If an argument is out of its range (a ``ValueError``).
    """

    def __init__(
        self,
        gamma_pos: float = 0,
        gamma_neg: float = 4,
        label_smoothing: float = 0.1,
        reduction: str = 'mean',
    ) -> None:
        super().__init__(label_smoothing, reduction)
        check_value('loss.gamma_neg', gamma_neg)
        check_value('loss.gamma_pos', gamma_pos)
        self.gamma_neg = gamma_neg
        self.gamma_pos = gamma_pos

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        num_classes = logits.shape[1]
        if labels.dim() == 1:
            labels = F.one_hot(labels.clamp(min=0), num_classes)  # (N, classes)
        log_p = logits.log_softmax(1)
        p = log_p.exp()
        weight = labels * _power(1 - p, self.gamma_pos) + (1 - labels) * _power(p, self.gamma_neg)
        smooth = labels * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        return -(weight * smooth * log_p).sum(1)


def _power(base: torch.Tensor, gamma: float) -> torch.Tensor:
    # At 0, the gradient of a power under 1 is infinite, and times a loss of 0 that is NaN.
    return base.clamp(min=EPS).pow(gamma)


def _check_reduction(reduction: str, names: tuple[str, ...]) -> None:
    if reduction not in names:
        raise InputError(f'unknown reduction {reduction!r}: use one of {names}')


def _check_shape(labels: torch.Tensor, wanted: torch.Size, meaning: str) -> None:
    if labels.shape != wanted:
        raise InputError(
            f'labels must be {meaning}, of shape {tuple(wanted)}: got {tuple(labels.shape)}'
        )
