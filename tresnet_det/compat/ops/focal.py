"""Focal losses (Lin et al., 2017, eq. 5), one target class a row.

A target outside ``0 ... num_classes - 1`` is background: a row of negatives for the sigmoid loss,
no loss for the softmax one. Class weights multiply a whole row by its target's weight; background
has none, so its factor is 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..precision import widened


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` with the loss of each class.

    Args:
        input: logits ``(N, C)``.
        target: class indices ``(N,)`` int64.
        weight: class weights ``(C,)``, or empty for none.
        output: filled, ``(N, C)``.
        gamma: focusing exponent.
        alpha: weight of the positives; negatives have ``1 - alpha``.
    """
    x = widened(input)
    p, log_p, log_not_p = x.sigmoid(), F.logsigmoid(x), F.logsigmoid(-x)
    positive = -alpha * (1 - p).pow(gamma) * log_p
    negative = -(1 - alpha) * p.pow(gamma) * log_not_p
    loss = torch.where(_is_target(target, x.size(1)), positive, negative)
    output.copy_(loss * _row_factor(weight, target, x)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` ``(N, C)`` with the loss's derivative by the logits.

    The other arguments are those of :func:`sigmoid_focal_loss_forward`.
    """
    x = widened(input)
    p, log_p, log_not_p = x.sigmoid(), F.logsigmoid(x), F.logsigmoid(-x)
    positive = -alpha * (1 - p).pow(gamma) * (1 - p - gamma * p * log_p)
    negative = -(1 - alpha) * p.pow(gamma) * (gamma * (1 - p) * log_not_p - p)
    slope = torch.where(_is_target(target, x.size(1)), positive, negative)
    grad_input.copy_(slope * _row_factor(weight, target, x)[:, None])


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` with the loss of each row.

    Args:
        input: probabilities ``(N, C)``, the softmax of the logits.
        target: class indices ``(N,)`` int64.
        weight: class weights ``(C,)``, or empty for none.
        output: filled, ``(N,)``.
        gamma: focusing exponent.
        alpha: factor on the loss.
    """
    p, known = _target_probability(input, target)
    loss = -alpha * (1 - p).pow(gamma) * _safe_log(p) * _row_factor(weight, target, p)
    output.copy_(loss.where(known, 0))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``grad_input`` ``(N, C)`` with the loss's derivative by the logits.

    Args:
        input: probabilities ``(N, C)``.
        target: class indices ``(N,)`` int64.
        weight: class weights ``(C,)``, or empty for none.
        buff: ``(N,)``, filled with the derivative by the target's probability, times it.
        grad_input: filled.
        gamma: focusing exponent.
        alpha: factor on the loss.
    """
    p, known = _target_probability(input, target)
    slope = -(1 - p).pow(gamma)
    if gamma != 0:  # else 0 * (1 - p)^-1 would be NaN where p = 1
        slope = slope + gamma * (1 - p).clamp(min=_tiny(p)).pow(gamma - 1) * p * _safe_log(p)
    slope = (alpha * slope * _row_factor(weight, target, p)).where(known, 0)
    buff.copy_(slope)
    is_target = _is_target(target, input.size(1)).to(p.dtype)
    grad_input.copy_(slope[:, None] * (is_target - widened(input)))


def _target_probability(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability of each row's target and whether it has one, both ``(N,)``."""
    known = (target >= 0) & (target < input.size(1))
    column = target.where(known, 0)[:, None]
    return widened(input).gather(1, column)[:, 0], known


def _is_target(target: Tensor, num_classes: int) -> Tensor:  # (N,) -> (N, C) bool
    return target[:, None] == torch.arange(num_classes, device=target.device)


def _row_factor(weight: Tensor, target: Tensor, like: Tensor) -> Tensor:
    """Return each row's class weight, ``(N,)``."""
    if weight.numel() == 0:
        return torch.ones_like(target, dtype=like.dtype)
    known = (target >= 0) & (target < weight.numel())
    return weight.to(like)[target.where(known, 0)].where(known, 1)


def _safe_log(p: Tensor) -> Tensor:
    return p.clamp(min=_tiny(p)).log()


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny
