"""Stand-ins for what a training writes next to its weights, where MMEngine is not installed.

They answer to the names that :mod:`.safe_types` allows, and keep nothing of their content in a
file: logs, schedules and NumPy's values come out as objects without content.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


class _Skipped:
    def __init__(self, *args: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def _stand_in(full_name: str, base: type = _Skipped) -> type:
    module, _, name = full_name.rpartition('.')
    return type(name, (base,), {'__module__': module, '__qualname__': name})


SKIPPED_TYPES: list[Any] = [
    *map(
        _stand_in,
        (
            'builtins.getattr',
            'builtins.bytes',
            '_codecs.encode',
            'mmengine.logging.history_buffer.HistoryBuffer',
            'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler',
            'numpy.ndarray',
            'numpy.dtype',
            'numpy.core.multiarray._reconstruct',
            'numpy.core.multiarray.scalar',
            'numpy._core.multiarray._reconstruct',
            'numpy._core.multiarray.scalar',
        ),
    ),
    _stand_in('mmengine.config.config.ConfigDict', dict),
]


@contextlib.contextmanager
def skip_training_state() -> Iterator[None]:
    """Let ``torch.load`` pass over these types, inside only: elsewhere they may be meant."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(SKIPPED_TYPES)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
