"""What a checkpoint may hold: sound pickles hold unsound things, too.

Every reader of a file comes through :func:`check_content`: behind it there are only named, dense
tensors that the file has bytes for, weights are finite, and ``meta`` fits the schema `CONTENT`.
What a training needs to resume is in the schema `RESUMABLE`: see :func:`check_resumable`.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, NamedTuple

import torch

from ..errors import LONGEST_NAME, InputError, shown

MOST_VALUES, MOST_LEVELS = 1_000_000, 100  # those of a large training are 100,000 and 8
MOST_NAMES = 100_000
MOST_ITERATIONS = 10**8
Way = tuple[Any, ...]  # nested pairs: where a value is, and its key


class Rule(NamedTuple):
    """What a value must be: in words, and as a test of it."""

    words: str
    holds: Callable[[Any], bool]


class Maybe(NamedTuple):
    """What may be absent, or None."""

    schema: Any


def is_number(value: object) -> bool:
    """Whether a value is a real number that a float can be; NaN and bool are none."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
    except OverflowError:  # an integer of 400 digits
        return False


def is_plain_number(value: object) -> bool:
    """Whether it is one that JSON has, too: none of NumPy's."""
    return isinstance(value, int | float) and is_number(value)


def whole(most: int) -> Rule:
    """Return the rule of a whole number from 0."""
    return Rule(f'a whole number from 0 to {most}', lambda v: type(v) is int and 0 <= v <= most)


def _are_names(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) <= MOST_NAMES
        and all(type(v) in (int, str) for v in value)
        and all(len(v) <= LONGEST_NAME if type(v) is str else COUNT.holds(v) for v in value)
    )


ANY = Rule('anything', lambda value: True)
TEXT = Rule('a text', lambda value: isinstance(value, str))
FLAG = Rule('True or False', lambda value: isinstance(value, bool))
NUMBER = Rule('a number', is_number)
SHARE = Rule('a number from 0 to 1', lambda value: is_plain_number(value) and 0 <= value <= 1)
SCORE = Rule('a number', lambda value: is_number(value) or isinstance(value, float))  # or NaN
TENSOR = Rule('a tensor', torch.is_tensor)
NUMBERS = Rule(
    'a number, a text or a list of numbers',
    lambda value: (
        value is None
        or isinstance(value, bool | str)
        or is_plain_number(value)
        or (isinstance(value, list | tuple) and all(map(is_plain_number, value)))
    ),
)
COUNT = whole(MOST_ITERATIONS)
NAMES = Rule(
    f'a list of at most {MOST_NAMES} names of at most {LONGEST_NAME} characters', _are_names
)
NAMED = {'classes': Maybe(NAMES), 'CLASSES': Maybe(NAMES)}
# What a published file keeps of `meta`.
META_KEYS = frozenset({'dataset_meta', 'cfg', 'input', 'epoch', 'iter', 'thresholds'})
PART = Rule(
    'the batches that are done, and those of an epoch',
    lambda value: (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(map(COUNT.holds, value))
        and value[0] <= value[1]
    ),
)

# A dict is of keys that must be there (`Maybe`: may); '*' and 'name*' are of all, and all that
# begin so. A list is of any number of values.
CONTENT = {
    'state_dict': {'*': ANY},
    'ema_state_dict': {'*': ANY},
    'meta': Maybe(
        {
            '*': ANY,
            'dataset_meta': Maybe({'*': ANY, **NAMED}),
            **NAMED,  # MMDetection 2 had them here
            'input': Maybe({'*': NUMBERS}),  # the image normalization
            'test_size': Maybe(TEXT),
            'thresholds': Maybe({'*': SHARE}),
        }
    ),
}
RESUMABLE = {
    'meta': {'epoch': COUNT, 'iter': COUNT, 'seed': Maybe(whole(2**32 - 1))},
    'optimizer': {'*': ANY},
    'message_hub': {
        'log_scalars': {'*': ANY},
        'resumed_keys': {'*': FLAG},
        'runtime_info': {
            '*': ANY,
            'keep_ckpt_ids': Maybe([COUNT]),
            'last_ckpt': Maybe(TEXT),
            'best_ckpt*': Maybe(TEXT),
            'best_score*': Maybe(SCORE),
        },
    },
    'resume': Maybe(  # of SafeCheckpointHook
        {
            'early_stopping': [{'monitor': TEXT, 'wait_count': COUNT, 'best_score': NUMBER}],
            'gradients': {'*': TENSOR},
            'random_states': [{'*': ANY}],
            'epoch_batches': PART,
            'validated': COUNT,
            'seconds': Maybe(NUMBER),
            'replaced': [TEXT],
        }
    ),
}


