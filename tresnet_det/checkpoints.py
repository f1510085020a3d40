"""Weights of a TResNet between the published formats, timm's and this project's.

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

All functions on state dicts are pure, but for :func:`adapt_norm_notation`, which torch calls on the
copy that ``load_state_dict`` makes.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from .compat.checkpoint_io import load_checkpoint_file
from .errors import InputError
from .input_convention import CONVENTION, MEND, compare, read_convention

StateDict = Mapping[str, torch.Tensor]

ABN_EPS = 1e-5  # the eps of every published In-Place ABN, for the variance and for |w|
HUB_PREFIX = 'timm://'
CLASSIFIER = 'head.fc.'  # in all three formats

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


@dataclass(frozen=True)
class LoadReport:
    """What became of the keys of a checkpoint.

    Attributes:
        source: The file or what else the weights came from.
        source_format: ``'official'``, ``'timm'`` or ``'ours'``.
        loaded: Keys of the backbone that have their weights now.
        missing: Keys of the backbone that the source lacks.
        unexpected: Keys of the source that the backbone lacks; classifier heads are left out.
    """

    source: str
    source_format: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        text = (
            f'{self.source} ({self.source_format} format): {len(self.loaded)} tensors loaded, '
            f'{len(self.missing)} missing, {len(self.unexpected)} unexpected'
        )
        for name in ('missing', 'unexpected'):
            keys = getattr(self, name)
            if keys:
                text += f'; {name}: {", ".join(keys[:5])}{", ..." if len(keys) > 5 else ""}'
        return text


def load_backbone_weights(
    model: nn.Module, path_or_state_dict: str | Path | StateDict, strict: bool = True
) -> LoadReport:
    """Load published, timm's or this project's weights into a TResNet, and log what was loaded.

    Stages that the backbone does not build, and classifier heads, are passed over.

    Args:
        model: A ``TResNet``, or a model that has one at ``.backbone``.
        path_or_state_dict: A ``.pth`` or ``.safetensors`` file, ``timm://NAME`` for timm's weights
            on the hub (``timm://tresnet_m.miil_in1k``), or a state dict.
        strict: Whether any missing or unexpected tensor is an error. Otherwise fewer than 95 % of
            the backbone's loaded is.

    Returns:
        What became of the keys.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If the file is unreadable, no TResNet, of another arch, or lacks tensors.
    """
    backbone = getattr(model, 'backbone', model)
    source, content = open_source(path_or_state_dict)
    source_format, weights = to_ours(content, source)
    weights = {
        k: v
        for k, v in weights.items()
        if not k.startswith(CLASSIFIER) and not _is_unbuilt_stage(k, backbone)
    }

    own_weights = backbone.state_dict()
    own, given = _by_notation_free_key(own_weights), _by_notation_free_key(weights)
    loaded = {k: own[k] for k in own if k in given}
    for key, name in loaded.items():
        theirs, ours = tuple(weights[given[key]].shape), tuple(own_weights[name].shape)
        if theirs != ours:
            raise InputError(
                f'{source} is of another arch: {given[key]} is {theirs} there and {ours} in the '
                f'model; the file has {_describe(weights)}, the model {_describe(own_weights)}'
            )
    report = LoadReport(
        source,
        source_format,
        loaded=tuple(loaded.values()),
        missing=tuple(own[k] for k in own if k not in given),
        unexpected=tuple(given[k] for k in given if k not in own),
    )
    needed = 1.0 if strict else 0.95
    if len(loaded) < needed * len(own) or (strict and report.unexpected):
        raise InputError(
            f'{report}; the file has {_describe(weights)}, the model {_describe(own_weights)}'
        )
    backbone.load_state_dict(weights, strict=False)
    print_log(f'loaded backbone weights from {report}', logger='current')
    data_preprocessor = getattr(model, 'data_preprocessor', None)
    if data_preprocessor is not None:
        found = read_convention(data_preprocessor)
        warning = compare(found, CONVENTION, "TResNet's weights")
        if warning:
            print_log(f'{warning}: set {MEND}', logger='current', level=logging.WARNING)
    return report


def to_ours(content: Mapping[str, Any], source: str = 'state dict') -> tuple[str, StateDict]:
    """Return the format's name and the weights under this project's keys.

    The norms stay in the notation that the source has (``abn`` or ``bn``): the backbone converts
    while it loads. A linear classifier stays beside the backbone as ``head.fc``.

    Args:
        content: As :func:`tensors_in` takes it.
        source: How errors call it.

    Raises:
        InputError: If it holds no TResNet.
    """
    weights = _unwrap(content)
    source_format = next(
        (name for name, key in _FORMATS.items() if any(key.match(k) for k in weights)), None
    )
    if source_format is None:
        some = ', '.join(list(weights)[:3]) or 'nothing'
        raise InputError(
            f'{source} holds no TResNet in the official, timm or own format; it begins with {some}'
        )
    if source_format == 'ours':
        return source_format, weights
    body = {
        k.removeprefix('body.'): v
        for k, v in weights.items()
        # The official blur stores its fixed filter, which is no weight.
        if k.startswith(('body.', CLASSIFIER)) and not k.endswith('.filt')
    }
    if source_format == 'timm':
        return source_format, body
    renamed = {}
    for key, value in body.items():
        new = key
        for pattern, replacement in _OFFICIAL_NAMES:
            new, count = pattern.subn(replacement, new)
            if count:
                break
        renamed[new] = value
    return source_format, renamed


def to_timm(state_dict: StateDict) -> dict[str, torch.Tensor]:
    """Return a backbone's weights as timm's TResNet takes them, batch norms in place of ABNs.

    The ABNs' eps is taken to be the published one, which timm's batch norms have too.

    Args:
        state_dict: Of a ``TResNet``, or of a model that has one at ``backbone.``; a linear
            classifier (``head.fc``) is kept, other parts than these are left out.
    """
    converted = {}
    for key, value in _unwrap(state_dict).items():
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


def open_source(path_or_state_dict: str | Path | StateDict) -> tuple[str, Mapping[str, Any]]:
    """Return how messages call a source of weights, and what it holds.

    Args:
        path_or_state_dict: As :func:`load_backbone_weights` takes it.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If it cannot be had or read.
    """
    if isinstance(path_or_state_dict, Mapping):
        return 'state dict', path_or_state_dict
    return str(path_or_state_dict), read_checkpoint(path_or_state_dict)


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """Return what a file, a URL that mmengine knows, or ``timm://NAME`` holds.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If it cannot be had or read.
    """
    path = str(path)
    if path.startswith(HUB_PREFIX):
        return load_checkpoint_file(_download(path))
    if '://' in path:
        return CheckpointLoader.load_checkpoint(path, map_location='cpu')
    return load_checkpoint_file(path)


def _download(path: str) -> str:
    """Return where the hub's cache has the weights of ``timm://NAME``."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise InputError(
            f'{path} needs huggingface_hub and safetensors: pip install "tresnet_det[hub]"'
        ) from error
    try:
        return hf_hub_download(f'timm/{path.removeprefix(HUB_PREFIX)}', 'model.safetensors')
    except Exception as error:  # the hub's errors are of many kinds: no network, no such name, ...
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f'cannot get {path} from the hub: {reason}') from error


