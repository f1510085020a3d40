"""Timing models side by side: all of them in every round, in changing order."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

Clock = Callable[[Callable[[], object], int], float]
Row = dict[str, Any]  # names and numbers by column


def _nothing() -> None:
    pass


class Workload(NamedTuple):
    """Something to time.

    Attributes:
        step: What is repeated.
        images: That a step works through.
        device_type: ``cuda`` for work that is queued on a GPU.
        before: Called once before the steps of a measurement, outside the time.
    """

    step: Callable[[], object]
    images: int
    device_type: str = 'cpu'
    before: Callable[[], object] = _nothing


class Spread(NamedTuple):
    """A median with the smallest and the largest of its values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> 'Spread':
        """Summarise at least one value."""
        return cls(statistics.median(values), min(values), max(values))


def ratios(values: Sequence[float], base: Sequence[float]) -> Spread:
    """Return how many times ``base`` the values are, round by round.

    What slows a machine down for a while slows both of a round down, so the ratios within rounds
    spread less than the ratio of two medians.
    """
    return Spread.of([value / other for value, other in zip(values, base, strict=True)])


def order_of_round(number: int, count: int) -> list[int]:
    """Return in which order round ``number`` takes ``count`` models.

    Every other round goes backwards and every pair of rounds starts one further, so that no model
    always follows the same one, or is always the first on a cold machine or the last on a hot one.
    """
    start = number // 2 % count
    order = [*range(start, count), *range(start)]
    return order[::-1] if number % 2 else order


def images_per_second(workload: Workload, min_seconds: float, clock: Clock | None = None) -> float:
    """Repeat a workload's step for at least ``min_seconds`` and return its speed.

    Args:
        workload: What is timed, once at least.
        min_seconds: Of the time that is counted.
        clock: Runs a step a number of times and returns the seconds; by default the one that fits
            the workload's device.
    """
    on_gpu = workload.device_type == 'cuda'
    clock = clock or (_cuda_seconds if on_gpu else _cpu_seconds)
    workload.before()
    if on_gpu:
        workload.step()  # refills the allocator's cache, which another model has used
    seconds, steps, repeats = 0.0, 0, 1
    while steps == 0 or seconds < min_seconds:
        seconds += clock(workload.step, repeats)
        steps += repeats
        if on_gpu:  # waiting for the queue to drain costs time: wait ever less often
            repeats *= 2
    return steps * workload.images / seconds


def _cpu_seconds(step: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return time.perf_counter() - start


def _cuda_seconds(step: Callable[[], object], repeats: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        step()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def measure_interleaved(
    contestants: Sequence[Mapping[str, Workload]],
    rounds: int,
    min_seconds: float,
    after_round: Callable[[list[dict[str, list[float]]]], object] = lambda speeds: None,
) -> list[dict[str, list[float]]]:
    """Measure every workload of every contestant once a round.

    A round before the first, of one step each, is thrown away: it compiles, tunes and warms up.

    Args:
        contestants: Tasks by name.
        rounds: How often each is measured.
        min_seconds: See :func:`images_per_second`.
        after_round: Called with the speeds so far.

    Returns:
        For each contestant, images/s in each round by workload.
    """
    speeds: list[dict[str, list[float]]] = [
        {name: [] for name in workloads} for workloads in contestants
    ]
    for number in range(-1, rounds):
        for index in order_of_round(max(number, 0), len(contestants)):
            for name, workload in contestants[index].items():
                speed = images_per_second(workload, min_seconds if number >= 0 else 0)
                if number >= 0:
                    speeds[index][name].append(speed)
        if number >= 0:
            after_round(speeds)
    return speeds


def add_speeds(rows: Sequence[Row], speeds: Sequence[Mapping[str, Sequence[float]]]) -> None:
    """Add the speeds of each workload to the rows, with the ratios to the first row.

    For each workload there are ``NAME_img_per_s`` and ``NAME_ratio``, and the same with ``_min``
    and ``_max``; the median is over the rounds, and so is that of the ratios.

    Args:
        rows: One per contestant; they are changed.
        speeds: Images/s in each round, by workload, in the rows' order.
    """
    for row, workloads in zip(rows, speeds, strict=True):
        for workload, values in workloads.items():
            row |= flatten(f'{workload}_img_per_s', Spread.of(values))
            if workload in speeds[0]:
                row |= flatten(f'{workload}_ratio', ratios(values, speeds[0][workload]))


def flatten(key: str, spread: Spread) -> dict[str, float]:
    """Spell a spread out as three columns."""
    return {key: spread.median, f'{key}_min': spread.low, f'{key}_max': spread.high}
