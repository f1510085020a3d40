"""Weight files for others: converted between formats, or stripped of what only training needs."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..compat.checkpoint_content import META_KEYS
from ..errors import InputError
from ..files import write_whole
from .formats import check_tresnet, state_dict_of, to_abn, to_ours, to_timm
from .img_norm import IMG_NORM_CFG
from .load import read_checkpoint

FORMATS = ('timm', 'ours')
WEIGHTS = ('averaged', 'raw')
SUFFIXES = ('.pth', '.safetensors')


def convert(source: str | Path, target: str | Path, to: str = 'ours') -> int:
    """Write a TResNet's weights, and a linear classifier's, in another format.

    Args:
        source: A file in the official, timm's or this project's format, a whole detector's
            checkpoint, or ``timm://NAME``.
        target: The file to write, ``.pth`` or ``.safetensors``; one that exists is replaced.
        to: ``'timm'``, or ``'ours'`` with In-Place ABN norms.

    Returns:
        How many tensors were written.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If it holds no TResNet, ``target`` has another ending, or there is no such
            format.
    """
    _check_choice('to', to, FORMATS)
    checkpoint = read_checkpoint(source)
    _, weights = to_ours(checkpoint.weights, checkpoint.source)
    check_tresnet(weights, checkpoint.source)
    weights = to_timm(weights) if to == 'timm' else to_abn(weights)
    meta = {'input': checkpoint.meta.get('input') or IMG_NORM_CFG}
    write_weights(weights, target, meta, source)
    return len(weights)


def publish(
    source: str | Path,
    out_dir: str | Path | None = None,
    weights: str = 'averaged',
    suffix: str = '.pth',
) -> Path:
    """Write a training's checkpoint without what only training needs, named by its content.

    The model's weights, the classes, the config's text and the image normalization stay; optimizer,
    schedulers, message hub and the other of averaged and raw weights go.

    Args:
        source: A checkpoint of tools/train.py.
        out_dir: Where to write; None for the folder of ``source``.
        weights: ``'averaged'`` (those of the EMA hook where there was one, the model's where
            not) or ``'raw'``.
        suffix: ``'.pth'`` or ``'.safetensors'``.

    Returns:
        The file, ``NAME-HASH.suffix`` with the first eight digits of its SHA-256.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If it is no checkpoint with a ``state_dict``, has no raw weights, or
            ``weights`` or ``suffix`` is none of those.
    """
    _check_choice('weights', weights, WEIGHTS)
    _check_choice('suffix', suffix, SUFFIXES)
    source = Path(source)
    checkpoint = read_checkpoint(source)
    if 'state_dict' not in checkpoint.content:
        raise InputError(f'{source} has no state_dict: give a checkpoint of tools/train.py')
    tensors = checkpoint.weights
    if weights == 'raw':
        if 'ema_state_dict' not in checkpoint.content:
            raise InputError(
                f'{source} has no raw weights next to averaged ones: drop --weights raw'
            )
        # mmengine keeps there what the averaging model wraps, and its step counter.
        raw = {k: v for k, v in checkpoint.content['ema_state_dict'].items() if k != 'steps'}
        tensors = state_dict_of(raw)
    kept = {key: value for key, value in checkpoint.meta.items() if key in META_KEYS}
    folder = Path(out_dir) if out_dir else source.parent
    folder.mkdir(parents=True, exist_ok=True)
    unnamed = folder / f'{source.stem}{suffix}.unnamed{suffix}'
    write_weights(tensors, unnamed, kept, source)
    digest = hashlib.sha256(unnamed.read_bytes()).hexdigest()
    return unnamed.rename(folder / f'{source.stem}-{digest[:8]}{suffix}')


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f'{name}={value!r} is not one of {", ".join(choices)}')


def write_weights(
    weights: Mapping[str, torch.Tensor],
    target: str | Path,
    meta: Mapping[str, object],
    source: str | Path,
) -> None:
    """Write tensors and what is known of them, all or nothing.

    Args:
        weights: By key.
        target: ``.pth`` (a dict of ``state_dict`` and ``meta``) or ``.safetensors`` (``meta`` as
            JSON in its metadata).
        meta: Plain values.
        source: The file that they are from, for messages.

    Raises:
        InputError: If ``target`` has another ending, or ``meta`` holds other values.
    """
    target = Path(target)
    if target.suffix not in SUFFIXES:
        raise InputError(f'{target}: give a file that ends in {" or ".join(SUFFIXES)}')
    texts = {}
    for key, value in meta.items():
        try:
            texts[key] = json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f'{source}: meta[{key!r}] holds no plain values ({error})') from error
    # Each tensor its own memory: formats store views whole, and safetensors refuses shared ones.
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
    if target.suffix == '.pth':
        write_pickle({'state_dict': tensors, 'meta': dict(meta)}, target)
    else:
        from safetensors.torch import save

        write_whole(target, save(tensors, texts))


def write_pickle(content: object, target: str | Path) -> None:
    """Write what torch saves, whole or not at all.

    By way of memory: torch's own error for a full disk does not name it.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(target, buffer.getvalue())
