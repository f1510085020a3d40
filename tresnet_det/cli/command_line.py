"""The options that tools share, and the config that these make.

PyTorch is imported where a config is read: a tool without one, ``evaluate.py``, starts without it.
"""

import argparse
import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..errors import InputError, printable
from ..values import check_values
from .config_values import KeyValueAction

if TYPE_CHECKING:
    from mmengine.config import Config


def positive(text: str) -> int:
    """Return a whole number from 1, for ``type=`` of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number above 0')
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number') from None


def share(text: str) -> float:
    """Return a number from 0 to 1, likewise."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not between 0 and 1')
    return value


def above_zero(text: str) -> float:
    """Return a finite number above 0, likewise."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text} is not a number above 0')
    return value


def out_folder(path: str | Path, option: str = '--out-dir') -> Path:
    """Make a folder for results, before minutes are spent on them.

    Raises:
        InputError: It cannot be made, or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{option} {folder} cannot be made: {error.strerror}') from error
    if not os.access(folder, os.W_OK):
        raise InputError(f'{option} {folder} cannot be written to')
    return folder


def out_file(path: str | Path, *endings: str) -> Path:
    """Return the file, or the beginning of files, that ``--out`` names; its folder is made.

    Args:
        path: As given.
        endings: What its name may end in, such as ``'.onnx'``; any, where there are none.

    Raises:
        InputError: The name ends otherwise, is a folder's, or cannot be written.
    """
    file = Path(path)
    if endings and file.suffix not in endings:
        raise InputError(f'--out {path}: give a file that ends in {" or ".join(endings)}')
    if endings and file.is_dir():
        raise InputError(f'--out {path} is a folder: give a file')
    out_folder(file.parent, f'--out {path}:')
    return file


