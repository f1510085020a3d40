"""Measure a checkpoint: python tools/test.py WORK_DIR, or CONFIG CHECKPOINT."""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from mmdet.registry import HOOKS, METRICS
from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EarlyStoppingHook

from ..compat.installed import tool_command
from ..engine import PredictionsImageHook
from ..engine.building import build_runner, config_errors
from ..engine.loggers import drop_loggers
from ..engine.work_dir import find_checkpoint
from ..errors import InputError, MissingFileError, quote, shell_path
from ..evaluation import write_results_json
from ..evaluation.report import read_seconds
from ..inference.pipeline import build_pipeline, predicts_masks
from ..inference.sliced import Slicing
from ..tasks import SINGLE_LABEL, built_type, find_task, type_name
from . import command_line
from .command_line import out_file
from .exported import measure_exported
from .reports import explain_results, keep_results, keep_thresholds


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    command_line.add_config_options(parser)
    command_line.add_checkpoint(parser, ', or an exported .onnx')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='.json: the metrics, unrounded, and the per-class table (otherwise metrics.json in '
        'the work directory); .pkl: the predictions',
    )
    parser.add_argument('--show', action='store_true', help='show each prediction in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='draw each prediction into this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show waits')
    parser.add_argument(
        '--keep-thresholds',
        action='store_true',
        help='write the scores of the best F1 into the checkpoint, for predict.py --score-thr auto',
    )
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    command_line.add_slice_options(parser)
    return command_line.parse_options(parser, words)


def main() -> None:
    run(parse_args())


def run(args: argparse.Namespace) -> dict:
    """Measure, print and keep what came out, and return the metrics; ``args`` gets what it took."""
    setup_cache_size_limit_of_dynamo()
    command_line.find_config(args)
    if args.out:
        out_file(args.out, '.json', '.pkl', '.pickle')
    if args.checkpoint.endswith('.onnx'):
        return test_exported(args)
    args.checkpoint = find_checkpoint(args.checkpoint)
    if not args.work_dir:  # next to the training, whose config and log stay as they are
        args.work_dir = str(Path(args.checkpoint).parent / 'test')
    cfg = command_line.prepare_config(args, checkpoint=args.checkpoint)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    drop_loggers(cfg)
    _drop_early_stopping(cfg)
    if args.show or args.show_dir:
        if not find_task(cfg).detects:
            raise InputError(
                '--show and --show-dir draw boxes; what a classifier predicts is in predictions.png'
            )
        _enable_drawing(cfg, args.show, args.wait_time, args.show_dir)
    if args.tta:
        if not find_task(cfg).detects:
            raise InputError('--tta is for detectors: omit it')
        _enable_test_time_augmentation(cfg)
    if args.keep_thresholds and find_task(cfg) is SINGLE_LABEL:
        raise InputError('--keep-thresholds: a single-label classifier has no thresholds: omit it')
    if args.slice and args.tta:
        raise InputError('--slice and --tta cannot go together: omit one')
    slicing = Slicing.of(cfg, args.slice, args.overlap) if args.slice else None
    command_line.check_data(args, cfg, ('test_dataloader',))

    runner = build_runner(cfg)
    if slicing:
        slicing.put_into(runner.model, build_pipeline(cfg))
    drawing = PredictionsImageHook(file_name=None)
    runner.register_hook(drawing)
    explained = Path(runner.work_dir, 'evaluation')
    loop = runner.test_loop
    if loop is not None:  # without one, test() says what the config lacks
        keep_results(cfg, loop.evaluator.metrics, loop.dataloader.dataset, explained)
        if args.out and not args.out.endswith('.json'):
            kind = 'DumpDetResults' if find_task(cfg).detects else 'DumpResults'
            dump = METRICS.build(dict(type=kind, out_file_path=args.out))
            loop.evaluator.metrics.append(dump)
    start = time.monotonic()
    # Names on the images of --show-dir are no formulas.
    with config_errors(), rc_context({'text.parse_math': False}):
        metrics = runner.test()
    if runner.rank == 0:
        seconds = time.monotonic() - start
        numbers = report(
            cfg,
            args,
            metrics,
            loop.evaluator.metrics,
            loop.dataloader.dataset,
            seconds,
            partial(drawing.draw, runner),
        )
        if args.keep_thresholds:
            classes = loop.dataloader.dataset.metainfo['classes']
            keep_thresholds(args.checkpoint, numbers, classes)
    return metrics


def _drop_early_stopping(cfg: Config) -> None:
    """Take out what builds the training's loop: it reads its data, and makes this a fine-tuning.

    To :class:`~tresnet_det.engine.CheckpointGuardHook`, which then takes a checkpoint that does not
    fit the model.
    """
    kinds = ((hook, built_type(HOOKS, hook)) for hook in cfg.get('custom_hooks') or [])
    cfg.custom_hooks = [
        hook for hook, kind in kinds if not (kind and issubclass(kind, EarlyStoppingHook))
    ]


def _enable_test_time_augmentation(cfg: Config) -> None:
    """Test every image as it is and mirrored, unless the config names its own augmentation."""
    cfg.setdefault(
        'tta_model',
        dict(
            type='DetTTAModel',
            tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
        ),
    )
    if predicts_masks(cfg) and type_name(cfg.tta_model) == 'DetTTAModel':
        raise InputError("--tta: MMDetection's DetTTAModel merges boxes, no masks: omit it")
    dataset = cfg.test_dataloader.dataset
    if 'tta_pipeline' not in cfg:
        pack = dict(dataset.pipeline[-1])
        keys = pack.get('meta_keys', ('img_id', 'img_path', 'ori_shape', 'img_shape'))
        pack['meta_keys'] = (*keys, 'scale_factor', 'flip', 'flip_direction')
        # As it is first: the merged result has the ground truth of its first view.
        flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
        augment = dict(type='TestTimeAug', transforms=[flips, [pack]])
        cfg.tta_pipeline = [*dataset.pipeline[:-1], augment]
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    dataset.pipeline = cfg.tta_pipeline


def _enable_drawing(cfg: Config, show: bool, wait_time: float, out_dir: str | None) -> None:
    """Draw each tested image with its boxes, into a window, a folder, or both.

    Args:
        cfg: Of a detector; the hook and the visualizer that draw are added where it has none.
        show: Whether to show a window.
        wait_time: Seconds that a window stays.
        out_dir: The folder.
    """
    if not cfg.get('default_hooks'):
        cfg.default_hooks = dict()
    if not cfg.default_hooks.get('visualization'):
        cfg.default_hooks['visualization'] = ConfigDict(type='DetVisualizationHook')
    if not cfg.get('visualizer'):  # mmengine's own draws no boxes
        cfg.visualizer = dict(
            type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]
        )
    cfg.default_hooks.visualization.update(
        draw=True, show=show, wait_time=wait_time, test_out_dir=out_dir
    )


