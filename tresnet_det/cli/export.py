"""Export a model: python tools/export.py CONFIG CHECKPOINT --out FILE.onnx [--images DIR].

FCOS with its post-processing, a classifier, or any model's backbone, as ONNX for any batch and
size, the norms folded. The file is verified against PyTorch on images and both are timed. It says
itself how images are prepared; tresnet_det/inference/onnx_runner.py runs it without PyTorch:

  python tresnet_det/inference/onnx_runner.py FILE.onnx IMAGE
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from ..deploy import TASKS, build_export_module, trace, write_onnx, write_program
from ..deploy.models import build_model, describe
from ..deploy.programs import OPSET, least_side, require
from ..deploy.steps import set_size
from ..engine.work_dir import find_checkpoint
from ..errors import InputError, shell_path
from ..inference.pipeline import find_test_dataset
from ..profiling.timing import Spread, Workload, measure_interleaved
from ..tasks import find_task
from . import command_line
from .command_line import add_cfg_options
from .run import out_file, positive

if TYPE_CHECKING:
    from ..deploy.check import FileCheck

EXIT_DIFFERS = 1
ROUNDS, MIN_SECONDS = 5, 0.2  # of the timing


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, a work directory for the best checkpoint in it, or none for random '
        'weights; for --task backbone also a published file or timm://NAME',
    )
    parser.add_argument('--out', required=True, metavar='FILE.onnx', help='the file to write')
    parser.add_argument(
        '--task',
        choices=['auto', *TASKS],
        default='auto',
        help='what is exported; auto: the whole model of the config (default)',
    )
    parser.add_argument(
        '--torch-export',
        action='store_true',
        help='also write FILE.pt2, which torch.export.load reads',
    )
    parser.add_argument(
        '--size',
        nargs=2,
        type=positive,
        metavar=('H', 'W'),
        help="images are resized to this, not to the size of the config's test pipeline; the "
        'network itself takes any size',
    )
    parser.add_argument(
        '--score-thr', type=float, metavar='S', help="a detector's least score of a class"
    )
    check = parser.add_argument_group('check')
    check.add_argument('--no-check', action='store_true', help='only write the file')
    check.add_argument(
        '--images',
        metavar='DIR',
        help="images to compare on, at any depth (default: the config's test images)",
    )
    check.add_argument(
        '--num-images', type=positive, default=20, metavar='N', help='default: %(default)s'
    )
    data = parser.add_argument_group('config')
    data.add_argument('--data-root', metavar='DIR', help="folder of the config's data")
    command_line.add_demo_options(data)
    add_cfg_options(data, 'model.test_cfg.nms.iou_threshold=0.5')
    parser.set_defaults(work_dir=None, launcher='none', local_rank=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    out = out_file(args.out, '.onnx')
    require('onnx', 'onnxscript', *(() if args.no_check else ('onnxruntime',)))
    torch.manual_seed(0)
    if args.checkpoint != 'none' and '://' not in args.checkpoint:
        args.checkpoint = find_checkpoint(args.checkpoint)
    cfg = command_line.prepare_config(args)
    if args.size:
        set_size(find_test_dataset(cfg)['pipeline'], *args.size)
    task = args.task
    if task == 'auto':
        task = 'detector' if find_task(cfg).detects else 'classifier'
    if args.score_thr is not None:
        if task != 'detector':
            raise InputError(f'--score-thr is for detectors: omit it for a {task}')
        cfg.model.test_cfg.score_thr = args.score_thr
    if not args.no_check:
        from ..deploy.check import FileCheck, find_images, prepare_images

        paths = find_images(cfg, args.images, args.num_images)

    checkpoint = None if args.checkpoint == 'none' else args.checkpoint
    model, meta = build_model(cfg, checkpoint, task)
    module = build_export_module(model, task)
    metadata = describe(cfg, module, meta, model)
    program = trace(module)
    write_onnx(program, module, out, metadata)
    report_file(out, module, metadata)
    if args.torch_export:
        write_program(program, out.with_suffix('.pt2'), metadata)
        side = least_side(program)
        print(f'{shell_path(out.with_suffix(".pt2"))}: sides from {side} pixels')
    if not args.no_check:
        check = FileCheck(out, model, module, prepare_images(cfg, paths))
        same = report_check(check, module, program if args.torch_export else None)
        report_speed(check)
        if not same:
            print('error: the file does not agree with PyTorch', file=sys.stderr)
            sys.exit(EXIT_DIFFERS)


def report_file(out: Path, module: Any, metadata: dict) -> None:
    """Print what was written."""
    size = out.stat().st_size / 1e6
    print(f'{shell_path(out)}: {metadata["network"]}, {size:.1f} MB, opset {OPSET}')
    print(f'  input    {", ".join(module.input_names)}; sides {module.divisor} * n, any batch')
    print(f'  output   {", ".join(module.output_names)}')
    if metadata['steps'] is None:
        print(f'  note: {metadata["why_no_steps"]}: give it prepared images')


def report_check(check: 'FileCheck', module: Any, program: ExportedProgram | None) -> bool:
    """Print how the file agrees with the model; True where all is the same."""
    folder = shell_path(os.path.commonpath([p.path.parent for p in check.images]))
    print(f'\nagainst PyTorch, norms not folded, on {len(check.images)} images in {folder}')
    results = {'onnxruntime': check.compare_onnx()}
    if program is not None:
        results['torch.export'] = check.compare_program(program)
        if not results['torch.export']:
            print('  torch.export: not compared, the images are smaller')
    for name, agreements in results.items():
        for what, agreement in agreements.items():
            print(f'  {name}, {what}: {agreement}')
    if check.finds_nothing:
        print(f'  note: no box above {module.score_thr}: a lower --score-thr gives some to compare')
    difference = check.image_difference()
    if difference is not None:
        how = f'by up to {difference:g} of 255' if difference else 'in nothing'
        print(f"  onnx_runner.py's images differ {how} from those of the config's pipeline")
    return all(a.is_same for agreements in results.values() for a in agreements.values())


def report_speed(check: 'FileCheck') -> None:
    """Print how quick both are."""
    height, width = check.inputs[0]['images'].shape[2:]
    print(
        f'\nimages/s, one of {height}x{width} at a time, post-processing included, '
        f'{torch.get_num_threads()} CPU threads: median of the rounds (range)'
    )
    tasks = [{name: Workload(run, images=1)} for name, run in check.contestants().items()]
    speeds = {
        name: Spread.of(values)
        for by_name in measure_interleaved(tasks, ROUNDS, MIN_SECONDS)
        for name, values in by_name.items()
    }
    for name, speed in speeds.items():
        print(f'  {name:<22} {speed.median:8.2f}  ({speed.low:.2f} to {speed.high:.2f})')