def check_content(content: Any, source: str, size: int | None = None) -> dict[str, Any]:
    """Return a checkpoint, or a bare state dict, if its weights and ``meta`` are sound.

    ``meta['config']`` is skipped: ``Runner.resume`` would execute it, and mmengine never writes
    it. Dicts come out as new ones, since a file can put methods of its own into an OrderedDict.

    Args:
        content: What was read: weights at ``state_dict`` or ``model``, or by their names.
        source: The file, for messages.
        size: Its bytes, where they are known; its tensors cannot have more.

    Raises:
        InputError: Something is of another type or size, or a weight is no number.
    """
    if not isinstance(content, Mapping):
        raise InputError(f'{source}: not a checkpoint (a {type(content).__name__}, not a dict)')
    fault = _find_odd_value(content, size) or find_fault(
        content, {key: part for key, part in CONTENT.items() if key in content}
    )
    checked = _copy(content)
    of_weights = [key for key in ('state_dict', 'ema_state_dict') if key in checked]
    if 'state_dict' not in checked and isinstance(checked.get('model'), Mapping):
        of_weights.append('model')
    for key in of_weights:
        fault = fault or _find_bad_weight(checked[key].items(), key)
    if not {'state_dict', 'model'} & {*of_weights}:
        # By its own keys; an optimizer's state or an epoch may be next to them.
        fault = fault or _find_bad_weight(
            ((k, v) for k, v in checked.items() if torch.is_tensor(v)), 'the file'
        )
    if fault:
        raise InputError(f'{source}: {fault}')
    if isinstance(checked.get('meta'), Mapping):
        checked['meta'] = OrderedDict(checked['meta'])
        checked['meta'].pop('config', None)
    return checked


def check_resumable(content: Mapping[str, Any], source: str) -> None:
    """Raise an InputError unless a checkpoint has, in the right form, all that a training needs."""
    lost = [key for key in ('optimizer', 'message_hub') if content.get(key) is None]
    if lost:
        raise InputError(
            f'{source} has no {" and no ".join(lost)}: nothing to resume; a training begins with '
            'its weights by --pretrained, or load_from'
        )
    if fault := find_fault(content, RESUMABLE):
        raise InputError(f'{source}: {fault}: nothing to resume')


def find_fault(value: Any, schema: Any, where: str = '') -> str | None:
    """Return where a value does not fit a schema, None if it does.

    Args:
        value: A tree of dicts, lists and values.
        schema: A :class:`Rule`, :class:`Maybe`, dict or list of them, as `RESUMABLE`.
        where: What the value is called.
    """
    if isinstance(schema, Maybe):
        return None if value is None else find_fault(value, schema.schema, where)
    expected = schema
    if isinstance(schema, dict):
        expected = Rule('a dict', lambda v: isinstance(v, Mapping))
    elif isinstance(schema, list):
        expected = Rule('a list', lambda v: isinstance(v, list | tuple))
    if not expected.holds(value):
        return f'{where} is {shown(value)} ({type(value).__name__}), not {expected.words}'
    if isinstance(schema, list):
        faults = (find_fault(v, schema[0], f'{where}[{i}]') for i, v in enumerate(value))
        return next(filter(None, faults), None)
    for key, part in schema.items() if isinstance(schema, dict) else ():
        if not key.endswith('*') and key not in value and not isinstance(part, Maybe):
            return f'{where or "it"} has no {key!r}'
        for name in value if key.endswith('*') else [key]:
            if not isinstance(name, str):
                return f'the key {shown(name)} of {where} is no text'
            if name in value and name.startswith(key.removesuffix('*')):
                place = f'{where}[{shown(name)}]' if where else name
                if fault := find_fault(value[name], part, place):
                    return fault
    return None


