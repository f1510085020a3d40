"""The one loader: a file's weights into a model, and a report of what fitted.

All doors end here: ``init_cfg`` of the backbone and of the heads, the Runner (its hook
``CheckpointGuardHook``), the predictor and the export. :func:`fit_weights` compares names and
shapes, :class:`LoadReport` gives the result in one line, and fewer tensors than a door needs are an
error.
"""

import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compat.checkpoint_content import check_content, shared_name
from ..compat.checkpoint_io import load_checkpoint_file, load_from_url
from ..compat.log import print_log
from ..errors import InputError, few, printable
from .formats import HEAD, StateDict, describe, find_format, rename_head, state_dict_of, to_ours
from .hub import HUB_PREFIX, download
from .img_norm import IMG_NORM_CFG, warn_of_other_img_norm

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds, or a dict of the same form.

    Attributes:
        source: The file, for messages.
        content: All of it, checked by :func:`~tresnet_det.compat.checkpoint_content.check_content`.
    """

    source: str
    content: Mapping[str, Any]

    @cached_property
    def weights(self) -> StateDict:
        """The tensors by their names, without the ``module.`` of a wrapped model."""
        return state_dict_of(self.content)

    @property
    def meta(self) -> Mapping[str, Any]:
        """What a training wrote about itself; empty where there is none."""
        meta = self.content.get('meta')
        return meta if isinstance(meta, Mapping) else {}

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes that it was trained on, None where it does not say."""
        return classes_of(self.meta)


def classes_of(meta: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes in a checkpoint's ``meta``, None where it has none.

    Each is another one, since outputs are known by them: of ImageNet's two cranes, the second is
    ``'crane (2)'``.
    """
    of_data = meta.get('dataset_meta') or meta  # MMDetection 2 had them there
    names = of_data.get('classes') or of_data.get('CLASSES')  # the keys that check_content knows
    found, counts = dict[str, None](), Counter[str]()
    for name in map(str, names or ()):
        own = name
        while own in found or counts[name] == 0:
            counts[name] += 1
            own = f'{name} ({counts[name]})' if counts[name] > 1 else name
        found[own] = None
    return tuple(found) or None


Source = str | Path | Mapping[str, Any] | Checkpoint


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a checkpoint.

    Attributes:
        source: The file or what else the weights came from.
        source_format: ``'official'``, ``'timm'`` or ``'ours'``.
        loaded: The model's keys that have their weights now.
        missing: The model's keys that the source lacks.
        unexpected: The source's keys that the model lacks.
        mismatched: The model's keys of another shape in the source: (the model's, the source's).
        class_count: Those of ``mismatched`` in a head that differ in the number of outputs alone.
    """

    source: str
    source_format: str = 'ours'
    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)
    class_count: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the model's tensors that are loaded, in [0, 1]; ``class_count`` apart."""
        counted = len(self.loaded) + len(self.missing) + len(self.mismatched)
        counted -= len(self.class_count)
        return len(self.loaded) / counted if counted else 0.0

    @property
    def complete(self) -> bool:
        """Whether the model's tensors are all loaded."""
        return not self.missing and not self.mismatched

    def __str__(self) -> str:
        parts = [f'{len(self.loaded)} tensors loaded']
        for name in ('missing', 'unexpected'):
            if keys := getattr(self, name):
                parts.append(f'{len(keys)} {name} ({_some(keys)})')
        if self.mismatched:
            # The shape that tells most: not one that differs by the classes alone.
            keys = sorted(self.mismatched, key=lambda k: k in self.class_count)
            ours, theirs = self.mismatched[keys[0]]
            parts.append(
                f'{len(keys)} of another shape ({_some(keys)}): {keys[0]} is {ours} in the model '
                f'and {theirs} in the file'
            )
        origin = '' if self.source_format == 'ours' else f' ({self.source_format} format)'
        return f'{self.source}{origin}: {", ".join(parts)}'

    def log(self) -> None:
        """Print the line; a warning where the model and the file are not the same."""
        clean = self.complete and not self.unexpected
        print_log(str(self), logging.INFO if clean else logging.WARNING)

    def refuse(self, advice: str = '') -> InputError:
        """Return the error: why this is too little, and what to do."""
        if not advice and not self.missing and len(self.class_count) == len(self.mismatched):
            advice = (
                'it was trained for another number of classes: give the config that it was '
                'trained with, or use it as load_from to fine-tune'
            )
        elif not advice and not self.loaded:
            advice = (
                'it holds another kind of model; weights of a backbone alone belong into '
                'model.backbone.init_cfg'
            )
        advice = advice or 'it looks like another arch: give the config that it was trained with'
        return InputError(f'{self}. It does not fit the model: {advice}')


