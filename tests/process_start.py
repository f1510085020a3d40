"""Several processes from one that has imported everything, so that each costs no more than a fork.

``start`` is a fixture of every test; its functions run in the processes of a run, as torchrun or
Slurm would have started them.
"""

import multiprocessing
import os
import socket
import time
from types import SimpleNamespace

import pytest

LIMIT = 900  # seconds; a test that hangs is one that fails, on a busy machine too
IMPORTS = [
    'tresnet_det.cli.command_line',
    'mmdet.models',
    'mmdet.datasets',
    'matplotlib.pyplot',
    'torch.utils.tensorboard',
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='session')
def start(tmp_path_factory):
    """Run a module's function in several processes: ``start(2, function, ...)``.

    It returns each one's exit code, stdout and stderr. With ``launcher='slurm'`` the environment is
    Slurm's; ``alone=True`` sets none.
    """
    server = multiprocessing.get_context('forkserver')  # without threads or groups of its own
    server.set_forkserver_preload(IMPORTS)

    def call(count, function, *arguments, launcher='pytorch', alone=False):
        port, folder = str(free_port()), tmp_path_factory.mktemp('processes')
        processes = []
        for rank in range(count):
            place = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, OMP_NUM_THREADS='1')
            names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE')
            if launcher == 'slurm':
                place |= dict(SLURM_JOB_ID=port)
                names = tuple(f'SLURM_{n}' for n in ('PROCID', 'LOCALID', 'NTASKS'))
                names += ('SLURM_TASKS_PER_NODE',)
            if not alone:
                values = (rank, rank, count, count)
                place |= dict(zip(names, map(str, values), strict=True))
            target = (place, str(folder), rank, function, arguments)
            processes.append(server.Process(target=run_child, args=target))
            processes[-1].start()
        end = time.monotonic() + LIMIT
        for process in processes:
            process.join(max(0, end - time.monotonic()))
        hanging = [process for process in processes if process.exitcode is None]
        for process in hanging:
            process.kill()
            process.join()
        assert not hanging, f'{len(hanging)} of {count} processes did not end in {LIMIT} s'
        return [
            SimpleNamespace(
                code=process.exitcode,
                out=(folder / f'out_{rank}').read_text(),
                err=(folder / f'err_{rank}').read_text(),
            )
            for rank, process in enumerate(processes)
        ]

    return call


def run_child(place, folder, rank, function, arguments):
    """Run a function in the environment of a launcher, its output in files."""
    import torch

    from tresnet_det.engine import processes

    os.environ.update(place)
    os.chdir(folder)
    for descriptor, name in ((1, f'out_{rank}'), (2, f'err_{rank}')):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), descriptor)
    torch.set_num_threads(1)
    multiprocessing.set_start_method('fork', force=True)  # for data loaders; it is the server's
    processes.LINGER = 1
    function(*arguments)
