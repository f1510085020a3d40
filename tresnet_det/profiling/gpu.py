"""All that a GPU can answer within eight minutes: steps with time limits, and their rows as files.

Each step runs in a process of its own. One that raises, runs out of memory or time, or dies with
CUDA is skipped with one line, and the next one starts on a clean device. The steps are in
``gpu_steps.py``, what they say together in ``gpu_summary.py``.
"""

import csv
import datetime
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .report import write_csv
from .timing import Row

SECONDS = 460.0  # of all steps: eight minutes with the imports before the first


@dataclass(frozen=True)
class Run:
    """Where a run's rows go, what it measures, and until when.

    Attributes:
        out: Folder of the CSV files. Every run adds rows, with its start as ``run``.
        device: What is measured.
        dry: A rehearsal on the CPU: tiny networks, images and times.
        bccd: Folder of the BCCD data.
        deadline: Of the step, by ``time.monotonic``.
        started: The run's name.
    """

    out: Path
    device: torch.device
    dry: bool = False
    bccd: str = 'data/bccd'
    deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS)
    started: str = field(
        default_factory=lambda: datetime.datetime.now().isoformat(timespec='seconds')
    )

    @property
    def start_method(self) -> str:
        """How processes start: CUDA does not survive a fork of who has used it."""
        return 'fork' if self.device.type == 'cpu' else 'forkserver'

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def add(self, name: str, row: Row) -> None:
        """Add a row to a file, which has either all of the row or nothing of it."""
        path = self.out / f'{name}.csv'
        write_csv(path, [*read_rows(path), {'run': self.started} | row], {})

    def rows(self, name: str) -> list[Row]:
        """Return the rows of this run in a file."""
        return [row for row in read_rows(self.out / f'{name}.csv') if row['run'] == self.started]

    def skip(self, what: str, why: str) -> None:
        """Say and note in one line that something is not measured."""
        line = ' '.join(why.split())[:200]
        print(f'skipped: {what}: {line}', file=sys.stderr, flush=True)
        self.add('skipped', {'what': what, 'why': line})

    def attempt(self, what: str, measure: Callable[[], object], seconds: float = 0.0) -> None:
        """Measure a part of a step, or skip it: it fails, or less than ``seconds`` are left."""
        if self.left < seconds:
            self.skip(what, f'out of time: {max(self.left, 0):.0f} of {seconds:.0f} s are left')
            return
        try:
            measure()
        except Exception as error:
            self.skip(what, f'{type(error).__name__}: {error}')


class Step(NamedTuple):
    """A step, and for how many seconds it may run."""

    measure: Callable[[Run], object]
    seconds: float


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file, with numbers as such and None for nothing; none without a file."""
    if not path.is_file():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> str | float | None:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text or None


def run_steps(steps: Mapping[str, Step], run: Run) -> None:
    """Run the steps one by one; the last one has all the time that the others left.

    Args:
        steps: By name.
        run: Its deadline is that of all.
    """
    context: Any = multiprocessing.get_context(run.start_method)
    context.set_forkserver_preload([f'{__package__}.gpu_steps'])  # its import takes ten seconds
    for number, (name, step) in enumerate(steps.items(), 1):
        limit = run.left if number == len(steps) else min(step.seconds, run.left)
        if limit <= 0:
            run.skip(name, 'out of time: the steps before took all of it')
            continue
        print(f'{number}/{len(steps)} {name}: at most {limit:.0f} s', flush=True)
        own = replace(run, deadline=time.monotonic() + limit)
        process = context.Process(target=_run_step, args=(name, step, own))
        process.start()
        try:
            process.join(limit)
            late = process.is_alive()
        finally:  # after Ctrl-C too, and what a step that died has started
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.join()
        if late:
            run.skip(name, f'out of time: stopped after {limit:.0f} s')
        elif process.exitcode:
            run.skip(name, f'its process ended with code {process.exitcode}')


def _run_step(name: str, step: Step, run: Run) -> None:
    os.setsid()  # what the step starts ends with it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if run.device.type == 'cuda':
        torch.cuda.set_device(run.device)
    run.attempt(name, lambda: step.measure(run))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)