def read_checkpoint(source: Source) -> Checkpoint:
    """Read a checkpoint, running no code from it.

    Args:
        source: A ``.pth`` or ``.safetensors`` file, a URL that mmengine knows, ``timm://NAME``
            for timm's weights on the hub, a state dict, or a checkpoint that was read already.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If it cannot be downloaded or read, or holds something unexpected.
    """
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, Mapping):
        return Checkpoint('state dict', check_content(source, 'state dict'))
    name = str(source)
    if name.startswith(HUB_PREFIX):
        return Checkpoint(name, load_checkpoint_file(download(name)))
    if '://' in name:
        return Checkpoint(name, load_from_url(name))
    return Checkpoint(name, load_checkpoint_file(name))


def load_weights(model: nn.Module, source: Source) -> LoadReport:
    """Load the whole of a model, and log what was loaded.

    Args:
        model: The model that the checkpoint was saved from.
        source: As :func:`read_checkpoint` takes it.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If it is unreadable, or a tensor is missing or has another shape.
    """
    checkpoint = read_checkpoint(source)
    report, state_dict = fit_weights(model.state_dict(), checkpoint.weights, checkpoint.source)
    if not report.complete:
        raise report.refuse()
    model.load_state_dict(state_dict)
    report.log()
    warn_of_other_img_norm(model, checkpoint.meta.get('input'), checkpoint.source)
    return report


def load_backbone_weights(
    model: nn.Module, path_or_state_dict: Source, strict: bool = True
) -> LoadReport:
    """Load published, timm's or this project's weights into a TResNet, and log what was loaded.

    Stages that the backbone does not build, and classifier heads, are skipped.

    Args:
        model: A ``TResNet``, or a model that has one at ``.backbone``.
        path_or_state_dict: As :func:`read_checkpoint` takes it.
        strict: Whether any missing or unexpected tensor is an error. Otherwise less than 95 % of
            the backbone's loaded is. Another shape always is.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If the file is unreadable, no TResNet, of another arch, or lacks tensors.
    """
    backbone = getattr(model, 'backbone', model)
    checkpoint = read_checkpoint(path_or_state_dict)
    source_format, weights = to_ours(checkpoint.weights, checkpoint.source)
    weights = {
        k: v
        for k, v in weights.items()
        if not k.startswith(HEAD) and not _is_unbuilt_stage(k, backbone)
    }
    own = backbone.state_dict()
    report, state_dict = fit_weights(own, weights, checkpoint.source, source_format)
    strictly = report.complete and not report.unexpected
    if report.mismatched or not (strictly if strict else report.share >= 0.95):
        raise report.refuse(
            f'it is of another arch: the file has {describe(weights)}, the model {describe(own)}'
        )
    backbone.load_state_dict(state_dict)
    report.log()
    trained_with = checkpoint.meta.get('input') or IMG_NORM_CFG
    warn_of_other_img_norm(model, trained_with, checkpoint.source)
    return report


def load_head_weights(model: nn.Module, path_or_state_dict: Source) -> LoadReport:
    """Load the head of a published or own checkpoint, all of it, and log that.

    A linear head reads the classifiers of the original TResNet, ASL and timm files, an ML-Decoder
    those of the original ML-Decoder and timm's. For another number of classes there is nothing to
    load: train that head.

    Args:
        model: A head, or a model that has one at ``.head``.
        path_or_state_dict: As :func:`read_checkpoint` takes it; of it, what begins with ``head.``.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If the file is unreadable, has no head, or not one of this kind and size.
    """
    head = getattr(model, 'head', model)
    checkpoint = read_checkpoint(path_or_state_dict)
    weights = {k.removeprefix(HEAD): v for k, v in checkpoint.weights.items() if k.startswith(HEAD)}
    if not weights:
        raise InputError(
            f'{checkpoint.source} has no head: no key begins with {HEAD!r}, the first are '
            f'{few(checkpoint.weights, 3)}'
        )
    source_format = find_format(checkpoint.weights) or 'ours'
    own = head.state_dict()
    report, state_dict = fit_weights(own, rename_head(weights), checkpoint.source, source_format)
    if not report.complete or report.unexpected:
        raise report.refuse(f'its head is no {type(head).__name__} with {head.num_classes} classes')
    head.load_state_dict(state_dict)
    report.log()
    return report


