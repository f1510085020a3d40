"""Memory that a training needs: its peak, and the largest batch that fits."""

import ctypes
import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

BATCH_STEP = 8
_LARGEST_TRIED = 8192
_MOST_ELEMENTS = 2**31 - 1  # of a tensor: more than many CUDA kernels can count
# In messages of CUDA's libraries, where too little memory is no OutOfMemoryError, or a tensor is
# larger than they take.
_DOES_NOT_FIT = (
    'out of memory', 'ALLOC_FAILED', 'CUDNN_STATUS_NOT_SUPPORTED', 'CUDNN_STATUS_INTERNAL_ERROR',
    'CUDNN_STATUS_EXECUTION_FAILED', 'unable to find an engine', 'valid cuDNN algorithm',
    '32BitIndexMath', 'INT_MAX',
)  # fmt: skip
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


def largest_batch(
    fits: Callable[[int], bool], step: int = BATCH_STEP, most: int = _LARGEST_TRIED
) -> int:
    """Return the largest multiple of ``step`` that fits, 0 if none does: doubling, then halves.

    Args:
        fits: Whether a batch fits; if one does, so does every smaller one.
        step: The grain of the answer.
        most: No batch above is tried.
    """
    low, high = 0, step
    while high <= most and fits(high):
        low, high = high, 2 * high
    while high - low > step:
        middle = (low + high) // 2 // step * step
        if middle <= most and fits(middle):
            low = middle
        else:
            high = middle
    return low


def does_not_fit(error: RuntimeError) -> bool:
    """Tell whether an error means that a GPU has not the memory, or cannot count the elements."""
    known = any(words in str(error) for words in _DOES_NOT_FIT)
    return known or isinstance(error, torch.cuda.OutOfMemoryError)


def largest_countable(elements: int) -> int:
    """Return the largest batch to try, where an image's largest tensor has so many elements."""
    return min(_LARGEST_TRIED, _MOST_ELEMENTS // elements)


def largest_training_batch(
    train_at: Callable[[int], None], most: int = _LARGEST_TRIED, seconds: float = math.inf
) -> tuple[int, int | None]:
    """Find the largest batch at which ``train_at`` runs on the current GPU.

    cuDNN does not try its algorithms out, some of which take memory that a training does not need.

    Args:
        train_at: Trains a step or two with so many images, and holds on to nothing of them.
        most: No batch above is tried.
        seconds: After so many nothing more is tried.

    Returns:
        The largest batch that ran, and the smallest that did not fit: None where none was tried
        that did not, since the time or ``most`` ended the search.
    """
    stop = time.monotonic() + seconds
    failed: list[int] = []

    def fits(batch: int) -> bool:
        if time.monotonic() > stop:
            return False
        try:
            train_at(batch)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        except RuntimeError as error:
            if does_not_fit(error):
                failed.append(batch)
                return False
            raise
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        return True

    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=True, benchmark=False, allow_tf32=cudnn.allow_tf32):
        return largest_batch(fits, most=most), min(failed, default=None)
