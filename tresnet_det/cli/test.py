"""Measure a checkpoint: python tools/test.py configs/fcos_tresnet_m.py CHECKPOINT [--demo]."""

import argparse
import time
from pathlib import Path

from matplotlib import rc_context
from mmdet.registry import METRICS
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.runner import Runner

from ..compat.installed import tool_command
from ..engine import PredictionsImageHook
from ..engine import config as edit
from ..engine.building import build_runner, config_errors
from ..engine.work_dir import find_checkpoint, read_seconds
from ..errors import InputError, quote, shell_path
from ..evaluation import write_results_json
from ..inference.pipeline import build_pipeline
from ..inference.sliced import Slicing
from ..tasks import find_task
from . import command_line
from .command_line import out_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    command_line.add_config_options(parser)
    parser.add_argument(
        'checkpoint', help='checkpoint file, or a work directory for the best checkpoint in it'
    )
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='.json: the metrics, unrounded, and the per-class table (otherwise metrics.json in '
        'the work directory); .pkl: the predictions',
    )
    parser.add_argument('--show', action='store_true', help='show each prediction in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='draw each prediction into this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show waits')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    command_line.add_slice_options(parser)
    return command_line.parse_options(parser)


def main() -> None:
    setup_cache_size_limit_of_dynamo()
    args = parse_args()
    if args.out:
        out_file(args.out, '.json', '.pkl', '.pickle')
    args.checkpoint = find_checkpoint(args.checkpoint)
    if not args.work_dir:  # next to the training, whose config and log stay as they are
        args.work_dir = str(Path(args.checkpoint).parent / 'test')
    cfg = command_line.prepare_config(args, checkpoint=args.checkpoint)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show or args.show_dir:
        if not find_task(cfg).detects:
            raise InputError(
                '--show and --show-dir draw boxes; what a classifier predicts is in predictions.png'
            )
        edit.enable_drawing(cfg, args.show, args.wait_time, args.show_dir)
    if args.tta:
        if not find_task(cfg).detects:
            raise InputError('--tta is for detectors: omit it')
        edit.enable_test_time_augmentation(cfg)
    if args.slice and args.tta:
        raise InputError('--slice and --tta cannot go together: omit one')
    slicing = Slicing.of(cfg, args.slice, args.overlap) if args.slice else None
    command_line.check_data(args, cfg, ('test_dataloader',))

    runner = build_runner(cfg)
    if slicing:
        slicing.put_into(runner.model, build_pipeline(cfg))
    runner.register_hook(PredictionsImageHook())
    if args.out and not args.out.endswith('.json'):
        kind = 'DumpDetResults' if find_task(cfg).detects else 'DumpResults'
        dump = METRICS.build(dict(type=kind, out_file_path=args.out))
        runner.test_evaluator.metrics.append(dump)
    start = time.monotonic()
    # Names on the images of --show-dir are no formulas.
    with config_errors(), rc_context({'text.parse_math': False}):
        metrics = runner.test()
    if runner.rank == 0:
        report(runner, args, metrics, time.monotonic() - start)


def report(runner: Runner, args: argparse.Namespace, metrics: dict, seconds: float) -> None:
    """Write the metrics, and print where they and the images are."""
    work_dir = Path(runner.work_dir)
    file = Path(args.out) if args.out and args.out.endswith('.json') else work_dir / 'metrics.json'
    per_class = [
        row for m in runner.test_evaluator.metrics for row in getattr(m, 'per_class', None) or []
    ]
    write_results_json(
        file, metrics, per_class, dict(config=args.config, checkpoint=args.checkpoint)
    )
    count = len(runner.test_dataloader.dataset)
    tested = shell_path(args.checkpoint)
    print(f'\nTested {tested} on {count} images in {command_line.minutes(seconds)}')
    for name, value in find_task(runner.cfg).summarize(metrics).items():
        print(f'  {name:<14} {value:.4f}')
    if runner.cfg.get('demo_range'):
        low, high = runner.cfg.demo_range
        print(f'  expected       {low:g} to {high:g}, depending on seed and processor')
    training = read_seconds(Path(args.checkpoint).parent)
    if training:
        print(f'  trained in     {command_line.minutes(training)}')
    for name, path in (
        ('metrics', file),
        ('predictions', work_dir / 'predictions.png'),
        ('curves', Path(args.checkpoint).parent / 'curves.png'),
    ):
        if path.is_file():
            print(f'  {name:<14} {shell_path(path)}')
    print(f'  next           {next_command(args)}')


def next_command(args: argparse.Namespace) -> str:
    if args.demo:
        return (
            f'{tool_command("train")} {quote(args.config)} --data-root DIR   '
            '(data in the layout that the config names)'
        )
    options = ''
    for name, folder in (('--data', args.data), ('--data-root', args.data_root)):
        options += f' {name} {shell_path(folder)}' if folder else ''
    checkpoint = shell_path(args.checkpoint)
    return f'{tool_command("test")} {quote(args.config)} {checkpoint}{options} --show-dir DIR'
