"""The steps of mmcv's synchronised batch norm, which reduces between them over the processes.

input ``(N, C, S)``, mean, var, std, weight, bias and their gradients ``(C,)``, norm ``(N, C, S)``.
Statistics and ``norm`` are float32 whatever the input is.
"""

from torch import Tensor

from ..precision import widened

_BUT_CHANNELS = (0, 2)


def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Fill ``mean`` with this process's mean of each channel."""
    mean.copy_(widened(input).mean(_BUT_CHANNELS))


def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Fill ``var`` with this process's mean square distance from the common ``mean``."""
    var.copy_((widened(input) - mean[:, None]).square().mean(_BUT_CHANNELS))


def sync_bn_forward_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    eps: float,
    momentum: float | Tensor,
    group_size: int,
) -> None:
    """Fill ``norm``, ``std`` and ``output``, and update the running statistics.

    Args:
        input: of this process.
        mean: common mean.
        var: common variance, biased; the running one is not.
        weight: scale, or None.
        bias: shift, or None.
        running_mean: updated, or None.
        running_var: updated, or None.
        norm: filled with the input normalised.
        std: filled with the root of ``var + eps``.
        output: filled.
        eps: added to the variance.
        momentum: weight of this batch in the running statistics.
        group_size: number of processes; each is taken to have as many elements as this one.
    """
    std.copy_((var + eps).sqrt())
    norm.copy_((widened(input) - mean[:, None]) / std[:, None])
    scaled = norm
    if weight is not None and bias is not None:
        scaled = norm * weight[:, None] + bias[:, None]
    output.copy_(scaled)
    if running_mean is not None and running_var is not None:
        count = input.size(0) * input.size(2) * group_size
        unbiased = var * (count / (count - 1)) if count > 1 else var
        running_mean.copy_(momentum * mean + (1 - momentum) * running_mean)
        running_var.copy_(momentum * unbiased + (1 - momentum) * running_var)


def sync_bn_backward_param(
    grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor
) -> None:
    """Fill this process's gradients of the scale and the shift."""
    grad = widened(grad_output)
    grad_weight.copy_((grad * norm).sum(_BUT_CHANNELS))
    grad_bias.copy_(grad.sum(_BUT_CHANNELS))


def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Fill ``grad_input``; ``grad_weight`` and ``grad_bias`` are means over the processes."""
    count = grad_output.size(0) * grad_output.size(2)
    common = (grad_weight[:, None] * norm + grad_bias[:, None]) / count
    grad_input.copy_((weight / std)[:, None] * (widened(grad_output) - common))
