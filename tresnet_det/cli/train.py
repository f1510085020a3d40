"""Train a model from a config: python tools/train.py configs/fcos_tresnet_m.py [--demo]."""

import argparse
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.logging import print_log
from mmengine.runner import Runner

from ..backbone.tresnet import MIN_SIDE
from ..compat.installed import tool_command
from ..engine import ProgressBarHook, SafeCheckpointHook, building, settings
from ..engine import config as edit
from ..engine.loggers import LOGGERS, add_loggers
from ..engine.work_dir import find_last_checkpoint
from ..errors import InputError, quote, shell_path
from ..evaluation.report import write_summary
from ..values import describe
from . import command_line
from .config_values import typed


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='The flags change the config; --cfg-options comes after them and wins. '
        'docs/howto/training_options.md says more of each.',
    )
    groups = command_line.add_config_options(parser)
    _add_training_options(groups['training'])
    groups['data'].add_argument(
        '--img-size',
        type=image_size,
        metavar='SIZE',
        help='what images are scaled to: 640 for a square, 1333x800 for width x height; crops and '
        'scales of the training keep their ratio to it; best multiples of 32',
    )
    groups['machine'].add_argument(
        '--workers',
        type=typed('train_dataloader.num_workers'),
        metavar='N',
        help=describe('train_dataloader.num_workers') + '; 0: none',
    )
    groups['data'].add_argument(
        '--balance',
        action='store_const',
        const=True,
        help='draw images of rare classes more often: by repeat factors (LVIS), or all classes '
        'equally often where each image has one; an epoch stays as long',
    )
    groups['machine'].add_argument(
        '--device', type=device, metavar='DEVICE', help='cpu, cuda, or cuda:N for the GPU number N'
    )
    groups['logging'].add_argument(
        '--logger',
        action='append',
        choices=LOGGERS,
        help='keep losses and metrics, of each class too, with this package as well; may be given '
        'several times; needs no network (WANDB_MODE=offline, CLEARML_OFFLINE_MODE=1; MLflow keeps '
        'a file in the work directory unless MLFLOW_TRACKING_URI is set)',
    )
    groups['weights'].add_argument(
        '--freeze',
        type=stages,
        metavar='N',
        help="keep the backbone's first stages as they are: 0 for the stem, 1 to 4 for so many "
        'stages too, "backbone" for all of it',
    )
    weights = groups['weights'].add_mutually_exclusive_group()
    weights.add_argument(
        '--from-scratch',
        action='store_true',
        help='instead of the pretrained weights that the config names',
    )
    weights.add_argument(
        '--pretrained',
        metavar='CHECKPOINT',
        help='start from another training (a file, or its work directory for the best one): all '
        'that fits, outputs of classes by their names; or from the weights of a backbone: of '
        'another task, a published file, or timm://NAME',
    )
    args = command_line.parse_options(parser, words)
    if args.freeze is not None and (args.from_scratch or (args.demo and not args.pretrained)):
        parser.error('argument --freeze: random weights would stay as they are: give --pretrained')
    if args.device and args.launcher != 'none':
        parser.error('argument --device: not allowed with --launcher: each process has its own GPU')
    return args


def _add_training_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--epochs',
        type=typed('train_cfg.max_epochs'),
        metavar='N',
        help=describe('train_cfg.max_epochs') + '; the schedule ends with it, its warm-up stays',
    )
    group.add_argument(
        '--batch-size',
        type=typed('train_dataloader.batch_size'),
        metavar='N',
        help=describe('train_dataloader.batch_size'),
    )
    rate = group.add_mutually_exclusive_group()
    rate.add_argument(
        '--lr',
        type=typed('optim_wrapper.optimizer.lr'),
        metavar='RATE',
        help=describe('optim_wrapper.optimizer.lr') + '; its peak, not scaled to the batch',
    )
    rate.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the config's learning rate to the real batch size, where it does not already",
    )
    group.add_argument('--amp', action='store_true', help='train in mixed precision')
    group.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint, or from the latest one in the work directory; give the '
        'other flags again',
    )


def image_size(text: str) -> tuple[int, int]:
    """Return width and height of ``SIZE`` or ``WIDTHxHEIGHT``, for ``type=`` of an option."""
    sides = text.split('x')
    if len(sides) > 2 or not all(side.isdecimal() and int(side) >= MIN_SIDE for side in sides):
        raise argparse.ArgumentTypeError(
            f'{text!r} is no size: give 640 or 1333x800, of at least {MIN_SIDE} pixels a side'
        )
    return int(sides[0]), int(sides[-1])


