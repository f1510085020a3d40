"""Training in several processes of one machine, held against what a plan says of it.

The processes have one thread each and share the machine's cores, so both computing and sending are
stretched once there are more processes than cores. Gradients travel by gloo.
"""

import dataclasses
import functools
import json
import math
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist
from torch import multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .classifiers import ClassifierRun
from .comparison import Row, flatten
from .counts import count_parameters
from .models import resolve
from .plan import BUCKET_BYTES, FLOAT_BYTES, Link, ring_seconds
from .settings import Settings
from .timing import Spread, order_of_round

SIZES = (2**10, 2**14, 2**18, 2**20, 2**22, BUCKET_BYTES)  # bytes of the all-reduces
_PROBES = 5  # all-reduces of a size in each round

Rounds = list[float]  # seconds, one for each round


def measure_processes(
    name: str, size: int, counts: Sequence[int], settings: Settings
) -> tuple[list[Row], Link]:
    """Time a training step in 1, 2, ... processes, in turns, and compare it with the plan's.

    The link is fitted to the all-reduces of the smallest group of several processes alone, and the
    computing time is that of one process by itself: all other times are predicted.

    Args:
        name: Of the model, as in :func:`tresnet_det.profiling.models.resolve`.
        size: Pixels a side.
        counts: Numbers of processes; 1 is added where it is missing.
        settings: How each of them runs.

    Returns:
        Rows with ``what`` (``step`` or ``all_reduce``), and the link.
    """
    counts = sorted({1, *counts})
    resolve(name, size)  # a mistake shows here rather than in every process
    with tempfile.TemporaryDirectory() as folder:
        arguments = (name, size, counts, dataclasses.replace(settings, fuse=False), folder)
        mp.spawn(_run_process, arguments, nprocs=counts[-1])
        found = json.loads(Path(folder, 'seconds.json').read_text())
    return compare_with_plan(found, counts, settings.batch_size, _cores())


def _cores() -> int:
    known = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return known or 1


def compare_with_plan(
    found: dict, counts: Sequence[int], batch_size: int, cores: int
) -> tuple[list[Row], Link]:
    """Put the plan's figures beside the measured ones.

    Args:
        found: ``gradient_bytes``; seconds of each round in ``compute`` and ``step`` by the number
            of processes, and in ``all_reduce`` by that number and the bytes; keys are text.
        counts: Numbers of processes, 1 first.
        batch_size: Images of a process in a step.
        cores: That the processes share.
    """
    probes = {int(n): {int(s): t for s, t in by.items()} for n, by in found['all_reduce'].items()}
    group = min(probes, default=1)
    link = fit_link(group, {s: Spread.of(t).median for s, t in probes.get(group, {}).items()})
    gradient_bytes = found['gradient_bytes']
    messages = math.ceil(gradient_bytes / BUCKET_BYTES)
    rows = []
    for count in counts:
        stretch = max(1, count / cores)
        sent = ring_seconds(gradient_bytes, count, link, messages) * _relative(count, group, cores)
        alone, step = found['compute']['1'], found['step'][str(count)]
        predicted = [seconds * stretch + sent for seconds in alone]
        errors = [p / s - 1 for p, s in zip(predicted, step, strict=True)]
        rows.append(
            {'what': 'step', 'processes': count, 'cores': cores, 'batch_size': batch_size}
            | flatten('compute_seconds', Spread.of(found['compute'][str(count)]))
            | flatten('step_seconds', Spread.of(step))
            | {'planned_communication_seconds': sent}
            | flatten('planned_seconds', Spread.of(predicted))
            | flatten('error', Spread.of(errors))
        )
    for count, by_size in probes.items():
        for size, seconds in by_size.items():
            planned = ring_seconds(size, count, link) * _relative(count, group, cores)
            row = {'what': 'all_reduce', 'processes': count, 'cores': cores, 'bytes': size}
            row |= flatten('seconds', Spread.of(seconds)) | {'planned_seconds': planned}
            row |= flatten('error', Spread.of([planned / s - 1 for s in seconds]))
            rows.append(row)
    return rows, link


def _relative(count: int, group: int, cores: int) -> float:
    """Return how much longer sending takes than in the group to which the link was fitted."""
    return max(1, count / cores) / max(1, group / cores)


