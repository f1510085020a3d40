"""Whether a training can resume from a checkpoint: optimizer, schedulers, gradients, random states.

The one rule: what is saved looks like what this training has itself, in names, types and shapes.
For the optimizer's buffers, a copy of the optimizer makes one step on zeros.
"""

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from ..compat.checkpoint_content import (
    ANY,
    COUNT,
    check_resumable,
    find_fault,
    is_finite,
    is_number,
)
from ..errors import InputError, shown
from .config import iterate_dicts
from .train_loops import LENGTHS, PLACES, are_random_states

LARGEST = 2**53
GROUPS = 'param_groups'
STATES = {'state': {}, GROUPS: [{'*': ANY, 'params': [COUNT]}]}


def check_resume(runner: Runner, content: Mapping[str, Any], source: str) -> None:
    """Raise an InputError unless a training can resume from a checkpoint.

    Args:
        runner: With its optimizer and schedulers built; where it has only their configs, they are
            not compared.
        content: The checkpoint, checked.
        source: Its file, for the message.
    """
    check_resumable(content, source)
    fault = _find_in_wrapper(content['optimizer'], runner.optim_wrapper, 'optimizer')
    fault = fault or _find_in_schedulers(content.get('param_schedulers'), runner.param_schedulers)
    state = content.get('resume') or {}
    parameters = dict(runner.model.named_parameters())
    fault = fault or _first(
        find_difference(gradient, parameters[name].detach(), f"resume['gradients'][{name!r}]")
        for name, gradient in (state.get('gradients') or {}).items()
        if name in parameters
    )
    for i, states in enumerate(state.get('random_states') or ()):
        if not are_random_states(states):
            fault = fault or f"resume['random_states'][{i}] holds no states of random numbers"
    if fault:
        raise InputError(
            f'{source}: {fault}: it cannot be resumed with this config; give the flags that the '
            'training was started with (--from-scratch, --freeze)'
        )


def find_kept(runner: Runner, content: Mapping[str, Any]) -> str | None:
    """Return in words which learning rate and schedule continue, where the config has others.

    Args:
        runner: With its optimizer and schedulers built, before it loads them.
        content: The checkpoint, which brings both; checked by :func:`check_resume`.
    """
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    if not isinstance(optimizer, torch.optim.Optimizer):  # of several optimizers
        return None
    pairs = [
        ('learning rate', *(group.get('initial_lr', group.get('lr')) for group in both))
        for both in zip(content['optimizer'][GROUPS], optimizer.param_groups, strict=False)
    ]
    own = [one.state_dict() for one in runner.param_schedulers or () if hasattr(one, 'state_dict')]
    saved = content.get('param_schedulers')
    if isinstance(saved, list):
        for theirs, ours in zip(iterate_dicts(saved), iterate_dicts(own), strict=False):
            keys = [key for key in (*PLACES, *LENGTHS) if key in theirs and key in ours]
            pairs += [(f'{key} of the schedule', theirs[key], ours[key]) for key in keys]
    texts = [
        f'{name} {_places(then)} (the config: {_places(now)})'
        for name, then, now in pairs
        if then != now
    ]
    return ', '.join(dict.fromkeys(texts)) or None


def _places(value: Any) -> str:
    if isinstance(value, Mapping):  # milestones, counted
        return str(sorted(value))
    return f'{value:g}' if is_number(value) else str(value)


def find_difference(saved: Any, own: Any, where: str) -> str | None:
    """Return where a saved value does not look like this training's own, None if it does.

    Args:
        saved: Of a checkpoint.
        own: A tensor, for the same shape; a dict or list, for the same keys or length; a text, for
            the same one; a number, for another finite one, not negative where this one is not.
        where: What messages call it.
    """
    right, wanted = True, ''
    parts: Any = ()
    if is_number(own) and torch.is_tensor(saved) and not saved.dim():
        saved = saved.item()
    if torch.is_tensor(own):
        right = torch.is_tensor(saved) and saved.shape == own.shape and is_finite(saved)
        wanted = f'a finite tensor of shape {tuple(own.shape)}'
    elif isinstance(own, Counter):  # of milestones, which a config may have moved
        right = isinstance(saved, Mapping) and all(map(COUNT.holds, [*saved, *saved.values()]))
        wanted = 'steps and how often they count'
    elif isinstance(own, Mapping):
        right, wanted, parts = isinstance(saved, Mapping), 'a dict', own.items()
        if right and (differ := {*saved} ^ {*own}):
            odd = next(iter(differ))
            return f'{where} has {"no" if odd in own else "an unknown"} key {shown(odd)}'
    elif isinstance(own, list | tuple):
        right = isinstance(saved, list | tuple) and len(saved) == len(own)
        wanted, parts = f'a list of {len(own)}', enumerate(own)
    elif own is None or isinstance(own, bool):
        right, wanted = saved is None or isinstance(saved, bool), 'None, True or False'
    elif is_number(own):
        low = 0 if 0 <= own < math.inf else -LARGEST
        right = is_number(saved) and (low <= saved <= LARGEST or math.isinf(own))
        wanted = 'a finite number' + ' from 0' * (low == 0)
    elif callable(own):
        right, wanted = callable(saved), 'a function'
    else:
        right, wanted = bool(saved == own), shown(own)
    if not right:
        had = f'of shape {tuple(saved.shape)}' if torch.is_tensor(saved) else shown(saved)
        return f'{where} is {had}, not {wanted}'
    return _first(find_difference(saved[k], part, f'{where}[{k!r}]') for k, part in parts)


