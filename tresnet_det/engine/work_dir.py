"""What a training leaves in its work directory: the summary, and the best checkpoint."""

import json
from pathlib import Path

from ..errors import MissingFileError
from ..files import write_whole
from .resume import find_last_checkpoint

SUMMARY = 'summary.json'


def write_summary(work_dir: Path, checkpoint: str, best: float | None, seconds: float) -> None:
    """Keep what a training came to next to its checkpoints.

    Args:
        work_dir: Of the training.
        checkpoint: The best checkpoint, or the last one.
        best: The best validation's metric, None without validation.
        seconds: The training's duration, that of runs that it was resumed from included.
    """
    summary = dict(checkpoint=checkpoint, best=best, seconds=seconds)
    write_whole(work_dir / SUMMARY, (json.dumps(summary, indent=2) + '\n').encode())


def read_seconds(work_dir: Path) -> float | None:
    """Return how long the training in that folder took, None where none ended there."""
    path = work_dir / SUMMARY
    return json.loads(path.read_text())['seconds'] if path.is_file() else None


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
