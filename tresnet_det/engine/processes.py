"""The processes of one run: their places, who speaks, who goes first, and how all end together.

mmengine and torch.distributed start and connect them. What is here makes a run of many look like a
run of one: a line is printed once, files are made once, and a failure is one line.
"""

import faulthandler
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import torch
from mmengine.config import Config
from mmengine.dist import barrier, init_dist, is_distributed
from mmengine.utils.dl_utils import set_multi_processing
from torch import distributed as dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from ..errors import InputError

TIMEOUT = 600  # seconds; torch's own is 1800 between CPUs
LINGER = 5  # seconds in which torchrun or Slurm ends the processes that outlive one
LOGS = 'processes'  # in the work directory

# Where each launcher says a process's rank, the number of processes, and both on its node.
PLACES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID', 'SLURM_TASKS_PER_NODE'),
    'mpi': tuple(f'OMPI_COMM_WORLD_{n}' for n in ('RANK', 'SIZE', 'LOCAL_RANK', 'LOCAL_SIZE')),
}
STARTERS = {'pytorch': 'tools/dist_train.sh or torchrun', 'slurm': 'srun', 'mpi': 'mpirun'}


@dataclass
class Place:
    """A process among those of a run.

    Attributes:
        rank: Its number.
        count: Of all processes.
        local_rank: Its number on its node.
        local_count: Of the processes on its node.
        console: Where its failure is said; the descriptor of stderr, or a copy of it.
        early: What any but the first has said before its log could be opened.
        log: Its log, once the work directory is known.
    """

    rank: int
    count: int
    local_rank: int
    local_count: int
    console: int = 2
    early: BinaryIO | None = None
    log: BinaryIO | None = None


_place: Place | None = None  # of this process; None where it is alone


def take_place(launcher: str) -> None:
    """Take this process's place among those that a launcher started; it is torchrun's names then.

    All but the first keep what they print to themselves from now on, see :func:`keep_log`. Without
    such a launcher, or where it did not start this process, nothing is done.
    """
    global _place
    names = PLACES.get(launcher)
    if names is None or any(name not in os.environ for name in names[:3]):
        return
    try:
        rank, count, local_rank = (int(os.environ[name]) for name in names[:3])
    except ValueError as error:
        raise InputError(
            f'{", ".join(names[:3])}: {error}; start it by {STARTERS[launcher]}'
        ) from error
    local_count = re.match(r'\d+', os.environ.get(names[3], ''))  # Slurm's 4(x2),3
    _place = Place(rank, count, local_rank, int(local_count[0]) if local_count else local_rank + 1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(local_rank))
    if rank:
        _place.console = os.dup(2)
        _place.early = tempfile.TemporaryFile()  # noqa: SIM115  (it is kept)
        _write_to(_place.early)


def check_place(launcher: str) -> None:
    """Check that the launcher of the command line is the one that started this process.

    Raises:
        InputError: It is not, or the first node's address is not known.
    """
    if launcher == 'none':
        count = os.environ.get('WORLD_SIZE', '1') if 'TORCHELASTIC_RUN_ID' in os.environ else '1'
        if count != '1':
            raise InputError(f'torchrun has started {count} processes: add --launcher pytorch')
        os.environ.pop('LOCAL_RANK', None)  # left over: mmengine would read it
        return
    if _place is None:
        missing = next(name for name in PLACES[launcher] if name not in os.environ)
        raise InputError(
            f'--launcher {launcher}: {missing} is not set: start it by {STARTERS[launcher]}'
        )
    if launcher != 'pytorch':
        _find_first_node(_place)


def _find_first_node(place: Place) -> None:
    """Set where the first process listens, as torchrun does."""
    job = int(os.environ.get('SLURM_JOB_ID', '9500'))
    os.environ.setdefault('MASTER_PORT', str(20000 + job % 10000))  # two jobs share a node
    if place.count == place.local_count:
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    if 'MASTER_ADDR' in os.environ:
        return
    if 'SLURM_JOB_NODELIST' not in os.environ:
        raise InputError('MASTER_ADDR is not set: export the address of the first node')
    command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_JOB_NODELIST']]
    hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    os.environ['MASTER_ADDR'] = hosts.split()[0]


