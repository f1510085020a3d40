"""What a checkpoint must look like once it is read: sound pickles hold unsound things, too.

Every reader of a file comes through :func:`check_content`, so that behind it a state dict is one
of named, dense, finite tensors, and ``meta`` is a dict.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch

from ..errors import InputError, shown

_STATE_DICTS = ('state_dict', 'ema_state_dict')
_OF_META = ('dataset_meta', 'input', 'thresholds')


def check_content(content: Any, source: str) -> dict[str, Any]:
    """Return a checkpoint, or a bare state dict, if its weights and ``meta`` are sound.

    ``meta['config']`` is skipped: ``Runner.resume`` would execute it, and mmengine never writes
    it. Dicts come out as new ones, since a file can put methods of its own into an OrderedDict.

    Args:
        content: What was read: weights at ``state_dict`` or ``model``, or by their names.
        source: The file, for messages.

    Raises:
        InputError: Something is of another type, or a weight is no number.
    """
    if not isinstance(content, Mapping):
        raise InputError(f'{source}: not a checkpoint (a {type(content).__name__}, not a dict)')
    checked = _copy(content)
    nested = [key for key in _STATE_DICTS if key in checked]
    if 'state_dict' not in checked and isinstance(checked.get('model'), Mapping):
        nested.append('model')
    for key in nested:
        checked[key] = _check_state_dict(_as_dict(checked[key], key, source), source)
    if not {'state_dict', 'model'} & set(nested):
        # By its own keys; an optimizer's state or an epoch may be next to them.
        for key, value in checked.items():
            if torch.is_tensor(value):
                _check_tensor(key, value, source)
    if checked.get('meta') is not None:
        meta = _copy(_as_dict(checked['meta'], 'meta', source))
        meta.pop('config', None)
        for key in _OF_META:
            if meta.get(key) is not None:
                _as_dict(meta[key], f'meta[{key!r}]', source)
        for name, value in (meta.get('thresholds') or {}).items():
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise InputError(
                    f'{source}: the threshold {shown(value)} of {shown(name)} is not from 0 to 1'
                )
        for key in [*meta, *(meta.get('dataset_meta') or ())]:
            if not isinstance(key, str):
                raise InputError(f'{source}: the key {shown(key)} of meta is no text')
        checked['meta'] = meta
    return checked


def _as_dict(value: Any, name: str, source: str) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    raise InputError(f'{source}: {name} is {shown(value)} ({type(value).__name__}), not a dict')


def _copy(mapping: Mapping[Any, Any]) -> OrderedDict[Any, Any]:
    """Return a new dict, with the versions of the modules that torch puts next to a state dict."""
    items = dict.items(mapping) if isinstance(mapping, dict) else mapping.items()
    copied = OrderedDict(items)
    versions = getattr(mapping, '__dict__', {}).get('_metadata')
    if isinstance(versions, dict) and all(isinstance(v, dict) for v in dict.values(versions)):
        vars(copied)['_metadata'] = versions
    return copied


def _check_state_dict(state_dict: Mapping[Any, Any], source: str) -> OrderedDict[Any, Any]:
    checked = _copy(state_dict)
    for key, value in checked.items():
        if torch.is_tensor(value):
            _check_tensor(key, value, source)
        elif not str(key).endswith('_extra_state'):  # what torch lets a module put there
            raise InputError(
                f'{source}: {shown(key)} of the state dict is {shown(value)} '
                f'({type(value).__name__}), not a tensor'
            )
    return checked


def _check_tensor(key: Any, value: torch.Tensor, source: str) -> None:
    if not isinstance(key, str):
        raise InputError(f'{source}: the key {shown(key)} of a tensor is no text')
    kind = None
    if value.is_quantized or value.is_nested or value.layout != torch.strided:
        kind = 'sparse, quantized or nested'
    elif value.device.type == 'meta':
        kind = 'without values (on the meta device)'
    elif value.is_complex():
        kind = 'complex'
    elif value.is_floating_point() and not _is_finite(value, key, source):
        kind = 'not finite (NaN or infinity)'
    if kind:
        raise InputError(f'{source}: the tensor {shown(key)} is {kind}')


def _is_finite(value: torch.Tensor, key: str, source: str) -> bool:
    try:
        return bool((value if value.itemsize > 1 else value.float()).isfinite().all())
    except RuntimeError as error:  # a size that the file claims and does not have
        reason = str(error).splitlines()[0][:120]
        raise InputError(f'{source}: the tensor {shown(key)} cannot be read ({reason})') from error
