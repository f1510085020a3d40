"""What the command line tools share: common options, and errors in one line."""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.logging import print_log

from ..datasets.checks import check_dataloader_cfg
from ..errors import InputError
from . import config as edit

EXIT_USER_ERROR = 2

# mmengine's registry puts the class it was building before the message of any error.
_BUILT_FROM = re.compile(r'^(class `\w+` in \S+: )+')
_ERROR_TYPE = re.compile(r'^[\w.]+(Error|Exception): ')


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool; print a user's mistake as one line and exit with status 2."""
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


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Look at the annotations and pictures of these data loaders before anything is built.

    Raises:
        InputError: If they would stop training or make it pointless.
    """
    num_classes = edit.get_num_classes(cfg)
    for name in loaders:
        loader = cfg.get(name)
        for warning in check_dataloader_cfg(loader['dataset'], num_classes) if loader else ():
            print_log(f'{name}: {warning}', level='WARNING')
