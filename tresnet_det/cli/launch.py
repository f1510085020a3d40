"""Start a tool as several processes: python tools/launch.py {train,test} CONFIG [CHECKPOINT] GPUS.

tools/dist_train.sh and tools/dist_test.sh are this. The processes are torchrun's; what differs is
what one sees when they fail: one line in place of torchrun's pages. Several nodes are given by the
environment: NNODES, NODE_RANK, MASTER_ADDR and PORT.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping

import torch
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ..compat.installed import own_folder
from ..engine.processes import LOGS
from ..errors import InputError
from .failures import RESUME

WAIT = 900  # seconds for the other nodes


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tools = parser.add_subparsers(dest='tool', required=True, metavar='{train,test}')
    for name in ('train', 'test'):
        tool = tools.add_parser(name, help=f'tools/{name}.py, whose options follow GPUS')
        tool.add_argument('config')
        if name == 'test':
            tool.add_argument('checkpoint')
        tool.add_argument('gpus', metavar='GPUS', help='processes on this node')
        tool.add_argument(
            'options', nargs=argparse.REMAINDER, metavar='...', help=f'of tools/{name}.py'
        )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    gpus = read_count('GPUS', args.gpus)
    nodes = read_count('NNODES', os.environ.get('NNODES', '1'))
    rank = read_count('NODE_RANK', os.environ.get('NODE_RANK', '0'), least=0)
    port = read_count('PORT', os.environ.get('PORT', '29500'))
    address = os.environ.get('MASTER_ADDR') or ('127.0.0.1' if nodes == 1 else '')
    if not address:
        raise InputError(
            f'NNODES={nodes} needs MASTER_ADDR: the address of the node with NODE_RANK=0'
        )
    if rank >= nodes:
        raise InputError(f'NODE_RANK={rank}, but NNODES={nodes}: nodes are numbered from 0')
    check_gpus(gpus)
    if rank == 0:
        check_port(port)
    if not torch.cuda.is_available():
        print(f'no GPU is visible: {gpus} processes on the CPU', flush=True)
    script = own_folder('tools') / f'{args.tool}.py'
    places = [args.config, *([args.checkpoint] if args.tool == 'test' else [])]
    command = [str(script), *places, *args.options, '--launcher', 'pytorch']
    if nodes > 1:
        print(f'node {rank} of {nodes}: waits for the others at {address}:{port}', flush=True)
    sys.exit(launch(command, gpus, nodes, rank, address, port))


def read_count(name: str, text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise InputError(f'{name} must be a number from {least}, got {text!r}')
    return int(text)


def check_gpus(count: int) -> None:
    """Compare the number of processes with the GPUs; without any, they run on the CPU."""
    found = torch.cuda.device_count()
    if not found:
        cores = max(1, (os.cpu_count() or 1) // count)
        os.environ.setdefault('OMP_NUM_THREADS', str(cores))
    elif count > found:
        seen = os.environ.get('CUDA_VISIBLE_DEVICES')
        why = f' (CUDA_VISIBLE_DEVICES={seen})' if seen is not None else ''
        raise InputError(f'GPUS is {count}, and this node has {found}{why}: give {found} or fewer')


def check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', port))
        except (OSError, OverflowError) as error:
            raise InputError(
                f'port {port} is taken, by another training perhaps: choose another, PORT=NUMBER'
            ) from error


def launch(command: list[str], gpus: int, nodes: int, rank: int, address: str, port: int) -> int:
    """Run ``python command`` as the processes of this node; return the status of all."""
    logging.disable(logging.ERROR)  # torchrun's own account of a failure
    os.environ.setdefault('OMP_NUM_THREADS', '1')  # as torchrun sets it
    os.environ.setdefault('TORCH_CPP_LOG_LEVEL', 'ERROR')
    with tempfile.TemporaryDirectory(prefix='tresnet_det-') as folder:
        config = LaunchConfig(
            min_nodes=nodes,
            max_nodes=nodes,
            nproc_per_node=gpus,
            run_id='tresnet_det',
            rdzv_backend='static',
            rdzv_endpoint=f'{address}:{port}',
            rdzv_configs={'rank': rank, 'timeout': WAIT},
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)('-u', *command)
        except ChildFailedError as error:
            return report(error.failures)
        except SignalException as stop:
            return 128 + stop.sigval
        except RuntimeError as error:  # of the rendezvous
            reason = str(error).splitlines()[0]
            raise InputError(
                f'the nodes did not meet at {address}:{port} ({reason}): start all '
                f'{nodes} within {WAIT} s, with the same NNODES, MASTER_ADDR and PORT'
            ) from error
    return 0


def report(failures: Mapping[int, ProcessFailure]) -> int:
    """Name the process that died without a word; one that could speak has said why it ended."""
    spoke = [failure for failure in failures.values() if failure.exitcode > 0]
    if spoke:
        return min(spoke, key=lambda failure: failure.timestamp).exitcode
    # torchrun ends those that are left over by SIGTERM.
    by_itself = [rank for rank, f in failures.items() if f.exitcode != -signal.SIGTERM]
    rank = min(by_itself or failures)
    failure = failures[rank]
    what = {
        -signal.SIGKILL: 'was killed (SIGKILL), mostly because memory ran out: '
        'lower batch_size or num_workers',
        -signal.SIGTERM: 'was told to end (SIGTERM)',
    }.get(failure.exitcode, f'crashed ({failure.signal_name()}): its log says where')
    log = f'{LOGS}/rank_{rank}.log in the work directory'
    print(f'error: rank {rank} {what}; {RESUME} (its log: {log})', file=sys.stderr)
    return 128 - failure.exitcode
