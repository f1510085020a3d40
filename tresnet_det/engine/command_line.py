"""What the command line tools share: common options, and errors in one line."""

import argparse
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..datasets.checks import check_dataloader_cfg
from ..errors import InputError, MissingFileError
from . import config as edit

EXIT_USER_ERROR = 2
SUMMARY = 'summary.json'  # of a training, in its work directory

# mmengine's registry puts the class it was building before the message of any error.
_BUILT_FROM = re.compile(r'^(class `\w+` in \S+: )+')
_ERROR_TYPE = re.compile(r'^[\w.]+(Error|Exception): ')


# What the stack below says of itself at every run, and what nobody can act on.
_STACK_NOISE = re.compile(r'^paramwise_options -- |"FileClient" will be|"HardDiskBackend" is the')


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool; print a user's mistake as one line and exit with status 2."""
    warnings.filterwarnings('ignore', message='torch.meshgrid')
    try:
        main()
    except InputError as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def one_line(error: Exception) -> str:
    """Return an error's own message, without the wrappings of registry and data loader workers."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1:  # a worker process sends its traceback along, the message last
        lines = [_ERROR_TYPE.sub('', lines[-1])]
    return _BUILT_FROM.sub('', lines[0]) if lines else type(error).__name__


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the options by which train.py and test.py change a config."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and pictures')
    parser.add_argument(
        '--data-root', metavar='DIR', help="folder of the data, in the layout of the config's own"
    )
    parser.add_argument(
        '--demo',
        action='store_true',
        help='the embedded data (handwritten digits) and a schedule of minutes, from scratch',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. train_dataloader.batch_size=4',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who starts the processes of a distributed run',
    )
    # torch.distributed.launch passes it in either spelling.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def prepare_config(args: argparse.Namespace, demo_overlay: Path) -> Config:
    """Read the config and apply the common options, ``--cfg-options`` last.

    Args:
        args: With the options of :func:`add_config_options`.
        demo_overlay: The config that ``--demo`` puts over.

    Raises:
        InputError: If the config, an option or the data does not fit.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = edit.load_config(args.config)
    cfg.launcher = args.launcher
    if args.demo:
        _apply_demo(cfg, demo_overlay, args.data_root)
    elif args.data_root:
        edit.set_data_root(cfg, args.data_root)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = edit.default_work_dir(args.config, '_demo' if args.demo else '')
    edit.use_this_machine(cfg)
    return cfg


def _apply_demo(cfg: Config, overlay_path: Path, data_root: str | None) -> None:
    from ..datasets.demo_digits import make_demo_data

    overlay = edit.load_config(overlay_path)
    edit.put_over(cfg, overlay)
    edit.set_num_classes(cfg, len(overlay.classes))
    edit.use_random_weights(cfg)
    cfg.load_from = None
    root = make_demo_data(data_root or overlay.data_root)
    edit.set_data_root(cfg, root)
    print_log(f'--demo: embedded data at {root}, random weights, {overlay.max_epochs} epochs')


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, without the stack's remarks on itself in its log.

    Raises:
        InputError: If the model or the data of the config does not fit together.
    """
    runner = Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)
    runner.logger.addFilter(lambda record: not _STACK_NOISE.search(record.getMessage()))
    return runner


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Look at the annotations and pictures of these data loaders before anything is built.

    Raises:
        InputError: If they would stop training or make it pointless.
    """
    num_classes = edit.get_num_classes(cfg)
    for name in loaders:
        loader = cfg.get(name)
        for warning in check_dataloader_cfg(loader['dataset'], num_classes) if loader else ():
            print_log(f'{name}: {warning}', level=logging.WARNING)


def write_summary(
    work_dir: Path, config: str, checkpoint: str, best: float | None, seconds: float
) -> None:
    """Keep what a training came to beside its checkpoints.

    Args:
        work_dir: Of the training.
        config: The config's path.
        checkpoint: The best checkpoint, or the last one.
        best: The best validation's bbox mAP in [0, 1], None without validation.
        seconds: The training's duration.
    """
    summary = dict(config=config, checkpoint=checkpoint, best_bbox_mAP=best, seconds=seconds)
    (work_dir / SUMMARY).write_text(json.dumps(summary, indent=2) + '\n')


def read_summary(work_dir: Path) -> dict | None:
    """Return what :func:`write_summary` kept, None where no training ended in that folder."""
    path = work_dir / SUMMARY
    return json.loads(path.read_text()) if path.is_file() else None


def find_checkpoint(path: str | Path) -> str:
    """Return a checkpoint file: the given one, or the best one of a work directory.

    Raises:
        MissingFileError: If there is none.
    """
    path = Path(path)
    if path.is_file():
        return str(path)
    summary = read_summary(path)
    found = path / Path(summary['checkpoint']).name if summary else None
    if found is None or not found.is_file():
        raise MissingFileError(f'no checkpoint at {path.resolve()}')
    return str(found)


def minutes(seconds: float) -> str:
    """Return a duration as people say it."""
    return f'{int(seconds // 60)} min {int(seconds % 60)} s'
