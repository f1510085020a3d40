"""Batch norm whose statistics are those of all processes, on any device and process group.

torch's own ``SyncBatchNorm`` runs on CUDA only and its kernels take the norm's input, not its
output, so the reductions are done here with ``torch.distributed``. All of them stay on the device,
the count of values too: reading it would make the host wait in every norm.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import distributed as dist
from torch.autograd.function import Function, once_differentiable


def sync_world_size() -> int:
    """Return the number of processes that share statistics; 1 without ``torch.distributed``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class SyncNorm(Function):
    """Training-mode batch norm with global statistics, then a leaky ReLU of the given slope.

    A slope of 1 is the identity: then the input is kept for backward, otherwise the output.
    Takes ``x`` of ``(N, C, ...)`` and per-channel ``(C,)`` tensors; returns ``(y, mean, invstd)``,
    the last two ``(C,)`` and without gradient. Every process of the group must take part; ``x`` may
    be empty (``N`` is 0) in some.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor,
        running_mean: torch.Tensor,
        running_var: torch.Tensor,
        momentum: float,
        eps: float,
        slope: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        count, mean, var = _global_statistics(x, scale, bias)
        invstd = (var + eps).rsqrt()
        y = F.batch_norm(x, mean, var, scale, bias, training=False, eps=eps)
        if slope != 1.0:
            y = F.leaky_relu_(y, slope)
        unbiased = var * (count / (count - 1).clamp(min=1))
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        ctx.slope = slope
        ctx.save_for_backward(x if slope == 1.0 else y, scale, bias, mean, invstd, count)
        ctx.mark_non_differentiable(mean, invstd)
        return y, mean, invstd

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_y: torch.Tensor, _grad_mean: None, _grad_invstd: None
    ) -> tuple[torch.Tensor | None, ...]:
        kept, scale, bias, mean, invstd, count = ctx.saved_tensors
        # Each map stays in its own precision, half or not: F.batch_norm with fixed statistics
        # takes the per-channel values in theirs.
        if ctx.slope == 1.0:
            grad_z = grad_y
            xhat = F.batch_norm(kept, mean, invstd.pow(-2), eps=0.0)
        else:
            grad_z = torch.ops.aten.leaky_relu_backward(grad_y, kept, ctx.slope, True)
            xhat = F.batch_norm(F.leaky_relu(kept, 1 / ctx.slope), bias, scale.square(), eps=0.0)
        axes = [d for d in range(kept.dim()) if d != 1]
        grad_bias = grad_z.sum(axes, dtype=mean.dtype)  # (C,)
        grad_scale = (grad_z * xhat).sum(axes, dtype=mean.dtype)  # (C,)
        # The parameters' gradients stay this process's own: DDP averages them. The statistics
        # belong to all processes, so what flows through them is summed over all.
        sums = torch.cat([grad_bias, grad_scale])
        dist.all_reduce(sums)
        mean_grad, mean_grad_xhat = (sums / count).chunk(2)
        # (grad_z - mean_grad - xhat * mean_grad_xhat) * factor
        factor = scale * invstd
        zero, one = torch.zeros_like(factor), torch.ones_like(factor)
        shift = -mean_grad * factor
        grad_x = F.batch_norm(grad_z, zero, one, factor, shift, eps=0.0)
        grad_x += F.batch_norm(xhat, zero, one, -mean_grad_xhat * factor, zero, eps=0.0)
        return grad_x, grad_scale, grad_bias, None, None, None, None, None


def _global_statistics(
    x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the count of a channel's values in all processes, ``(1,)``, mean, biased variance."""
    mean, var = _own_statistics(x, scale, bias)
    mine = torch.cat([mean.new_full((1,), x.numel() / x.shape[1]), mean, var])
    everyone = [torch.empty_like(mine) for _ in range(sync_world_size())]
    dist.all_gather(everyone, mine)
    counts, means, variances = torch.stack(everyone).split([1, len(mean), len(mean)], dim=1)
    count = counts.sum(0)
    # Chan's parallel formula: within-process variance plus the spread of the processes' means.
    mean = (counts * means).sum(0) / count
    var = (counts * (variances + (means - mean).square())).sum(0) / count
    return count, mean, var


def _own_statistics(
    x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return this process's mean and biased variance, ``(C,)`` of float32 or float64."""
    if x.numel() == 0:  # those of nothing are NaN, which a weight of 0 does not take out of a sum
        zeros = scale.new_zeros(x.shape[1])
        return zeros, zeros
    if x.element_size() >= 4:
        var, mean = torch.var_mean(x, [d for d in range(x.dim()) if d != 1], correction=0)
        return mean, var
    # torch's norm sums half precision in float32 without a copy of the map; its output is unused.
    _, mean, invstd = torch.native_batch_norm(x, scale, bias, None, None, True, 0.0, 0.0)
    return mean, invstd.square().reciprocal()
