"""Reading checkpoints without running code from them.

Everything goes through ``torch.load(weights_only=True)``: our own
:func:`load_checkpoint_file`, and every scheme of mmengine's ``CheckpointLoader`` (its downloads
ask torch for the unsafe way by default, on every torch). What was read goes through
:func:`~.checkpoint_content.check_content`. Inferencers would execute ``meta['cfg']`` where no
config is given: :mod:`.inferencers` refuses that. What a user names as a config is a program, and
is run.
"""

import contextlib
import errno
import functools
import json
import os
import pickle
import re
import threading
import urllib.error
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, MissingFileError
from .checkpoint_content import META_KEYS, check_content
from .detection import INSTALL, has_detection
from .skipped_types import skip_training_state

MapLocation = str | torch.device | Callable | dict | None

_FORCE, _FORCE_NOT = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
# The environment belongs to the process: two threads must not restore it in the wrong order.
_environment = threading.RLock()
# What torch's unpickler says when a file wants something that is not on the list.
_FORBIDDEN = re.compile(
    r'GLOBAL (\S+(?: [^ ]+\))?)|unrecognized function (.+)|but got (<class .+>)'
)
_ZIP, _PICKLE = b'PK', b'\x80'


def load_checkpoint_file(
    path: str | os.PathLike, map_location: MapLocation = 'cpu'
) -> dict[str, Any]:
    """Read a checkpoint, running no code from it.

    Args:
        path: a file of ``torch.save`` (.pth, .pt, ...), or a .safetensors file.
        map_location: where the tensors go, as in :func:`torch.load`; for .safetensors a device
            (a function or a dict reads them on the CPU).

    Returns:
        What was saved; for .safetensors the tensors by name, or these as ``state_dict`` and the
        ``meta`` that ``publish_weights.py`` wrote.

    Raises:
        MissingFileError: there is no such file.
        InputError: the file is truncated, no checkpoint, needs what is not allowed, or holds
            weights that are none.
    """
    return check_content(_read_file(path, map_location), os.fspath(path), _size(path))


def _read_file(path: str | os.PathLike, map_location: MapLocation) -> Any:
    path = Path(path).expanduser()
    if path.is_dir():
        raise InputError(f'{path} is a folder; name a checkpoint file in it')
    if not path.is_file():
        raise MissingFileError(f'{path}: no such checkpoint file')
    check_archive(path)
    if path.suffix == '.safetensors':
        return _load_safetensors(path, map_location)
    skipping = contextlib.nullcontext() if has_detection() else skip_training_state()
    try:
        with skipping:
            return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a corrupt pickle can fail in any way at all
        if _is_machines_fault(error):
            raise
        raise InputError(f'{path}: {_reason(path, error)}') from error


def _size(path: str | os.PathLike) -> int | None:
    path = Path(path).expanduser()
    return path.stat().st_size if path.is_file() else None


def check_archive(path: Path) -> None:
    """Raise an InputError where a file would unpack to more than it is; torch packs nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # no archive, or a damaged one, as torch will say
    if total > path.stat().st_size:
        raise InputError(
            f'{path}: not written by torch.save: {path.stat().st_size} bytes that would unpack to '
            f'{total}'
        )


def allow_mmengine_types() -> None:
    """Put what mmengine saves on torch's list of safe types, and nothing more."""
    from .safe_types import SAFE_TYPES

    torch.serialization.add_safe_globals(SAFE_TYPES)


def guard_mmengine_loader() -> None:
    """Make mmengine's ``CheckpointLoader`` read with ``weights_only=True``, whatever the scheme.

    Local files are read as by :func:`load_checkpoint_file`. The other schemes keep their loaders,
    which run with torch's own switch for the safe way.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    if getattr(CheckpointLoader.load_checkpoint, 'weights_only', False):
        return
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    unguarded = CheckpointLoader.load_checkpoint.__func__

    @functools.wraps(unguarded)
    def load_checkpoint(
        cls: type, filename: str, map_location: MapLocation = None, logger: str = 'current'
    ) -> dict[str, Any]:
        with _weights_only_forced():
            try:
                content = unguarded(cls, filename, map_location, logger)
            except InputError:
                raise  # of a local file
            except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
                if _is_machines_fault(error):
                    raise
                raise InputError(f'{filename}: {_download_reason(error)}') from error
        return check_content(content, filename, _size(filename))

    vars(load_checkpoint).update(weights_only=True)
    CheckpointLoader.load_checkpoint = classmethod(load_checkpoint)


def load_from_url(url: str) -> dict[str, Any]:
    """Read a checkpoint from an address that MMEngine knows, running no code from it.

    Raises:
        InputError: MMEngine is not installed, or it cannot be downloaded or read.
    """
    try:
        from mmengine.runner.checkpoint import CheckpointLoader
    except ImportError as error:
        raise InputError(
            f'{url}: download it and give the file; by its address, it needs MMEngine: {INSTALL}'
        ) from error
    return CheckpointLoader.load_checkpoint(url, map_location='cpu')


def load_from_local(filename: str, map_location: MapLocation = None) -> Any:
    """The scheme for local files; mmengine makes its log line from this function's name."""
    return _read_file(filename, map_location)


