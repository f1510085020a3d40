"""Memory that a training needs: its peak, and the largest batch that fits."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

BATCH_STEP = 8
_LARGEST_TRIED = 8192
_STATUS = Path('/proc/self/status')
_CLEAR_REFS = Path('/proc/self/clear_refs')
_RESET_PEAK = '5'  # Linux: proc_pid_clear_refs(5)


class Peak:
    """What :func:`peak_memory` found: ``bytes``, None where the system does not tell."""

    bytes: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure by how much the memory in use rises at most within the block.

    On CUDA it is what tensors occupy, exactly. On a CPU it is the process's resident memory, from
    Linux: an approximation, which includes the libraries' buffers and misses what earlier work has
    left in the allocator for use again; None on other systems.
    """
    peak = Peak()
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    resident = _reset_resident_peak()
    yield peak
    if resident is not None:
        peak.bytes = _status_bytes('VmHWM') - resident


def _reset_resident_peak() -> int | None:
    """Forget the process's highest memory so far; return what it occupies, None if unknown."""
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
        return _status_bytes('VmRSS')
    except OSError:
        return None


def _status_bytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024  # in kB


def largest_batch(fits: Callable[[int], bool], step: int = BATCH_STEP) -> int:
    """Return the largest multiple of ``step`` that fits, 0 if none does: doubling, then halves.

    Args:
        fits: Whether a batch fits; if one does, so does every smaller one.
        step: The grain of the answer.
    """
    low, high = 0, step
    while high <= _LARGEST_TRIED and fits(high):
        low, high = high, 2 * high
    while high - low > step:
        middle = (low + high) // 2 // step * step
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def largest_training_batch(train_at: Callable[[int], None]) -> int:
    """Return the largest batch at which ``train_at`` runs on this GPU.

    Args:
        train_at: Trains a step or two with so many images, and holds on to nothing of them.
    """

    def fits(batch: int) -> bool:
        try:
            train_at(batch)
            torch.cuda.synchronize()
        except torch.cuda.OutOfMemoryError:
            return False
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        return True

    return largest_batch(fits)