def test_exported(args: argparse.Namespace) -> dict:
    """Measure an exported file, which needs nothing of the model's config."""
    given = [key for key in ('show', 'show_dir', 'tta', 'slice', 'keep_thresholds', 'data')
             if getattr(args, key)]  # fmt: skip
    if given:
        option = given[0].replace('_', '-')
        raise InputError(f'--{option} is not for an exported file: omit it')
    if args.out and not args.out.endswith('.json'):
        raise InputError('--out of an exported file is a .json, the metrics')
    file = Path(args.checkpoint)
    if not file.is_file():
        raise MissingFileError(f'{file}: no such file')
    args.work_dir = args.work_dir or str(file.with_name(f'{file.stem}_test'))
    cfg = command_line.prepare_config(args, checkpoint=args.checkpoint)
    command_line.check_data(args, cfg, ('test_dataloader',))
    start = time.monotonic()
    measured = measure_exported(cfg, args.checkpoint, Path(args.work_dir, 'evaluation'))
    report(cfg, args, *measured, time.monotonic() - start)
    return measured[0]


def report(
    cfg: Config,
    args: argparse.Namespace,
    metrics: dict,
    evaluators: list[Any],
    dataset: Any,
    seconds: float,
    draw: Callable[[Path, float | None], None] | None = None,
) -> dict[str, Any]:
    """Write metrics, report and images, print where they are, and return the report's numbers."""
    work_dir, count = Path(args.work_dir), len(dataset)
    reports, numbers = explain_results(cfg, evaluators, dataset, work_dir / 'evaluation')
    if draw:
        draw(work_dir / 'predictions.png', numbers.get('threshold'))
    file = Path(args.out) if args.out and args.out.endswith('.json') else work_dir / 'metrics.json'
    per_class = [row for m in evaluators for row in getattr(m, 'per_class', None) or []]
    write_results_json(
        file, metrics, per_class, dict(config=args.config, checkpoint=args.checkpoint)
    )
    tested = shell_path(args.checkpoint)
    print(f'\nTested {tested} on {count} images in {command_line.minutes(seconds)}')
    for name, value in find_task(cfg).summarize(metrics).items():
        print(f'  {name:<14} {value:.4f}')
    if cfg.get('demo_range') and not args.data:
        low, high = cfg.demo_range
        print(f'  expected       {low:g} to {high:g}, depending on seed and processor')
    training = read_seconds(Path(args.checkpoint).parent)
    if training:
        print(f'  trained in     {command_line.minutes(training)}')
    for name, path in (
        ('metrics', file),
        *([('predictions', work_dir / 'predictions.png')] if draw else []),
        ('curves', Path(args.checkpoint).parent / 'curves.png'),
        *(('report', path) for path in reports),
    ):
        if path.is_file():
            print(f'  {name:<14} {shell_path(path)}')
    print(f'  next           {next_command(args, find_task(cfg).detects)}')
    return numbers


def next_command(args: argparse.Namespace, detects: bool) -> str:
    """Say what to do next, by the arguments of this test: --show-dir is for detectors."""
    if args.demo:
        return (
            f'{tool_command("train")} {quote(args.config)} --data-root DIR   '
            '(data in the layout that the config names)'
        )
    options, last = '', '' if args.checkpoint.endswith('.onnx') else ' --show-dir DIR'
    for name, folder in (('--data', args.data), ('--data-root', args.data_root)):
        options += f' {name} {shell_path(folder)}' if folder else ''
    checkpoint = shell_path(args.checkpoint)
    if last and not detects:
        return f'{tool_command("predict")} {quote(args.config)} {checkpoint} IMAGES --out-dir DIR'
    return f'{tool_command("test")} {quote(args.config)} {checkpoint}{options}{last}'