def _first(faults: Iterable[str | None]) -> str | None:
    return next(filter(None, faults), None)


def _find_in_schedulers(saved: Any, own: Any) -> str | None:
    named = own if isinstance(own, dict) else {None: own}
    built = all(isinstance(part, list) for part in named.values()) and all(
        hasattr(one, 'state_dict') for part in named.values() for one in part
    )
    if not built:  # none, or their configs
        return None
    states: Any = {name: [one.state_dict() for one in part] for name, part in named.items()}
    return find_difference(saved, states.get(None, states), 'param_schedulers')


def _find_in_wrapper(saved: Any, wrapper: Any, where: str) -> str | None:
    if isinstance(wrapper, OptimWrapperDict):
        if fault := find_fault(saved, {name: {} for name, _ in wrapper.items()}, where):
            return fault
        return _first(_find_in_wrapper(saved[k], w, f'{where}[{k!r}]') for k, w in wrapper.items())
    optimizer: Any = getattr(wrapper, 'optimizer', None)
    # Of the others, one has parts of its state on other processes.
    if getattr(type(optimizer), 'state_dict', None) is not torch.optim.Optimizer.state_dict:
        return None
    if fault := find_fault(saved, STATES, where):
        return fault
    own, more = wrapper.state_dict(), ('loss_scaler', 'base_param_settings')
    faults = [_find_in_groups(saved['param_groups'], own['param_groups'], f'{where}[{GROUPS!r}]')]
    faults += [
        find_difference(saved[key], own[key], f'{where}[{key!r}]')
        for key in more
        if key in own and key in saved
    ]
    return _first(faults) or _find_in_state(saved, optimizer, f"{where}['state']")


def _find_in_groups(saved: list[dict], own: list[dict], where: str) -> str | None:
    if len(saved) != len(own):
        return f'{where} has {len(saved)} groups of parameters, not {len(own)}'
    for i, (theirs, ours) in enumerate(zip(saved, own, strict=True)):
        if theirs['params'] != ours['params']:
            had, has = shown(theirs['params']), shown(ours['params'])
            return f"{where}[{i}]['params'] is {had}, not {has}"
        # Flags come with torch's versions.
        needed = {
            key: value
            for key, value in ours.items()
            if key in theirs or not (value is None or isinstance(value, bool))
        }
        there = {key: value for key, value in theirs.items() if key in needed}
        if fault := find_difference(there, needed, f'{where}[{i}]'):
            return fault
    return None


def _find_in_state(
    saved: Mapping[str, Any], optimizer: torch.optim.Optimizer, where: str
) -> str | None:
    own = optimizer.param_groups
    parameters = {
        key: ({**ours, **group}, parameter)
        for group, ours in zip(saved[GROUPS], own, strict=True)
        for key, parameter in zip(group['params'], ours['params'], strict=True)
    }
    steps = None  # whether the optimizer makes any with its own options
    for number, entry in saved['state'].items():
        if type(number) is not int or number not in parameters:
            return f'{where} has the key {shown(number)}, which is no parameter'
        group, parameter = parameters[number]
        place = f'{where}[{number}]'
        if not isinstance(entry, Mapping):
            return f'{place} is {shown(entry)}, not a dict'
        entry = _without_none(entry)
        if steps is None:
            steps = _step_on_zeros(optimizer, own[0], parameter) is not None
        if not entry or not steps:
            continue
        after = _step_on_zeros(optimizer, group, parameter)
        if after is None:
            return f'{place} has options with which {type(optimizer).__name__} makes no step'
        if fault := find_difference(entry, after, place):
            return fault
    return None


def _step_on_zeros(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], parameter: torch.Tensor
) -> dict[str, Any] | None:
    """Return the state of a parameter after a step, None if it fails."""
    copied, own = copy.copy(optimizer), torch.zeros(parameter.shape, requires_grad=True)
    own.grad = torch.zeros(parameter.shape)
    copied.state, copied.param_groups = defaultdict(dict), [{**group, 'params': [own]}]
    try:
        copied.step()
    except Exception:  # an optimizer may want a closure, or anything
        return None
    return _without_none(copied.state[own])


def _without_none(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is there of a parameter's state, its count as a number in torch's old way."""
    is_count = {
        key: key == 'step'
        and torch.is_tensor(value)
        and value.dtype is not torch.bool
        and value.numel() == 1
        for key, value in state.items()
    }
    return {
        key: value.item() if is_count[key] else value
        for key, value in state.items()
        if value is not None
    }
