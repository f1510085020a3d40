"""The backbone under DistributedDataParallel, on two gloo processes."""

import torch
from torch import distributed as dist
from torch import multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from tresnet_det import TResNet

PROCESSES = 2


def build(sync):
    torch.manual_seed(0)
    arch = dict(depths=(1, 1, 1, 1), width_factor=0.25)
    # Stages after the last output are not built: DDP must find no parameter without a gradient.
    backbone = TResNet(arch=arch, out_indices=(1, 2), norm_cfg=dict(type='InPlaceABN', sync=sync))
    return backbone.double().train()


def batch():
    torch.manual_seed(1)
    return torch.rand(2 * PROCESSES, 3, 64, 64, dtype=torch.float64)


def gradients(model, x):
    # The mean over the images, as DDP averages the processes' gradients.
    (sum((y * y).sum() for y in model(x)) / len(x)).backward()
    return {k.removeprefix('module.'): p.grad for k, p in model.named_parameters()}


def run_process(rank, folder):
    store = dist.FileStore(f'{folder}/store', PROCESSES)
    dist.init_process_group('gloo', store=store, rank=rank, world_size=PROCESSES)
    model = DistributedDataParallel(build(sync=True))
    part = batch().chunk(PROCESSES)[rank]
    torch.save(gradients(model, part), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(tmp_path):
    mp.spawn(run_process, (str(tmp_path),), nprocs=PROCESSES)
    expected = gradients(build(sync=False), batch())
    for rank in range(PROCESSES):
        found = torch.load(tmp_path / f'{rank}.pth')
        assert found.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-9, atol=1e-12, msg=key)
