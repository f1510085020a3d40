"""mmcv's synchronised batch norm, against torch's batch norm in float64."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops.sync_bn import SyncBatchNormFunction


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
