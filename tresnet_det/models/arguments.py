"""Checks of constructor arguments: an InputError of one line names the argument and what it got."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from ..errors import InputError, shown


def check_whole(name: str, value: Any, least: int, most: int | None = None, why: str = '') -> None:
    """Raise an InputError unless a value is a whole number from ``least`` to ``most``."""
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_whole or int(value) < least or (most is not None and int(value) > most):
        bounds = f'at least {least}' if most is None else f'from {least} to {most}{why}'
        raise InputError(f'{name} must be {bounds}, a whole number: got {shown(value)}')


def check_number(name: str, value: Any, least: float, below: float = math.inf) -> None:
    """Raise an InputError unless a value is a number in ``[least, below)``."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not least <= float(value) < below:
        raise InputError(f'{name} must be a number in [{least:g}, {below:g}), got {shown(value)}')


def check_flag(name: str, value: object) -> None:
    """Raise an InputError unless a value is True or False."""
    if not isinstance(value, bool):
        raise InputError(f'{name} must be True or False, got {shown(value)}')


def check_norm_cfg(norm_cfg: object) -> None:
    """Raise an InputError unless it is a dict whose flags and numbers are such."""
    if not isinstance(norm_cfg, Mapping):
        raise InputError(
            f"norm_cfg must be a dict, as dict(type='InPlaceABN'), got {shown(norm_cfg)}"
        )
    for name in ('sync', 'requires_grad', 'affine', 'track_running_stats'):
        check_flag(f'{name!r} in norm_cfg', norm_cfg.get(name, True))
    check_number("'eps' in norm_cfg", norm_cfg.get('eps', 1e-5), 0)
    momentum = norm_cfg.get('momentum', 0.1)
    if momentum != 1 and momentum is not None:  # None averages over all batches
        check_number("'momentum' in norm_cfg", momentum, 0, 1)


def check_init_cfg(init_cfg: object) -> None:
    """Raise an InputError unless each config has a type, as mmengine's need; None has none."""
    configs = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    for cfg in configs:
        named = isinstance(cfg, Mapping) and isinstance(cfg.get('type'), (str, type))
        if not named and init_cfg is not None:
            raise InputError(
                "init_cfg must be a dict with a type, as dict(type='Pretrained', checkpoint=FILE), "
                f'or a list of such dicts: got {shown(cfg)}'
            )


def resolve_arch(
    arch: object, table: Mapping[str, dict[str, Any]], choices: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the fields of a TResNet.

    Args:
        arch: A name in the table; or a dict with some of the fields, the others being those of
            ``'m'``.
        table: The fields by name.
        choices: What ``stem`` and each of ``block_types`` may be.

    Raises:
        InputError: If there is no such name or field, or a field's value is of the wrong type or
            out of its range.
    """
    if not isinstance(arch, Mapping):
        if not isinstance(arch, str) or arch not in table:
            raise InputError(f'unknown arch {shown(arch)}: use one of {sorted(table)}, or a dict')
        return table[arch]
    fields = table['m']
    unknown = [field for field in arch if field not in fields]
    if unknown:
        raise InputError(f'unknown field {unknown[0]!r} in arch: the fields are {list(fields)}')
    settings = {**fields, **arch}
    for field in ('depths', 'block_types', 'se_stages'):
        value = settings[field]
        if not isinstance(value, (list, tuple)) or len(value) != 4:
            raise InputError(
                f'arch field {field!r} needs one value for each of the 4 stages, got {shown(value)}'
            )
    for depth in settings['depths']:
        check_whole("a stage's depth in arch field 'depths'", depth, 1)
    for flag in settings['se_stages']:
        check_flag("each of arch field 'se_stages'", flag)
    check_flag("arch field 'anti_alias'", settings['anti_alias'])
    for what, values in (('block type', settings['block_types']), ('stem', [settings['stem']])):
        for value in values:
            if value not in choices[what]:
                raise InputError(
                    f'unknown {what} {shown(value)} in arch: use one of {list(choices[what])}'
                )
    check_number("arch field 'width_factor'", settings['width_factor'], 1 / 64, 64)
    for field in ('stem_slope', 'slope'):
        check_number(f'arch field {field!r}', settings[field], 1e-9)
    return settings