@contextlib.contextmanager
def _weights_only_forced() -> Iterator[None]:
    """Make every ``torch.load`` inside read weights only, also where its caller says otherwise."""
    with _environment:
        before = {name: os.environ.pop(name, None) for name in (_FORCE, _FORCE_NOT)}
        os.environ[_FORCE] = '1'
        try:
            yield
        finally:
            del os.environ[_FORCE]
            os.environ.update({name: value for name, value in before.items() if value is not None})


def _is_machines_fault(error: Exception) -> bool:
    """Whether reading failed for what this machine lacks, and not for what the file is."""
    if isinstance(error, PermissionError | MemoryError | torch.cuda.OutOfMemoryError):
        return True
    # a map_location, or tensors saved on a device, that this machine does not have
    return isinstance(error, RuntimeError) and 'deserialize object on' in str(error)


def _load_safetensors(path: Path, map_location: MapLocation) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(
            f'{path}: reading it needs safetensors: pip install safetensors'
        ) from error
    device = str(map_location) if isinstance(map_location, str | torch.device) else 'cpu'
    try:
        tensors = load_file(path, device=device)
        with safe_open(path, 'pt') as file:
            texts = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f'{path}: truncated, or no safetensors file ({error})') from error
    meta = {}
    for key in META_KEYS & texts.keys():
        with contextlib.suppress(ValueError, RecursionError):  # of a file that others wrote
            meta[key] = json.loads(texts[key])
    return dict(state_dict=tensors, meta=meta) if meta else tensors


def _reason(path: Path, error: Exception) -> str:
    """Return why a file could not be read, in a few words."""
    refusal = _refusal(error)
    if refusal is not None:
        return refusal
    if isinstance(error, OSError) and error.errno == errno.EIO:
        return 'unreadable (input/output error: the disk fails)'
    with path.open('rb') as file:
        magic = file.read(2)
    if not magic:
        return 'truncated: the file is empty'
    if 'TorchScript' in str(error):
        return 'not a checkpoint but a TorchScript program; save its state_dict()'
    if magic == _ZIP and not zipfile.is_zipfile(path):  # the table of contents comes last
        return 'truncated; copy or download it again'
    if magic == _ZIP or magic[:1] == _PICKLE:
        return f'truncated, corrupt or not written by torch.save ({_detail(error)})'
    return 'not a checkpoint (no file of torch.save)'


def _download_reason(error: Exception) -> str:
    """Return why what another scheme than the local one fetches could not be downloaded or read."""
    refusal = _refusal(error)
    if refusal is not None:
        return refusal
    if isinstance(error, urllib.error.HTTPError):
        return f'{error.url}: the server answers {error.code} {error.reason}'
    if isinstance(error, OSError):
        return f'cannot be downloaded ({getattr(error, "reason", None) or error})'
    return (
        f'truncated or no checkpoint ({_detail(error)}); delete the file that was downloaded to '
        f'{torch.hub.get_dir()}/checkpoints, then it is downloaded again'
    )


def _refusal(error: Exception) -> str | None:
    """Return which name a file was refused for, or None if it failed otherwise."""
    if not isinstance(error, pickle.UnpicklingError):
        return None
    found = _FORBIDDEN.search(str(error))
    if found is None:
        return None
    name = next(group for group in found.groups() if group)
    return (
        f'refused: it needs {name}, which is not on the list of what MMEngine saves (a type of '
        'your own that you trust can be allowed with torch.serialization.add_safe_globals)'
    )


def _detail(error: Exception) -> str:
    """Return the error's own words, without torch's advice to load it the unsafe way."""
    text = str(error).rpartition('WeightsUnpickler error: ')[2].strip()
    return (text or type(error).__name__).splitlines()[0][:120]