def fit_weights(
    own: StateDict, weights: StateDict, source: str, source_format: str = 'ours'
) -> tuple[LoadReport, dict[str, torch.Tensor]]:
    """Compare a checkpoint's weights with a model's by name and shape; a pure function.

    A leading ``module.`` (DDP, test-time augmentation) does not count, nor which of its two
    notations a norm has (``abn``, ``bn``): the modules convert when they load. Batch counters
    (``num_batches_tracked``) may be missing.

    Args:
        own: The model's state dict.
        weights: The checkpoint's.
        source: What messages call it.
        source_format: What the report calls its format.

    Returns:
        The report, and a state dict that the model loads strictly: its own, in which everything
        that fits is the checkpoint's.

    Raises:
        InputError: If a tensor is of another type, such as bool for float.
    """
    own_keys, given = _by_shared_name(own), _by_shared_name(weights)
    loaded, missing, mismatched = [], [], {}
    state_dict = OrderedDict((_bare(key), value) for key, value in own.items())
    vars(state_dict)['_metadata'] = getattr(weights, '_metadata', None)
    for name, key in own_keys.items():
        if name not in given:
            missing.append(_bare(key))
            continue
        ours, theirs = own[key], weights[given[name]]
        if ours.shape != theirs.shape:
            mismatched[_bare(key)] = (tuple(ours.shape), tuple(theirs.shape))
            continue
        if ours.is_floating_point() != theirs.is_floating_point():
            raise InputError(
                f'{source}: {given[name]!r} is of {theirs.dtype}, the model has {ours.dtype}'
            )
        del state_dict[_bare(key)]
        state_dict[_bare(given[name])] = theirs
        loaded.append(_bare(key))
    for key in set(weights) - set(given.values()):  # batch counters
        if _bare(key) in state_dict and weights[key].shape == state_dict[_bare(key)].shape:
            state_dict[_bare(key)] = weights[key]
    report = LoadReport(
        source,
        source_format,
        tuple(loaded),
        tuple(missing),
        tuple(_bare(key) for name, key in given.items() if name not in own_keys),
        mismatched,
        tuple(key for key in mismatched if 'head' in key and _only_outputs_differ(key, mismatched)),
    )
    return report, state_dict


def _only_outputs_differ(key: str, mismatched: Mapping[str, tuple[Shape, Shape]]) -> bool:
    """Whether a tensor, or the weight whose bias it is, differs in dimension 0 alone.

    A vector does not tell a number of classes from a width: the weight of its layer does.
    """
    if len(mismatched[key][0]) == 1:
        key = f'{key.rpartition(".")[0]}.weight'
    ours, theirs = mismatched.get(key, ((), ()))
    return len(ours) > 1 and ours[1:] == theirs[1:]


def _by_shared_name(state_dict: StateDict) -> dict[str, str]:
    """Return the keys of the tensors by a name that is the same in both notations of a norm."""
    return {
        shared_name(key): key
        for key, value in state_dict.items()
        if torch.is_tensor(value) and not key.endswith('num_batches_tracked')
    }


def _some(keys: Sequence[str]) -> str:
    return ', '.join(printable(key[:80]) for key in keys[:3]) + ', ...' * (len(keys) > 3)


def _bare(key: str) -> str:
    return key.removeprefix('module.')


def _is_unbuilt_stage(key: str, backbone: nn.Module) -> bool:
    match = re.match(r'layer(\d)\.', key)
    return match is not None and not hasattr(backbone, f'layer{match[1]}')
