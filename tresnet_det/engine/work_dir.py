"""A work directory: its config, its last and best checkpoint; how a training resumes from it."""

import logging
import os
import zipfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..compat.checkpoint_io import check_archive, load_checkpoint_file
from ..errors import InputError, MissingFileError, printable, shown
from .checkpoint_hook import RECORD

LONGEST_PATH = 4096


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
        raise MissingFileError(f'--resume: no checkpoint at {Path(checkpoint).absolute()}')
    cfg.resume = True
    cfg.load_from = checkpoint
    return checkpoint


def find_last_checkpoint(work_dir: str | Path) -> str | None:
    """Return the last checkpoint of a training, None if it has written none.

    It is the one that ``last_checkpoint`` names, if it is whole. Otherwise a warning says why not
    and which is: of the others, the one with the most iterations.

    Raises:
        InputError: There are checkpoints, and none is whole.
    """
    record = Path(work_dir, RECORD)
    named = None
    if record.is_file():
        with record.open('rb') as file:
            named = file.read(LONGEST_PATH).decode(errors='replace').strip()
    if named:
        path = record.parent / Path(named).name  # first: the folder may have moved
        if not os.path.isfile(path):  # of any text, where Path's own may raise
            path = Path(named)
        problem = _find_problem(path)
        if problem is None:
            return str(path)
        name = printable(path if len(str(path)) < 300 else shown(str(path)))
        reason = f'{name}, which {RECORD} names, is {problem.replace(str(path), name)}'
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
    if not os.path.isfile(path):
        return 'not found'
    try:
        if zipfile.is_zipfile(path):
            check_archive(path)
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            return f'damaged (the checksum of {damaged} does not fit)' if damaged else None
        load_checkpoint_file(path)
    except PermissionError:
        raise
    except Exception as error:  # a corrupt archive can fail in any way at all
        return str(error).removeprefix(f'{path}: ').split(';')[0]
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
            f'no checkpoint at {path.absolute()}: name a file, or a work directory that has one'
        )
    return last


def find_run(model: object) -> tuple[Path, Path]:
    """Return the config of a training and where its checkpoint is.

    Args:
        model: Its work directory, or a checkpoint in there.

    Raises:
        MissingFileError: There is no such thing, or no config.
        InputError: It is a config, or there are several.
    """
    if not isinstance(model, str | os.PathLike) or '::' in str(model) or str(model).endswith('.py'):
        raise InputError(f'a config needs a checkpoint too: give one after {shown(model)}')
    path = Path(model)
    if not path.exists():
        raise MissingFileError(f'no work directory or checkpoint at {path.absolute()}')
    return find_run_config(path if path.is_dir() else path.parent), path


def find_run_config(work_dir: str | Path) -> Path:
    """Return the config that a training kept in its work directory, as it was run.

    Raises:
        MissingFileError: There is none, or no such folder.
        InputError: There are several.
    """
    if not Path(work_dir).is_dir():
        raise MissingFileError(
            f"no folder {work_dir}: give a training's work directory, or its config and checkpoint"
        )
    found = sorted(Path(work_dir).glob('*.py'))
    if not found:
        raise MissingFileError(
            f'{work_dir} has no config of a training: name the config, then the checkpoint'
        )
    if len(found) > 1:
        names = ', '.join(path.name for path in found)
        raise InputError(f'{work_dir} has several configs ({names}): name one, then the checkpoint')
    return found[0]