def fit_link(members: int, seconds: dict[int, float]) -> Link:
    """Return the link whose ring all-reduces take these times, by least squares of the ratios.

    Args:
        members: Of the ring.
        seconds: Of an all-reduce, by its bytes: two or more sizes.
    """
    if members < 2:
        return Link(math.inf, 0)
    sizes, times = (np.array(list(values), float) for values in (seconds, seconds.values()))
    hops = 2 * (members - 1)
    terms = np.stack([hops / members * sizes, np.full_like(sizes, hops)], 1) / times[:, None]
    (per_byte, latency), *_ = np.linalg.lstsq(terms, np.ones_like(times), rcond=None)
    return Link(float(1 / per_byte), float(max(0, latency)))


def _run_process(
    rank: int, name: str, size: int, counts: Sequence[int], settings: Settings, folder: str
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # Newer versions of torch call it forward_sync_buffers, which older ones do not know.
    warnings.filterwarnings('ignore', message='`broadcast_buffers` is deprecated')
    store = dist.FileStore(f'{folder}/store', counts[-1])
    dist.init_process_group('gloo', store=store, rank=rank, world_size=counts[-1])
    # All ranks make all groups; torch types those of other ranks as a number.
    groups: dict[int, Any] = {n: dist.new_group(list(range(n))) for n in counts}
    runs = {n: _Replica(name, size, settings, groups[n]) for n in counts if rank < n}
    found: dict[str, Any] = {key: {str(n): [] for n in counts} for key in ('compute', 'step')}
    found['all_reduce'] = {str(n): {str(s): [] for s in SIZES} for n in counts if n > 1}
    for number in range(-1, settings.rounds):
        began = time.monotonic()
        for index in order_of_round(max(number, 0), len(counts)):
            count = counts[index]
            dist.barrier()
            if rank >= count:
                continue
            times = runs[count].measure(settings.min_seconds if number >= 0 else 0)
            if number >= 0:
                for key in ('compute', 'step'):
                    found[key][str(count)].append(times[key])
                for probed, seconds in times['all_reduce'].items():
                    found['all_reduce'][str(count)][str(probed)].append(seconds)
        dist.barrier()
        if rank == 0:
            title = f'round {number + 1} of {settings.rounds}' if number >= 0 else 'warm-up'
            print(f'{title}: {time.monotonic() - began:.0f} s', file=sys.stderr, flush=True)
    if rank == 0:
        found['gradient_bytes'] = FLOAT_BYTES * count_parameters(runs[1].run.model)
        Path(folder, 'seconds.json').write_text(json.dumps(found))
    dist.destroy_process_group()


class _Replica:
    """One process's model in a group, with what is timed of it."""

    def __init__(self, name: str, size: int, settings: Settings, group: dist.ProcessGroup) -> None:
        self.group, self.members = group, dist.get_world_size(group)

        def share(model: nn.Module) -> nn.Module:
            model = model.to(memory_format=settings.memory_format)  # before its gradients' buckets
            shared = DistributedDataParallel(model, process_group=group, broadcast_buffers=False)
            self.no_sync = shared.no_sync
            return shared

        spec = dataclasses.replace(resolve(name, size), change=share)
        self.run = ClassifierRun(spec, settings)
        self.run.model.train()
        self.probes = [torch.ones(size // FLOAT_BYTES) for size in SIZES]

    def measure(self, min_seconds: float) -> dict:
        """Return seconds: ``compute`` without sending, ``step``, and ``all_reduce`` by bytes."""
        first = self._seconds(self.run.train_step, 1)
        steps = torch.tensor(max(1, math.ceil(min_seconds / first)))
        dist.broadcast(steps, 0, group=self.group)  # all do as many
        times: dict[str, Any] = {
            'compute': self._seconds(self.run.train_step, int(steps), self.no_sync),
            'step': self._seconds(self.run.train_step, int(steps)),
            'all_reduce': {},
        }
        if self.members > 1:
            for probe in self.probes:
                work = functools.partial(dist.all_reduce, probe, group=self.group)
                times['all_reduce'][probe.nbytes] = self._seconds(work, _PROBES)
        return times

    def _seconds(
        self,
        work: Callable[[], object],
        repeats: int,
        context: Callable[[], AbstractContextManager] = nullcontext,
    ) -> float:
        """Return the seconds of one repeat, from when all members begin until all have ended."""
        dist.barrier(group=self.group)
        start = time.perf_counter()
        with context():
            for _ in range(repeats):
                work()
        dist.barrier(group=self.group)
        return (time.perf_counter() - start) / repeats