def stages(text: str) -> int | str:
    """Return a number of stages, or ``backbone``, likewise."""
    if text not in ('backbone', *'01234'):
        raise argparse.ArgumentTypeError(f'{text!r} is not 0 to 4 or backbone')
    return text if text == 'backbone' else int(text)


def device(text: str) -> str:
    """Return ``cpu``, ``cuda`` or ``cuda:N``, likewise."""
    if not re.fullmatch('cpu|cuda(:[0-9]+)?', text):
        raise argparse.ArgumentTypeError(f'{text!r} is not cpu, cuda or cuda:N')
    return text


def main() -> None:
    run(parse_args())


def run(args: argparse.Namespace) -> Runner:
    """Train, print what came out, and return the runner."""
    setup_cache_size_limit_of_dynamo()
    if args.device:
        settings.use_device(args.device)
    cfg = command_line.prepare_config(args, args.from_scratch, args.pretrained)
    if args.amp:
        edit.enable_amp(cfg)
    if args.auto_scale_lr:
        edit.enable_lr_scaling(cfg)
    for change in edit.make_resumable(cfg):
        print_log(f'for an exact resume: {change}')
    kept = building.choose_weights(cfg, args.resume, args.pretrained)
    if args.logger:
        add_loggers(cfg, args.logger)
    command_line.check_data(args, cfg, ('train_dataloader', 'val_dataloader'))

    runner = building.build_runner(cfg, kept)
    runner.logger.info(building.count_parameters(runner, args.freeze == 'backbone'))
    start = time.monotonic()
    try:
        with building.config_errors():
            runner.train()
    except KeyboardInterrupt:
        last = find_last_checkpoint(runner.work_dir)
        resume = f'--resume continues from {last}' if last else 'no checkpoint was saved yet'
        raise KeyboardInterrupt(resume) from None
    except ValueError as error:
        if 'parameter group' in str(error):
            raise InputError(
                f'--resume: {cfg.load_from} was trained with other parameters frozen; give the '
                'options that it was started with (--from-scratch, --freeze, frozen_stages)'
            ) from error
        raise
    finally:  # an error's line must not end up behind the bar
        for hook in runner.hooks:
            if isinstance(hook, ProgressBarHook):
                hook.after_train(runner)
    if runner.rank == 0:
        summarize(runner, args.config, time.monotonic() - start)
    return runner


def best_metrics(runner: Runner) -> dict[str, float]:
    """Return the metrics of the best checkpoint's validation; without one, of the last."""
    scalars = {
        name.removeprefix('val/'): buffer.data[0]
        for name, buffer in runner.message_hub.log_scalars.items()
        if name.startswith('val/') and name not in ('val/time', 'val/data_time')
    }
    best, place = runner.message_hub.get_info('best_score'), -1
    for hook in runner.hooks:
        if isinstance(hook, SafeCheckpointHook) and hook.save_best and best is not None:
            # 'auto', the first metric, has its name only after a validation of this process.
            values = scalars.get(hook.key_indicators[0], next(iter(scalars.values())))
            place = int(np.flatnonzero(values == best)[0])
    return {name: float(values[place]) for name, values in scalars.items() if len(values) > place}


def summarize(runner: Runner, config: str, seconds: float) -> None:
    """Print what came out, where it is, and what to do next; keep it as summary.json."""
    folder = Path(runner.work_dir)
    info = runner.message_hub.runtime_info
    checkpoint = info.get('best_ckpt') or info.get('last_ckpt')
    best = info.get('best_score')
    if checkpoint is None:  # a config without CheckpointHook
        return
    saving = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
    total = seconds + max((hook.seconds_before for hook in saving), default=0.0)
    write_summary(folder, checkpoint, best, total)
    since = f', {command_line.minutes(seconds)} since the resume' * runner._resume
    print(f'\nTrained {quote(config)} in {command_line.minutes(total)}{since}')
    if best is not None:
        names = [hook.key_indicators[0] for hook in saving if hook.save_best] or ['metric']
        print(f'  best {names[0]}  {best:.4f}')
    print(f'  checkpoint  {shell_path(checkpoint)}')
    if (folder / 'curves.png').is_file():
        print(f'  curves      {shell_path(folder / "curves.png")}')
    # The config as it was run, with all that the command line changed, is in the work directory.
    as_run = shell_path(folder / Path(runner.cfg.filename).name)
    print(f'  next        {tool_command("test")} {as_run} {shell_path(folder)}')
