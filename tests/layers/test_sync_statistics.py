"""InPlaceABN(sync=True), alone and in a backbone under DistributedDataParallel, on two processes.

They are compared with one process with the whole batch.
"""

from datetime import timedelta

import pytest
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from tresnet_det import TResNet
from tresnet_det.layers import InPlaceABN, SqueezeExcite
from tresnet_det.layers.refinements import norm_and_gate

# The processes' parts of the batch need not be equal; one may have none.
SHARES = ((3, 5), (8, 0))
PROCESSES = 2
CASES = ('leaky_relu', 'identity', 'squeeze_excite')


def build(case, sync):
    torch.manual_seed(0)
    activation = 'leaky_relu' if case == 'leaky_relu' else 'identity'
    norm = InPlaceABN(6, activation=activation, sync=sync).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -0.7, 0.3, -1.5, 0.01, 0.5]))
        norm.bias.normal_(std=0.2)
    se = SqueezeExcite(6, 4).double()
    return norm, se


def forward_backward(case, sync, x, grad):
    norm, se = build(case, sync)
    x = x.clone().requires_grad_()
    y = norm_and_gate(x, norm, se) if case == 'squeeze_excite' else norm(x)
    y.backward(grad)
    return {
        'y': y.detach(),
        'x.grad': x.grad,
        'weight.grad': norm.weight.grad,
        'bias.grad': norm.bias.grad,
        'running_mean': norm.running_mean,
        'running_var': norm.running_var,
    }


def batch():
    torch.manual_seed(1)
    x = torch.randn(8, 6, 4, 5, dtype=torch.float64) * 2 + 1
    return x, torch.randn_like(x)


class NoHostWait(TorchDispatchMode):
    """Raise where a value is read on the host, for which a GPU would have to be waited."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        if '_local_scalar_dense' in name or 'nonzero' in name:
            raise AssertionError(f'{name} reads a value on the host')
        return func(*args, **kwargs or {})


def backbone(sync):
    torch.manual_seed(0)
    arch = dict(depths=(1, 1, 1, 1), width_factor=0.25)
    # Stages after the last output are not built: DDP must find no parameter without a gradient.
    norm_cfg = dict(type='InPlaceABN', sync=sync)
    return TResNet(arch=arch, out_indices=(1, 2), norm_cfg=norm_cfg).double().train()


def images():
    torch.manual_seed(1)
    return torch.rand(2 * PROCESSES, 3, 64, 64, dtype=torch.float64)


def gradients(model, x):
    # The mean over the images, as DDP averages the processes' gradients.
    (sum((y * y).sum() for y in model(x)) / len(x)).backward()
    return {k.removeprefix('module.'): p.grad for k, p in model.named_parameters()}


def run_process(folder):
    timeout = timedelta(minutes=5)  # of a process that waits for one which takes no part
    dist.init_process_group('gloo', timeout=timeout)
    rank = dist.get_rank()
    results = {}
    for shares in SHARES:
        x, grad = (t.split(shares)[rank] for t in batch())
        with NoHostWait():
            results |= {(case, shares): forward_backward(case, True, x, grad) for case in CASES}
    x, _ = (t.split(SHARES[0])[rank] for t in batch())
    norm = build('leaky_relu', True)[0].float()
    norm(x.bfloat16())
    results['bfloat16'] = norm.running_mean, norm.running_var
    model = DistributedDataParallel(backbone(sync=True))
    results['backbone'] = gradients(model, images().chunk(PROCESSES)[rank])
    torch.save(results, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def parts(tmp_path_factory, start):
    folder = tmp_path_factory.mktemp('sync')
    for result in start(PROCESSES, run_process, str(folder)):
        assert result.code == 0, result.err
    return [torch.load(folder / f'{rank}.pth') for rank in range(PROCESSES)]


@pytest.mark.parametrize('shares', SHARES, ids=str)
@pytest.mark.parametrize('case', CASES)
def test_two_processes_give_what_one_gives_for_the_whole_batch(case, shares, parts):
    expected = forward_backward(case, False, *batch())
    first, second = (part[case, shares] for part in parts)
    for key in ('y', 'x.grad'):
        torch.testing.assert_close(torch.cat([first[key], second[key]]), expected[key])
    # Each process has the gradient of its own part: DDP adds them up.
    for key in ('weight.grad', 'bias.grad'):
        torch.testing.assert_close(first[key] + second[key], expected[key])
    for key in ('running_mean', 'running_var'):
        torch.testing.assert_close(first[key], expected[key])
        assert torch.equal(first[key], second[key])


def test_a_backbone_under_ddp_has_the_gradients_of_one_process(parts):
    expected = gradients(backbone(sync=False), images())
    for part in parts:
        torch.testing.assert_close(part['backbone'], expected, rtol=1e-9, atol=1e-12)


def test_the_statistics_of_half_precision_are_taken_in_float32(parts):
    x = batch()[0].bfloat16().double()
    var, mean = torch.var_mean(x, (0, 2, 3))
    for running_mean, running_var in (part['bfloat16'] for part in parts):
        # Sums of 160 values, each step rounding relative to the sum of their sizes.
        bound = 160 * torch.finfo(torch.float32).eps
        torch.testing.assert_close(running_mean.double(), 0.1 * mean, rtol=0, atol=bound * 5)
        torch.testing.assert_close(running_var.double(), 0.9 + 0.1 * var, rtol=bound, atol=0)


def test_without_other_processes_sync_is_the_plain_norm():
    x, grad = batch()
    for case in CASES:
        plain, sync = (forward_backward(case, s, x, grad) for s in (False, True))
        assert all(torch.equal(plain[key], sync[key]) for key in plain)
