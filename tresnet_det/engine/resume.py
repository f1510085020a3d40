"""How a training is made to be interrupted, and found again."""

import logging
import zipfile
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from ..compat.checkpoint_io import load_checkpoint_file
from ..errors import InputError, MissingFileError
from .checkpoint_hook import RECORD
from .config import drop_pretrained

_LOOPS = {
    'EpochBasedTrainLoop': 'ResumableEpochTrainLoop',
    EpochBasedTrainLoop: 'ResumableEpochTrainLoop',
    'IterBasedTrainLoop': 'ResumableIterTrainLoop',
    IterBasedTrainLoop: 'ResumableIterTrainLoop',
}
_HOOKS = ('CheckpointHook', CheckpointHook)


def make_resumable(cfg: Config) -> None:
    """Put this project's children of mmengine's checkpoint hook and training loops in their place.

    They take the same arguments. A hook or loop of the config's own stays, and so does
    ``checkpoint=None``.
    """
    train = cfg.get('train_cfg')
    if train:
        if 'type' not in train:  # mmengine's short form
            by_epoch = train.pop('by_epoch', True)
            train['type'] = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
        train['type'] = _LOOPS.get(train['type'], train['type'])
    if not cfg.get('default_hooks'):
        cfg.default_hooks = dict()
    hooks = cfg.default_hooks
    hooks.setdefault('checkpoint', ConfigDict(type='CheckpointHook', interval=1))  # mmengine's own
    for hook in [hooks.checkpoint, *(cfg.get('custom_hooks') or [])]:
        if isinstance(hook, dict) and hook.get('type') in _HOOKS:
            hook['type'] = 'SafeCheckpointHook'
    # For what reads the config that is kept in the work directory.
    imports = cfg.setdefault('custom_imports', ConfigDict(imports=[], allow_failed_imports=False))
    if 'tresnet_det.engine' not in imports['imports']:
        imports['imports'] = [*imports['imports'], 'tresnet_det.engine']


def resume_from(cfg: Config, checkpoint: str) -> str | None:
    """Make a training go on from a checkpoint, which brings all weights.

    Args:
        cfg: With its ``work_dir``.
        checkpoint: A file, a work directory for the latest one in it, or ``'auto'`` for the
            config's own work directory.

    Returns:
        The checkpoint; None where the work directory has none yet and training starts anew.

    Raises:
        MissingFileError: If the file is not there.
        InputError: If it is damaged.
    """
    if checkpoint == 'auto':
        found = find_last_checkpoint(cfg.work_dir)
        if found is None:
            return None
        checkpoint = found
    elif Path(checkpoint).is_dir():
        checkpoint = find_last_checkpoint(checkpoint) or checkpoint
    elif Path(checkpoint).is_file():
        problem = _find_problem(Path(checkpoint))
        if problem:
            whole = _newest_whole({Path(checkpoint).parent})
            advice = f'; the newest whole one beside it is {whole}' if whole else ''
            raise InputError(f'--resume: {checkpoint} is {problem}{advice}')
    if not Path(checkpoint).is_file():
        raise MissingFileError(f'--resume: no checkpoint at {Path(checkpoint).resolve()}')
    cfg.resume = True
    cfg.load_from = checkpoint
    return checkpoint


def choose_weights(cfg: Config, resume: str | None, pretrained: str | None) -> None:
    """Decide what a training begins with: ``--resume``, then ``load_from``, then ``init_cfg``.

    Each has all the weights of those after it, which are dropped with a line that says so.

    Args:
        cfg: With its ``work_dir``, and ``pretrained`` in its backbone's ``init_cfg``.
        resume: See :func:`resume_from`; None for a training that is not resumed.
        pretrained: What ``--pretrained`` names.

    Raises:
        MissingFileError: If there is no such checkpoint.
        InputError: If it is corrupt, or ``--pretrained`` and ``load_from`` are both given.
    """
    if pretrained and cfg.get('load_from'):
        raise InputError(
            f'--pretrained {pretrained}: load_from={cfg.load_from} has the weights of the backbone '
            'too; drop --pretrained, or add --cfg-options load_from=None'
        )
    if resume and not resume_from(cfg, resume):
        print_log(f'--resume: no checkpoint in {cfg.work_dir} yet, training starts from epoch 1')
    if cfg.get('load_from'):
        chosen = '--resume' if cfg.get('resume') else 'load_from'
        for change in drop_pretrained(cfg, str(cfg.load_from)):
            print_log(f'{chosen}: {change}')


def find_last_checkpoint(work_dir: str | Path) -> str | None:
    """Return the last checkpoint of a training, None if it has written none.

    It is the one that ``last_checkpoint`` names, if it is whole. Otherwise a warning says why not
    and which is: of the others, the one with the most iterations.

    Raises:
        InputError: There are checkpoints, and none is whole.
    """
    record = Path(work_dir, RECORD)
    named = record.read_text(errors='replace').strip() if record.is_file() else None
    if named:
        path = record.with_name(Path(named).name)  # first: the folder may have moved
        if not path.is_file():
            path = Path(named)
        problem = _find_problem(path)
        if problem is None:
            return str(path)
        reason = f'{path}, which {RECORD} names, is {problem}'
    else:
        reason = f'{record} is empty' if named == '' else f'{record} is not there'
    whole = _newest_whole({Path(work_dir), path.parent} if named else {Path(work_dir)})
    if whole is not None:
        print_log(f'{reason}: taking {whole}', level=logging.WARNING)
    elif named is not None:
        raise InputError(
            f'{reason}, and no other checkpoint there is whole: give one, or remove {record} to '
            'start anew'
        )
    return whole


def _newest_whole(folders: set[Path]) -> str | None:
    """Return the whole checkpoint of the most iterations from which a training can go on."""
    found: dict[str, Any] = {}
    for path in {path for folder in folders for path in folder.glob('*.pth')}:
        if _find_problem(path) is None:
            content = load_checkpoint_file(path)
            if 'optimizer' in content and 'iter' in (content.get('meta') or {}):
                found[str(path)] = (content['meta']['iter'], path.stat().st_mtime)
    return max(found, key=found.__getitem__, default=None)


def _find_problem(path: Path) -> str | None:
    """Return what is wrong with a checkpoint's file, None if nothing is.

    torch reads a file whose bits have changed without a word, though it stores checksums.
    """
    if not path.is_file():
        return 'not there'
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            return f'damaged (the checksum of {broken} does not fit)' if broken else None
        load_checkpoint_file(path)
    except PermissionError:
        raise
    except Exception as error:  # a broken archive can fail in any way at all
        return str(error).removeprefix(f'{path}: ').split(';')[0]
    return None