def _find_odd_value(content: Any, size: int | None) -> str | None:
    """Return what is too much, too deep or no plain tensor anywhere in a tree, None if nothing.

    Methods that a file has put into an OrderedDict are taken out.
    """
    storages: set[int] = set()
    left: list[tuple[Way, Any, int]] = [((), content, 0)]
    count = claimed = 0
    while left:
        way, value, level = left.pop()
        if level > MOST_LEVELS:
            return f'{_name(way)} is nested more than {MOST_LEVELS} levels deep'
        if torch.is_tensor(value):
            if kind := _find_kind(value):
                return f'the tensor {_name(way)} is {kind}'
            storage = value.untyped_storage()
            if storage.data_ptr() not in storages:
                storages.add(storage.data_ptr())
                claimed += storage.nbytes()
            if size is not None and claimed > size:
                return f'the tensor {_name(way)} has more bytes than the file'
            continue
        items: Iterable[tuple[Any, Any]]
        if isinstance(value, dict):
            _clean(value)
            items = dict.items(value)
        elif isinstance(value, list | tuple | set | frozenset):
            items = enumerate(value)
        else:
            continue
        count += len(value)
        if count > MOST_VALUES:
            return f'{_name(way)} and what is before it are more than {MOST_VALUES} values'
        left += [((way, key), part, level + 1) for key, part in items]
    return None


def _name(way: Way) -> str:
    keys: list[str] = []
    while way:
        way, key = way
        keys.insert(0, f'[{shown(key)}]' if way else key if isinstance(key, str) else shown(key))
    return ''.join(keys[:5]) or 'the file'


def _clean(mapping: dict[Any, Any]) -> None:
    if type(mapping) is not OrderedDict or not vars(mapping):
        return
    versions = vars(mapping).pop('_metadata', None)  # of the modules, by torch
    vars(mapping).clear()
    if isinstance(versions, dict) and all(
        isinstance(v, dict) and type(dict.get(v, 'version', 0)) is int
        for v in dict.values(versions)
    ):
        vars(mapping)['_metadata'] = versions


def _copy(mapping: Mapping[Any, Any]) -> OrderedDict[Any, Any]:
    copied = OrderedDict(mapping.items())
    vars(copied).update(getattr(mapping, '__dict__', {}))
    return copied


def _find_kind(value: torch.Tensor) -> str | None:
    if value.is_quantized or value.is_nested or value.layout != torch.strided:
        return 'sparse, quantized or nested'
    if value.device.type == 'meta':
        return 'without values (on the meta device)'
    if value.is_complex():
        return 'complex'
    try:
        value.new_empty(1).float()
    except RuntimeError:  # two numbers in a byte, and other types to come
        return f'of {value.dtype}, with which nothing is computed'
    had = value.untyped_storage().nbytes()
    if value.numel() * value.itemsize > had:
        return f'of shape {tuple(value.shape)}, for which there are {had} bytes'
    return None


def shared_name(key: str) -> str:
    """Return a tensor's name without ``module.``, and the same in both notations of a norm."""
    return re.sub(r'(^|\.)abn\.', r'\1bn.', key.removeprefix('module.'))


def _find_bad_weight(items: Iterable[tuple[Any, Any]], where: str) -> str | None:
    by_name: dict[str, str] = {}
    for key, value in items:
        if not isinstance(key, str):
            return f'the key {shown(key)} of a tensor is no text'
        if (other := by_name.setdefault(shared_name(key), key)) != key:
            return f'{shown(other)} and {shown(key)} are both the same tensor of a model'
        if not torch.is_tensor(value):
            if key.endswith('_extra_state'):  # what torch lets a module put there
                continue
            return f'{where}[{shown(key)}] is {shown(value)} ({type(value).__name__}), not a tensor'
        if value.dtype == torch.bool and key.endswith(('weight', 'bias', 'running_var')):
            return f'the tensor {shown(key)} is of True and False, not of numbers'
        if not is_finite(value):
            return f'the tensor {shown(key)} is not finite (NaN or infinity)'
    return None


def is_finite(value: torch.Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    if not value.is_floating_point():
        return True
    return bool((value if value.itemsize > 1 else value.float()).isfinite().all())
