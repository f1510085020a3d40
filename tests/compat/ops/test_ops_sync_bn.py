"""mmcv's synchronised batch norm, against torch's batch norm in float64."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops.sync_bn import SyncBatchNormFunction

from tresnet_det.compat.ops import sync_bn as ops


def tensors(n=4):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, 5, 2, generator=generator) * 2 + 1
    weight, bias = torch.rand(3, generator=generator) + 0.5, torch.randn(3, generator=generator)
    grad = torch.randn(n, 3, 5, 2, generator=generator)
    return x, weight, bias, grad


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_output_gradients_and_running_statistics_are_those_of_batch_norm(dtype):
    x, weight, bias, grad = tensors()
    x = x.to(dtype)
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    mean, var = torch.zeros(3), torch.ones(3)
    out = SyncBatchNormFunction.apply(
        leaves[0], mean, var, leaves[1], leaves[2], 0.1, 1e-5, None, 1, 'default'
    )
    out.backward(grad.to(dtype))

    wide = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    statistics = [torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)]
    expected = F.batch_norm(wide[0], *statistics, wide[1], wide[2], training=True, momentum=0.1)
    expected.backward(grad.to(dtype).double())

    tolerance = dict(rtol=0, atol=1e-5 if dtype is torch.float32 else 5e-3)
    torch.testing.assert_close(out.double(), expected, **tolerance)
    for got, want in zip(leaves, wide, strict=True):
        torch.testing.assert_close(got.grad.double(), want.grad, **tolerance)
    for got, want in zip((mean, var), statistics, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5)


def test_two_processes_together_are_one_batch():
    x, weight, bias, grad = tensors(4)
    halves, grads = (t.flatten(2).chunk(2) for t in (x, grad))

    def average(step):  # what mmcv does between the steps
        parts = [torch.zeros(3), torch.zeros(3)]
        for part, half in zip(parts, range(2), strict=True):
            step(half, part)
        return sum(parts) / 2

    mean = average(lambda i, out: ops.sync_bn_forward_mean(halves[i], out))
    var = average(lambda i, out: ops.sync_bn_forward_var(halves[i], mean, out))
    running = torch.zeros(3), torch.ones(3)
    norms, outputs = ([torch.zeros_like(h) for h in halves] for _ in range(2))
    std = torch.zeros(3)
    for i in range(2):
        statistics = [t.clone() for t in running]
        ops.sync_bn_forward_output(
            halves[i], mean, var, weight, bias, *statistics, norms[i], std, outputs[i], 1e-5, 0.1, 2
        )
    both = [torch.zeros(2, 3), torch.zeros(2, 3)]
    for i in range(2):
        ops.sync_bn_backward_param(grads[i], norms[i], both[0][i], both[1][i])
    inputs = [torch.zeros_like(h) for h in halves]
    for i in range(2):
        common = [t.mean(0) for t in both]
        ops.sync_bn_backward_data(grads[i], weight, *common, norms[i], std, inputs[i])

    leaf = x.double().requires_grad_()
    wanted = [t.double() for t in running]
    expected = F.batch_norm(leaf, *wanted, weight.double(), bias.double(), True, 0.1)
    expected.backward(grad.double())
    close = dict(rtol=0, atol=1e-5, check_dtype=False)
    torch.testing.assert_close(torch.cat(outputs).view_as(x), expected, **close)
    torch.testing.assert_close(torch.cat(inputs).view_as(x), leaf.grad, **close)
    for got, want in zip(statistics, wanted, strict=True):
        torch.testing.assert_close(got, want, **close)


def test_without_scale_and_shift_the_output_is_the_norm():
    x = tensors()[0].flatten(2)
    norm, out, std = torch.zeros_like(x), torch.zeros_like(x), torch.zeros(3)
    mean, var = x.mean((0, 2)), x.var((0, 2), unbiased=False)
    ops.sync_bn_forward_output(x, mean, var, None, None, None, None, norm, std, out, 1e-5, 0.1, 1)
    torch.testing.assert_close(out, norm)
    torch.testing.assert_close(out.square().mean((0, 2)), torch.ones(3), rtol=1e-4, atol=1e-4)
