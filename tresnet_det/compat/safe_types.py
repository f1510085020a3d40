"""What a checkpoint may hold besides tensors and plain values: the types that mmengine saves.

torch's ``weights_only`` unpickler makes only objects whose names are on a list. But for
``ConfigDict`` and ``bytes``, each entry is a stand-in that does less than the name it answers to:

- ``_codecs.encode`` (which newer torch has on a list of its own, since the protocol that it writes
  keeps bytes as a text) encodes in Latin-1 and nothing else;
- ``builtins.getattr`` (in the pickle of every HistoryBuffer and OneCycleLR, since pickle writes a
  method as "attribute of a class") resolves six known functions and refuses all else;
- ``HistoryBuffer`` takes over its three values and ignores the table of functions next to them,
  which belongs to the class and not to a file;
- ``OneCycleParamScheduler`` is only a name to hang two functions on, and cannot be built;
- ``numpy.ndarray`` is only a name, too: called with a buffer of its own, the real one makes arrays
  of objects whose addresses are the file's bytes;
- ``numpy.dtype`` gives numpy's own numeric types and nothing else, so that there are no arrays of
  objects, records, text or bytes. These types ignore the state that a file sets on them, where
  that of a copy (its flags, fields and item size) could be changed under an array that has it. The
  price: an array of the other byte order comes out swapped; no machine in use writes one.
"""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray  # type: ignore[no-redef]  # the same under another name

_STATISTICS = ('min', 'max', 'current', 'mean')
_ANNEALING = ('_annealing_cos', '_annealing_linear')
# bool, integers, floats and complex numbers
_DTYPE_CODES = '?bhilqBHILQefdgFDG'


def _answers_to(module: str, name: str) -> Callable[[Any], Any]:
    """Return a decorator that gives an object the full name under which pickles ask for it.

    torch 2.6 takes ``(object, 'full name')`` pairs instead; this way serves older ones too.
    """

    def rename(thing: Any) -> Any:
        thing.__module__, thing.__name__, thing.__qualname__ = module, name, name
        return thing

    return rename


@_answers_to('mmengine.logging.history_buffer', 'HistoryBuffer')
class _LoadedHistory(HistoryBuffer):
    """A HistoryBuffer while it is being read; it turns into a real one with its state."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        log, count, longest = (
            state.get(key) for key in ('_log_history', '_count_history', 'max_length')
        )
        arrays = [a for a in (log, count) if isinstance(a, np.ndarray) and a.dtype.kind != 'c']
        shapes = [a.shape for a in arrays if a.ndim == 1]
        if len(shapes) != 2 or shapes[0] != shapes[1] or type(longest) is not int or longest < 1:
            raise pickle.UnpicklingError('a HistoryBuffer without its two arrays and its length')
        # Straight into the dictionary: these are the attributes that the class itself would set.
        self.__dict__.update(_log_history=log, _count_history=count, max_length=longest)
        self._set_default_statistics()
        self.__class__ = HistoryBuffer


class _NameOnly:
    """Something that pickles may name, and that cannot be called.

    Args:
        *types: types that it equals, which is how torch asks whether a file may set the state of
            their objects. The types themselves are never handed out.
    """

    __qualname__: str

    def __init__(self, *types: type) -> None:
        self._types = types

    def __eq__(self, other: object) -> bool:
        return other is self or any(other is each for each in self._types)

    __hash__ = object.__hash__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise pickle.UnpicklingError(f'GLOBAL {self.__qualname__} may be named, not built')


_ONE_CYCLE = _answers_to('mmengine.optim.scheduler.param_scheduler', 'OneCycleParamScheduler')(
    _NameOnly()
)

_ARRAY = _answers_to('numpy', 'ndarray')(_NameOnly(np.ndarray))


class _NumericTypes(_NameOnly):
    def __call__(self, code: Any, *flags: object) -> np.dtype:
        dtype = np.dtype(code)
        # only of the built-in ones (native byte order) does numpy ignore the state that is set
        if dtype.kind not in 'biufc' or dtype.isbuiltin != 1:
            raise pickle.UnpicklingError(f'GLOBAL numpy.dtype({str(code)[:40]!r}) is refused')
        return dtype


_DTYPE = _answers_to('numpy', 'dtype')(
    _NumericTypes(*(type(np.dtype(code)) for code in _DTYPE_CODES))
)


@_answers_to('builtins', 'getattr')
def _known_attribute(owner: object, name: str, *default: object) -> Callable:
    """Return one of the six functions that mmengine's checkpoints name by way of getattr.

    Raises:
        pickle.UnpicklingError: for any other owner or name, and with a default.
    """
    if type(name) is str and not default:
        if owner is _LoadedHistory and name in _STATISTICS:
            return getattr(HistoryBuffer, name)
        if owner is _ONE_CYCLE and name in _ANNEALING:
            from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

            return getattr(OneCycleParamScheduler, name)
    owner_name = getattr(owner, '__qualname__', type(owner).__qualname__)
    raise pickle.UnpicklingError(f'GLOBAL getattr({owner_name}, {str(name)[:40]!r}) is refused')


@_answers_to('_codecs', 'encode')
def _latin_1(text: str, encoding: str) -> bytes:
    """Return the bytes that pickle's protocol 2 writes as a text.

    Raises:
        pickle.UnpicklingError: for another encoding.
    """
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'GLOBAL _codecs.encode to {encoding[:40]!r} is refused')
    return text.encode('latin1')


def _empty_array(kind: object, *shape_and_code: object) -> np.ndarray:
    """Return what numpy pickles as the start of every array; its state has the rest."""
    if kind is not _ARRAY:
        raise pickle.UnpicklingError(f'GLOBAL _reconstruct({str(kind)[:40]!r}) is refused')
    return np.empty(0, 'b')


def _numpy_makers() -> list[Callable]:
    """Return how numpy pickles arrays and scalars, by the names of numpy 1 and of numpy 2."""

    def alias(function: Any, package: str, name: str) -> Callable:
        return _answers_to(f'{package}.multiarray', name)(lambda *args: function(*args))

    makers = {'_reconstruct': _empty_array, 'scalar': multiarray.scalar}
    packages = ('numpy.core', 'numpy._core')
    return [alias(make, package, name) for package in packages for name, make in makers.items()]


# One list for the whole process: torch keeps a set, so that adding it twice changes nothing.
SAFE_TYPES: list[Any] = [
    _known_attribute,
    _LoadedHistory,
    _ONE_CYCLE,
    ConfigDict,  # a nested `metainfo` of a dataset; a dict whose construction runs nothing
    _latin_1,
    bytes,  # how the pickle of an empty array makes its data
    _ARRAY,
    _DTYPE,
    *_numpy_makers(),
]