def _write_to(file: BinaryIO) -> None:
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        stream.flush()
        os.dup2(file.fileno(), descriptor)


def join(cfg: Config) -> None:
    """Connect this process to the others, by gloo where there is no GPU.

    A process that waits for another one gives up after ``env_cfg.dist_cfg.timeout`` seconds,
    ``TIMEOUT`` unless the config says otherwise.

    Raises:
        InputError: There are more processes on this node than GPUs.
    """
    if _place is None or is_distributed():
        return
    env = cfg.get('env_cfg') or {}
    options = {'backend': 'nccl', 'timeout': TIMEOUT, **(env.get('dist_cfg') or {})}
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):  # as mmengine does, with a warning
        os.environ.setdefault(name, '1')
    set_multi_processing(**env.get('mp_cfg', {}), distributed=True)  # before mmengine's default
    if not torch.cuda.is_available():
        seconds = timedelta(seconds=options['timeout'])
        dist.init_process_group('gloo', timeout=seconds)
        return
    gpus = torch.cuda.device_count()
    if gpus < _place.local_count:
        raise InputError(
            f'{_place.local_count} processes on {socket.gethostname()}, and each sees {gpus} GPU: '
            'start no more than there are (with Slurm, ask for --gres=gpu:N for each node)'
        )
    init_dist(cfg.launcher, **options)


@contextmanager
def local_main_process_first() -> Iterator[None]:
    """Let the first process on each node go through, and the others when it is done.

    What it has written is then there, whole, for the others.
    """
    follows = _place is not None and _place.local_rank > 0
    if follows:
        barrier()
    yield
    if not follows:
        barrier()


def keep_log(work_dir: str | Path) -> None:
    """Keep what this process prints, and any failure of it, in ``processes/rank_N.log``.

    Of the first process, which prints to the console, it is failures only.
    """
    if _place is None:
        return
    folder = Path(work_dir, LOGS)
    folder.mkdir(exist_ok=True, parents=True)
    _place.log = (folder / f'rank_{_place.rank}.log').open('ab', buffering=0)
    start = f'{time.strftime("%F %T")} process {os.getpid()} on {socket.gethostname()}\n'
    _place.log.write(start.encode())
    if _place.early is not None:
        _write_to(_place.log)
        _place.early.seek(0)
        _place.log.write(_place.early.read())
        _place.early.close()
    faulthandler.enable(_place.log)


def are_several() -> bool:
    """Whether this process is one of several."""
    return _place is not None and _place.count > 1


def tell_failure(error: Exception, line: str, explained: bool, lost_another: bool) -> None:
    """Say in one line why this process ends; of several that fail together, one does.

    A process that only misses another one waits first: whoever started them ends it meanwhile. The
    traceback goes to the log.

    Args:
        error: What ended it.
        line: What is said of it.
        explained: Whether the line says all; the traceback follows where there is no log either.
        lost_another: Whether it only misses another process.
    """
    assert _place is not None
    details = ''.join(traceback.format_exception(error))
    if _place.log:
        _place.log.write(details.encode())
    get_error_handler().record_exception(error)  # for torchrun
    if lost_another:
        time.sleep(LINGER)
    if _speaks_first(_place):
        _speak(_place, line, '' if explained else details)
    keeps_store = _place.rank == 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True'
    if keeps_store and is_distributed():
        time.sleep(LINGER)  # the others ask it whether they are to speak


def _speak(place: Place, line: str, details: str) -> None:
    if place.log:
        line += f' (its log: {place.log.name})'
    elif details:
        line += f'\n{details}'
    bar = '\n' if os.isatty(place.console) else ''  # that of the first process
    os.write(place.console, f'{bar}error: rank {place.rank}: {line}\n'.encode())


def _speaks_first(place: Place) -> bool:
    """Whether no other process of the run has named a reason yet."""
    if not is_distributed():
        return place.local_rank == 0  # an error of the command line or the config: all have it
    try:
        store: Any = dist.distributed_c10d._get_default_store()
        return store.add('tresnet_det/failures', 1) == 1
    except RuntimeError:  # it went with the process that kept it
        return True


def leave() -> None:
    """Part from the others at the end of a run that went well."""
    if _place is not None and is_distributed():
        dist.destroy_process_group()