def add_cfg_options(parser: argparse._ActionsContainer, example: str) -> None:
    """Add ``--cfg-options``, an empty dict by default; the help shows the example."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default={},
        action=KeyValueAction,
        metavar='KEY=VALUE',
        help=f'override settings of the config, e.g. {example}',
    )


def add_slice_options(parser: argparse._ActionsContainer) -> None:
    """Add ``--slice`` and ``--overlap``, for large images."""
    parser.add_argument(
        '--slice',
        type=positive,
        metavar='PIXELS',
        help='predict tiles of this side too, for small objects in large images',
    )
    parser.add_argument(
        '--overlap',
        type=share,
        default=0.2,
        metavar='SHARE',
        help='of a tile, best as large as an object (0.2)',
    )


def add_checkpoint(parser: argparse.ArgumentParser, others: str) -> None:
    """Add the second argument of a tool, which a work directory as the first one makes needless."""
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help=f'checkpoint file, a work directory for the best checkpoint in it{others}; omit it '
        'where CONFIG is a work directory, or a checkpoint in one, which was trained by the config '
        'in there',
    )


def find_config(args: argparse.Namespace) -> None:
    """Take the config that a training kept, where its work directory is all that is given."""
    from ..engine.work_dir import find_run

    if args.checkpoint is None:
        args.config, args.checkpoint = map(str, find_run(args.config))


def add_config_options(parser: argparse.ArgumentParser) -> dict[str, argparse._ArgumentGroup]:
    """Add the options by which train.py and test.py change a config; return their groups."""
    names = ('data', 'training', 'weights', 'logging', 'machine')
    groups = {name: parser.add_argument_group(name) for name in names}
    parser.add_argument('config', help='config file')
    add_cfg_options(parser, 'train_dataloader.batch_size=4')
    groups['logging'].add_argument('--work-dir', help='folder for logs, checkpoints and images')
    data, machine = groups['data'], groups['machine']
    data.add_argument(
        '--data',
        metavar='FOLDER',
        help='your own data in the layout of COCO, Pascal VOC, YOLO (or its data.yaml), of CSV or '
        'class folders for classifiers: classes, splits and learning rate follow it',
    )
    data.add_argument(
        '--data-root', metavar='DIR', help="folder of the data, in the layout of the config's own"
    )
    add_demo_options(data)
    machine.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who starts the processes of a distributed run',
    )
    # torch.distributed.launch passes it in either spelling.
    machine.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
    )
    return groups


def add_demo_options(parser: argparse._ActionsContainer) -> None:
    """Add ``--demo`` and ``--demo-full``."""
    demo = parser.add_mutually_exclusive_group()
    demo.add_argument(
        '--demo',
        action='store_const',
        const='small',
        help='the embedded data (handwritten digits), a small network of the same kind and a '
        'schedule of minutes, from scratch',
    )
    demo.add_argument(
        '--demo-full',
        action='store_const',
        const='full',
        dest='demo',
        help="the same data with the config's own network: 13 times the work",
    )


def parse_options(
    parser: argparse.ArgumentParser, words: Sequence[str] | None = None
) -> argparse.Namespace:
    """Read the command line; options that exclude each other are argparse's error.

    Args:
        parser: Of the tool.
        words: What Python code gives instead, whose mistakes are an InputError.
    """
    from ..engine import processes

    if words is not None:
        parser.error = _refuse  # type: ignore[method-assign]

    launcher = argparse.ArgumentParser(add_help=False)
    launcher.add_argument('--launcher', nargs='?')
    # Before the whole is read: of several processes, only one reports what is wrong with it.
    processes.take_place(launcher.parse_known_args(words)[0].launcher)
    args = parser.parse_args(words)
    processes.check_place(args.launcher)
    for name, value in (('--data-root', args.data_root), ('--demo', args.demo)):  # they may be both
        if args.data and value:
            parser.error(f'argument {name}: not allowed with argument --data')
    return args


def _refuse(message: str) -> NoReturn:
    raise InputError(message)


def prepare_config(
    args: argparse.Namespace,
    from_scratch: bool = False,
    pretrained: str | None = None,
    checkpoint: str | None = None,
) -> 'Config':
    """Read the config and apply the common options, ``--cfg-options`` last.

    Args:
        args: With the options of :func:`add_config_options`.
        from_scratch: Whether to take the pretrained weights out.
        pretrained: What the backbone starts from: a file, a work directory for the best
            checkpoint in it, or ``timm://NAME``.
        checkpoint: What is tested, None for a training: ``--data`` is checked against its classes.

    Raises:
        InputError: If the config, an option or the data does not fit.
    """
    from mmengine.logging import print_log

    from ..engine import building, own_data, processes, settings
    from ..engine import config as edit
    from ..engine.work_dir import find_checkpoint

    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = edit.load_config(args.config)
    cfg.launcher = args.launcher
    options = args.cfg_options.items()
    edit.override(cfg, {key: value for key, value in options if key.startswith('env_cfg')})
    edit.check_parts(cfg)
    processes.join(cfg)
    work_dir = _choose_work_dir(args, cfg)
    folder, data = getattr(args, 'data', None), None  # not an option of every tool
    with processes.local_main_process_first():
        if args.demo:
            _apply_demo(cfg, args.data_root, args.demo == 'full')
        own_data.print_lines(settings.apply(cfg, vars(args)))
        if folder:
            data = own_data.use_folder(cfg, folder, Path(work_dir, 'data'), checkpoint)
            own_data.print_lines(own_data.describe(data))
        elif args.data_root and not args.demo:
            edit.set_data_root(cfg, args.data_root)
    if from_scratch:
        for change in edit.use_random_weights(cfg):
            print_log(f'--from-scratch: {change}')
    if pretrained:
        checkpoint_file = pretrained if '://' in pretrained else find_checkpoint(pretrained)
        same = Path(checkpoint_file).absolute().parent == Path(work_dir).absolute()
        if same and not getattr(args, 'resume', None):
            raise InputError(
                f'--pretrained {pretrained}: the training would write among its files: give '
                'another --work-dir'
            )
        edit.use_backbone_weights(cfg, checkpoint_file)
    if args.cfg_options:
        edit.override(cfg, args.cfg_options)
        edit.check_parts(cfg)
    cfg.work_dir = work_dir
    check_values(cfg)
    edit.use_this_machine(cfg)
    building.count_classes(cfg)
    if data is not None and checkpoint is None:
        lines = own_data.fit_training(cfg, data, args.cfg_options)
        own_data.print_lines([own_data.summarize_data(cfg, data), *(f'  {line}' for line in lines)])
    return cfg


def _choose_work_dir(args: argparse.Namespace, cfg: 'Config') -> str:
    given = args.work_dir or args.cfg_options.get('work_dir') or cfg.get('work_dir')
    if given:
        return str(given)
    suffix = {'small': '_demo', 'full': '_demo_full'}.get(args.demo, '')
    if getattr(args, 'data', None):  # two sets under one config are two trainings
        path = Path(os.path.realpath(args.data))  # where resolve() raises for a link to itself
        name = f'{path.parent.name}_{path.stem}' if path.is_file() else path.name
        suffix = '_' + re.sub(r'[^\w.-]+', '_', name)
    stem = Path(args.config.rpartition('::')[2]).stem
    return f'./work_dirs/{stem}{suffix}'  # as MMDetection's


def _apply_demo(cfg: 'Config', data_root: str | None, full: bool) -> None:
    from mmengine.logging import print_log

    from ..engine import config as edit
    from ..engine import own_data
    from ..tasks import find_task

    task = find_task(cfg)
    own_data.check_masks(cfg, '--demo', has_masks=False)
    edit.use_demo(cfg, edit.load_config(task.overlay), full)
    root = task.make_demo(data_root or cfg.data_root)
    edit.set_data_root(cfg, root)
    print_log(f'--demo: embedded data at {printable(root)}')


def check_data(args: argparse.Namespace, cfg: 'Config', loaders: tuple[str, ...]) -> None:
    """Look at the annotations and images of these data loaders before anything is built.

    Boxes of ``--data`` are not read again, unless ``--cfg-options`` may have named others.

    Args:
        args: Of the command line.
        cfg: The config.
        loaders: Keys of it, such as ``train_dataloader``; those that it does not have are skipped.

    Raises:
        InputError: If they would stop training or make it pointless.
    """
    from mmengine.logging import print_log

    from ..engine import config as edit
    from ..readers.config import check_classification, check_detection
    from ..tasks import find_task

    num_classes = edit.get_num_classes(cfg)
    loaders = tuple(filter(cfg.get, loaders))
    if not find_task(cfg).detects:
        names = {name.removesuffix('_dataloader'): cfg[name]['dataset'] for name in loaders}
        check_classification(names, num_classes)
        return
    if args.data and not args.cfg_options:
        return
    for name in loaders:
        split, needs_truth = name.removesuffix('_dataloader'), edit.needs_ground_truth(cfg, name)
        for warning in check_detection(cfg[name]['dataset'], split, num_classes, needs_truth):
            print_log(f'{name}: {printable(warning)}', level=logging.WARNING)


def minutes(seconds: float) -> str:
    """Return a duration in minutes and seconds."""
    return f'{int(seconds // 60)} min {int(seconds % 60)} s'
