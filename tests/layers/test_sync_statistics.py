"""InPlaceABN(sync=True) on two gloo processes against one process with the whole batch."""

from datetime import timedelta

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing as mp

from tresnet_det.layers import InPlaceABN, SqueezeExcite

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
    y = se(x, norm) if case == 'squeeze_excite' else norm(x)
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


def run_process(rank, folder):
    store = dist.FileStore(f'{folder}/store', PROCESSES)
    timeout = timedelta(minutes=1)  # of a process that waits for one which takes no part
    dist.init_process_group('gloo', store=store, rank=rank, world_size=PROCESSES, timeout=timeout)
    results = {}
    for shares in SHARES:
        x, grad = (t.split(shares)[rank] for t in batch())
        results |= {(case, shares): forward_backward(case, True, x, grad) for case in CASES}
    torch.save(results, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sync')
    mp.spawn(run_process, (str(folder),), nprocs=PROCESSES)
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


def test_without_other_processes_sync_is_the_plain_norm():
    x, grad = batch()
    for case in CASES:
        plain, sync = (forward_backward(case, s, x, grad) for s in (False, True))
        assert all(torch.equal(plain[key], sync[key]) for key in plain)
