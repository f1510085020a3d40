"""A work directory that was moved or copied: what it keeps is found where it is now."""

import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

MARKS = ('last_checkpoint', 'summary.json')  # one of them is in a work directory


def use_present_paths(cfg: Config, folder: Path) -> None:
    """Let a config that a training kept name what is in its folder now.

    Its ``work_dir`` becomes the folder, and a path below the old one the same path below the new
    one, where that exists: the annotations of ``--data``, a checkpoint.

    Args:
        cfg: As it was kept; changed in place.
        folder: Where it lies. Unless that is a work directory, nothing is changed.
    """
    kept, folder = cfg.get('work_dir'), folder.absolute()
    if not isinstance(kept, str) or not any((folder / mark).is_file() for mark in MARKS):
        return
    old = Path(os.path.normpath(kept)).parts
    for key, value in cfg.items():
        cfg[key] = _present(value, old, folder)
    if Path(os.path.abspath(kept)) != folder:
        cfg.work_dir = str(folder)


def _present(node: Any, old: tuple[str, ...], folder: Path) -> Any:
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = _present(value, old, folder)
    elif isinstance(node, (list, tuple)):
        return type(node)(_present(value, old, folder) for value in node)
    elif isinstance(node, str) and os.sep in node and '\0' not in node:
        parts = Path(os.path.normpath(node)).parts
        for start in range(len(parts) - len(old)):  # a relative one was below any folder
            now = folder.joinpath(*parts[start + len(old) :])
            if old and parts[start : start + len(old)] == old and now.exists():
                return node if os.path.abspath(node) == str(now) else str(now)
    return node
