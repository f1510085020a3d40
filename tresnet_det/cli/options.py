"""What ``train`` and ``evaluate`` take by name, for type checkers.

Written by tests/tools/option_types.py from the tools' parsers, which alone decide when it is run.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal

from typing_extensions import TypedDict

Text = str | PathLike[str]


class Shared(TypedDict, total=False):
    """What both take."""

    cfg_options: Mapping[str, Any]
    work_dir: Text | None
    data: Text | None
    data_root: Text | None
    demo: bool
    demo_full: bool
    launcher: Literal['none', 'pytorch', 'slurm', 'mpi'] | None


class TrainOptions(Shared, total=False):
    """See ``python -m tresnet_det train --help``."""

    epochs: int | None
    batch_size: int | None
    lr: float | None
    auto_scale_lr: bool
    amp: bool
    resume: Text | Literal[True] | None
    img_size: int | Text | None
    workers: int | None
    balance: bool
    device: str | None
    logger: Sequence[Literal['tensorboard', 'wandb', 'mlflow', 'clearml']]
    freeze: int | Text | None
    from_scratch: bool
    pretrained: Text | None


class EvaluateOptions(Shared, total=False):
    """See ``python -m tresnet_det test --help``."""

    out: Text | None
    show: bool
    show_dir: Text | None
    wait_time: float | None
    keep_thresholds: bool
    tta: bool
    slice: int | None
    overlap: float | None
