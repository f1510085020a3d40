"""TResNet's weights in the published format, timm's and this project's: pure conversions.

Three notations of the same network, recognised by their keys:

=============  =====================================  ==================================
format         a convolution and its norm             norm weight
=============  =====================================  ==================================
``official``   ``body.layer1.0.conv1.0.weight``,      In-Place ABN: scale ``|w| + eps``
               ``body.layer1.0.conv1.1.weight``
``timm``       ``body.layer1.0.conv1.conv.weight``,   batch norm: scale ``w``
               ``body.layer1.0.conv1.bn.weight``
``ours``       ``layer1.0.conv1.conv.weight``,        ``abn``: scale ``|w| + eps``,
               ``layer1.0.conv1.abn.weight``          ``bn``: scale ``w``
=============  =====================================  ==================================

Only :func:`adapt_norm_notation` is not pure: torch calls it on the copy that ``load_state_dict``
makes. A head is at ``head.`` in all of them.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import is_tensor

from ..errors import InputError

StateDict = Mapping[str, torch.Tensor]

ABN_EPS = 1e-5  # the eps of every published In-Place ABN, for the variance and for |w|
HEAD = 'head.'
CLASSIFIER = 'head.fc.'

_NORM_KEY = re.compile(r'^(?P<stem>.*\.)(?P<kind>abn|bn)\.(?P<field>\w+)$')
# Which key tells which format; the first block's first convolution is in every TResNet.
_FORMATS = {
    'timm': re.compile(r'^body\.layer1\.0\.conv1\.conv\.weight$'),
    'official': re.compile(r'^body\.layer1\.0\.conv1\.0(\.0)?\.weight$'),
    'ours': re.compile(r'^layer1\.0\.conv1\.conv\.weight$'),
}
_OFFICIAL_NAMES = (
    (re.compile(r'\bconv(\d)\.0\.0\.'), r'conv\1.conv.'),  # with a blur: one level deeper
    (re.compile(r'\bconv(\d)\.0\.1\.'), r'conv\1.abn.'),
    (re.compile(r'\bconv(\d)\.0\.'), r'conv\1.conv.'),
    (re.compile(r'\bconv(\d)\.1\.'), r'conv\1.abn.'),
    (re.compile(r'\bdownsample\.(\d)\.0\.'), r'downsample.\1.conv.'),
    (re.compile(r'\bdownsample\.(\d)\.1\.'), r'downsample.\1.abn.'),
)


# The original ML-Decoder's names, which timm has too. The authors nest the whole head in `decoder`,
# or a part of it, by the version of their code.
_ML_DECODER_NAMES = (
    (re.compile(r'^(decoder\.)*embed_standart\.'), 'input_proj.'),
    (re.compile(r'^(decoder\.)*query_embed\.'), 'query_embed.'),
    (re.compile(r'^(decoder\.)*wordvec_proj\.'), 'query_proj.'),
    (re.compile(r'^(decoder\.)+layers\.0\.'), 'layer.'),
    (re.compile(r'^(decoder\.)*duplicate_pooling_bias$'), 'group_fc.bias'),
    (re.compile(r'^(decoder\.)*duplicate_pooling$'), 'group_fc.weight'),
)


def state_dict_of(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint by key, without the ``module.`` of a wrapped model.

    Args:
        content: A state dict, or a checkpoint that has one at ``state_dict`` or ``model``.
    """
    for key in ('state_dict', 'model'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = OrderedDict(
        (k.removeprefix('module.'), v) for k, v in content.items() if is_tensor(v)
    )
    vars(tensors)['_metadata'] = getattr(content, '_metadata', None)  # the modules' versions
    return tensors


def find_format(weights: StateDict) -> str | None:
    """Return ``'official'``, ``'timm'`` or ``'ours'``; None for another network."""
    keys = [k.removeprefix('backbone.') for k in weights]
    return next((name for name, key in _FORMATS.items() if any(map(key.match, keys))), None)


def to_ours(weights: StateDict, source: str = 'state dict') -> tuple[str, StateDict]:
    """Return the format's name and a backbone's weights under this project's keys.

    The norms stay in the notation that the source has (``abn`` or ``bn``): the backbone converts
    while it loads. A linear classifier stays next to the backbone as ``head.fc``.

    Args:
        weights: Of a backbone, or of a model that has one at ``backbone.``.
        source: What errors call it.

    Raises:
        InputError: If it holds no TResNet.
    """
    source_format = find_format(weights)
    if source_format is None:
        raise InputError(
            f'{source} holds no TResNet in the official, timm or own format; it begins with '
            f'{", ".join(list(weights)[:3]) or "nothing"}'
        )
    if source_format == 'ours':
        return source_format, _backbone_of(weights)
    body = {
        k.removeprefix('body.'): v
        for k, v in weights.items()
        # The official blur stores its fixed filter, which is no weight.
        if k.startswith(('body.', CLASSIFIER)) and not k.endswith('.filt')
    }
    if source_format == 'official':
        body = {_official_to_ours(key): value for key, value in body.items()}
    return source_format, body


def rename_head(weights: StateDict) -> dict[str, torch.Tensor]:
    """Return the weights of an original or timm's ML-Decoder under this project's names.

    Args:
        weights: Keys without ``head.``; those of this project's heads stay as they are.
    """
    renamed = {}
    for key, value in weights.items():
        for pattern, name in _ML_DECODER_NAMES:
            key = pattern.sub(name, key)
        if key == 'group_fc.weight' and value.dim() == 2 and value.shape[1] == 1:
            value = value.reshape(1, -1)  # the authors keep a shared layer as (embed_dims, 1)
        renamed[key] = value
    return renamed


def to_timm(state_dict: StateDict) -> dict[str, torch.Tensor]:
    """Return a backbone's weights as timm's TResNet takes them, batch norms in place of ABNs.

    The ABNs' eps is taken to be the published one, which timm's batch norms have too.

    Args:
        state_dict: Of a ``TResNet``, or of a model that has one at ``backbone.``; a linear
            classifier (``head.fc``) is kept, other parts than these are skipped.
    """
    converted = {}
    for key, value in _backbone_of(state_dict_of(state_dict)).items():
        if key.startswith(CLASSIFIER):
            converted[key] = value
            continue
        match = _NORM_KEY.match(key)
        if match is None:
            converted[f'body.{key}'] = value
            continue
        if match['kind'] == 'abn' and match['field'] == 'weight':
            value = abn_to_bn_weight(value)
        converted[f'body.{match["stem"]}bn.{match["field"]}'] = value
        if match['field'] == 'running_var':
            counter = f'body.{match["stem"]}bn.num_batches_tracked'
            converted.setdefault(counter, torch.zeros((), dtype=torch.long))
    return converted


def to_abn(state_dict: StateDict) -> dict[str, torch.Tensor]:
    """Return weights in this project's keys with every norm in its In-Place ABN notation.

    Args:
        state_dict: As :func:`to_ours` returns it.
    """
    converted = dict(state_dict)
    for key in state_dict:
        if key.endswith('.bn.weight'):
            adapt_norm_notation(converted, key.removesuffix('bn.weight'), 'abn')
    return converted


def abn_to_bn_weight(weight: torch.Tensor, eps: float = ABN_EPS) -> torch.Tensor:
    """Return the scale of an In-Place ABN, ``(C,) -> (C,)``: what a batch norm's weight must be."""
    return weight.abs() + eps


def bn_to_abn_weight(weight: torch.Tensor, eps: float = ABN_EPS) -> torch.Tensor:
    """Return the In-Place ABN weight whose scale is ``|weight|``, or eps where that is smaller."""
    return (weight.abs() - eps).clamp(min=0)


def adapt_norm_notation(state_dict: dict, prefix: str, name: str, eps: float = ABN_EPS) -> None:
    """Rename a norm under ``prefix`` to ``name`` (``'abn'`` or ``'bn'``), converting its weight.

    An In-Place ABN has no negative scale: ``s * (u - m) = |s| * (-u - -m)`` for ``s < 0``, so such
    a channel's filter and running mean change their sign instead.

    Args:
        state_dict: Changed in place: keys are replaced, tensors are not.
        prefix: Where the convolution (``conv``) and the norm stand, with the trailing dot.
        name: The notation of the module that is being loaded.
        eps: Of that module's norm.
    """
    other = 'bn' if name == 'abn' else 'abn'
    fields = [k for k in state_dict if k.startswith(f'{prefix}{other}.')]
    norm = {k.rpartition('.')[2]: state_dict.pop(k) for k in fields}
    if name == 'abn':
        norm.pop('num_batches_tracked', None)
    if 'weight' in norm and name == 'bn':
        norm['weight'] = abn_to_bn_weight(norm['weight'], eps)
    elif 'weight' in norm:
        sign = torch.where(norm['weight'] < 0, -1.0, 1.0).to(norm['weight'].dtype)
        norm['weight'] = bn_to_abn_weight(norm['weight'], eps)
        if 'running_mean' in norm:
            norm['running_mean'] = norm['running_mean'] * sign
        filters = f'{prefix}conv.weight'
        if filters in state_dict:
            state_dict[filters] = state_dict[filters] * sign[:, None, None, None]
    for field, value in norm.items():
        state_dict[f'{prefix}{name}.{field}'] = value


def _official_to_ours(key: str) -> str:
    for pattern, replacement in _OFFICIAL_NAMES:
        key, count = pattern.subn(replacement, key)
        if count:
            break
    return key


def _backbone_of(weights: StateDict) -> StateDict:
    """Return the weights of the backbone and of a linear classifier out of a model's."""
    if not any(k.startswith('backbone.') for k in weights):
        return weights
    return {
        k.removeprefix('backbone.'): v
        for k, v in weights.items()
        if k.startswith(('backbone.', CLASSIFIER))
    }


def describe(state_dict: StateDict) -> str:
    """Return depths and width of a backbone in this project's keys, for messages."""
    depths: dict[str, int] = {}
    for key in state_dict:
        match = re.match(r'layer(\d)\.(\d+)\.', key)
        if match:
            depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    stem = state_dict.get('conv1.conv.weight')
    width = '?' if stem is None or not stem.dim() else stem.shape[0]
    return f'depths {tuple(depths[k] for k in sorted(depths))} at width {width}'


def find_arch(state_dict: StateDict) -> dict[str, Any]:
    """Return ``arch`` of the ``TResNet`` that has these weights.

    Slopes and anti-aliasing have no weights: they are taken to be those of the published models.

    Args:
        state_dict: As :func:`to_ours` returns it.

    Raises:
        InputError: If it has no stem.
    """
    stem = state_dict.get('conv1.conv.weight')
    if stem is None or stem.dim() != 4:
        raise InputError('these weights have no stem (conv1.conv.weight of 4 dimensions)')
    stages = [
        [key.split('.')[1:3] for key in state_dict if key.startswith(f'layer{stage}.')]
        for stage in (1, 2, 3, 4)
    ]
    parts = [{part for _, part in stage} for stage in stages]
    return dict(
        depths=tuple(max(1, len({number for number, _ in stage})) for stage in stages),
        width_factor=stem.shape[0] / 64,
        block_types=tuple('bottleneck' if 'conv3' in part else 'basic' for part in parts),
        se_stages=tuple('se' in part for part in parts),
        stem='conv' if stem.shape[-1] == 7 else 'space_to_depth',
    )


def check_tresnet(state_dict: StateDict, source: str) -> None:
    """Check what conversion computes with: norms are vectors, as long as their convolution.

    Args:
        state_dict: As :func:`to_ours` returns it.
        source: What errors call it.

    Raises:
        InputError: If a tensor is no float, or a norm does not fit its convolution.
    """
    for key, value in state_dict.items():
        match = _NORM_KEY.match(key)
        if key.endswith('num_batches_tracked'):
            continue
        if not value.is_floating_point():
            raise InputError(f'{source}: {key!r} is of {value.dtype}, not of a float type')
        if match:
            filters = state_dict.get(f'{match["stem"]}conv.weight', value)
            if value.dim() != 1 or filters.shape[:1] != value.shape:
                raise InputError(
                    f'{source}: the norm {key!r} is {tuple(value.shape)}, its convolution '
                    f'{tuple(filters.shape)}'
                )
