"""A work directory: its last whole checkpoint, its best one, its summary, and how to resume it."""

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..compat.checkpoint_io import load_checkpoint_file
from ..errors import InputError, MissingFileError
from ..files import write_whole
from .checkpoint_hook import RECORD
from .config import drop_pretrained

SUMMARY = 'summary.json'


def resume_from(cfg: Config, checkpoint: str) -> str | None:
    """Make a training resume from a checkpoint, which brings all weights.

    Args:
        cfg: With its ``work_dir``.
        checkpoint: A file, a work directory for the latest one in it, or ``'auto'`` for the
            config's own work directory.

    Returns:
        The checkpoint; None where the work directory has none yet: training starts from the
        beginning.

    Raises:
        MissingFileError: If the file does not exist.
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
            advice = f'; the newest whole one next to it is {whole}' if whole else ''
            raise InputError(f'--resume: {checkpoint} is {problem}{advice}')
    if not Path(checkpoint).is_file():
        raise MissingFileError(f'--resume: no checkpoint at {Path(checkpoint).resolve()}')
    cfg.resume = True
    cfg.load_from = checkpoint
    return checkpoint


def choose_weights(cfg: Config, resume: str | None, pretrained: str | None) -> None:
    """Decide what a training begins with: ``--resume``, then ``load_from``, then ``init_cfg``.

    Each has all the weights of those after it, which are dropped with a line each.

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
        print_log(f'--resume: no checkpoint in {cfg.work_dir} yet, starting from the beginning')
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
        reason = f'{record} is empty' if named == '' else f'{record} does not exist'
    whole = _newest_whole({Path(work_dir), path.parent} if named else {Path(work_dir)})
    if whole is not None:
        print_log(f'{reason}: taking {whole}', level=logging.WARNING)
    elif named is not None:
        raise InputError(
            f'{reason}, and no other checkpoint there is whole: give one, or remove {record} to '
            'start from the beginning'
        )
    return whole


def _newest_whole(folders: set[Path]) -> str | None:
    """Return the whole checkpoint of the most iterations from which a training can resume."""
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
        return 'not found'
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            return f'damaged (the checksum of {damaged} does not fit)' if damaged else None
        load_checkpoint_file(path)
    except PermissionError:
        raise
    except Exception as error:  # a corrupt archive can fail in any way at all
        return str(error).removeprefix(f'{path}: ').split(';')[0]
    return None


def write_summary(work_dir: Path, checkpoint: str, best: float | None, seconds: float) -> None:
    """Keep what a training came to next to its checkpoints.

    Args:
        work_dir: Of the training.
        checkpoint: The best checkpoint, or the last one; kept relative to the folder, if in it.
        best: The best validation's metric, None without validation.
        seconds: The training's duration, that of runs that it was resumed from included.
    """
    path, folder = Path(checkpoint).absolute(), work_dir.absolute()
    kept = path.relative_to(folder) if path.is_relative_to(folder) else path
    summary = dict(checkpoint=str(kept), best=best, seconds=seconds)
    write_whole(work_dir / SUMMARY, (json.dumps(summary, indent=2) + '\n').encode())


def read_seconds(work_dir: Path) -> float | None:
    """Return how long the training in that folder took, None where none ended there."""
    try:
        return float(json.loads((work_dir / SUMMARY).read_text())['seconds'])
    except (OSError, ValueError, KeyError, TypeError):  # none, or another program's
        return None


def find_checkpoint(path: str | Path) -> str:
    """Return a checkpoint file: the given one, or the best one of a work directory.

    Without a best one (no validation yet), it is the last one.

    Raises:
        MissingFileError: If there is none.
    """
    path = Path(path)
    if path.is_file():
        return str(path)
    best = sorted(path.glob('best_*.pth'), key=lambda file: file.stat().st_mtime)
    if best:
        return str(best[-1])
    last = find_last_checkpoint(path)
    if last is None or not Path(last).is_file():
        raise MissingFileError(
            f'no checkpoint at {path.resolve()}: name a file, or a work directory that has one'
        )
    return last
