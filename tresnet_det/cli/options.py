"""What ``train`` and ``evaluate`` take by name, for type checkers.

Written by tests/tools/option_types.py from the tools' parsers, which alone decide when it is run.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

from typing_extensions import TypedDict

Text = str | PathLike[str]


class TrainOptions(TypedDict, total=False):
    """See ``python -m tresnet_det train --help``."""

    work_dir: Text | None
    data_root: Text | None
    data: Text | None
    demo: bool
    demo_full: bool
    cfg_options: Mapping[str, Any]
    launcher: Literal['none', 'pytorch', 'slurm', 'mpi'] | None
    from_scratch: bool
    pretrained: Text | None
    amp: bool
    auto_scale_lr: bool
    resume: Text | Literal[True] | None


class EvaluateOptions(TypedDict, total=False):
    """See ``python -m tresnet_det test --help``."""

    work_dir: Text | None
    data_root: Text | None
    data: Text | None
    demo: bool
    demo_full: bool
    cfg_options: Mapping[str, Any]
    launcher: Literal['none', 'pytorch', 'slurm', 'mpi'] | None
    out: Text | None
    show: bool
    show_dir: Text | None
    wait_time: float | None
    keep_thresholds: bool
    tta: bool
    slice: int | None
    overlap: float | None