def tensors_in(content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint by key, without the ``module.`` of a wrapped model.

    Args:
        content: A state dict, or a checkpoint that holds one at ``state_dict`` or ``model``.
    """
    for key in ('state_dict', 'model'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
    return {k.removeprefix('module.'): v for k, v in content.items() if torch.is_tensor(v)}


def _unwrap(content: Mapping[str, Any]) -> StateDict:
    """Return the tensors of the backbone and of a linear classifier out of a checkpoint."""
    weights = tensors_in(content)
    if not any(k.startswith('backbone.') for k in weights):
        return weights
    return {
        k.removeprefix('backbone.'): v
        for k, v in weights.items()
        if k.startswith(('backbone.', CLASSIFIER))
    }


def _by_notation_free_key(state_dict: StateDict) -> dict[str, str]:
    """Return the keys by a name that does not tell ``abn`` from ``bn``, batch counters left out."""
    keys = {}
    for key in state_dict:
        match = _NORM_KEY.match(key)
        if match is None:
            keys[key] = key
        elif match['field'] != 'num_batches_tracked':
            keys[f'{match["stem"]}norm.{match["field"]}'] = key
    return keys


def _is_unbuilt_stage(key: str, backbone: nn.Module) -> bool:
    match = re.match(r'layer(\d)\.', key)
    return match is not None and not hasattr(backbone, f'layer{match[1]}')


def _describe(state_dict: StateDict) -> str:
    """Return depths and width of a backbone in this project's keys, for messages."""
    depths: dict[str, int] = {}
    for key in state_dict:
        match = re.match(r'layer(\d)\.(\d+)\.', key)
        if match:
            depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    width = state_dict['conv1.conv.weight'].shape[0] if 'conv1.conv.weight' in state_dict else '?'
    return f'depths {tuple(depths[k] for k in sorted(depths))} at width {width}'
