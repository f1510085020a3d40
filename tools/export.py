"""Export a model: python tools/export.py CONFIG CHECKPOINT --out FILE.onnx [--photos DIR].

FCOS with its post-processing, a classifier, or any model's backbone, as ONNX for any batch and
size, the norms folded. The file is held against PyTorch on photos and both are timed. It says
itself how images are prepared; tresnet_det/onnx_runner.py runs it without PyTorch:

  python tresnet_det/onnx_runner.py FILE.onnx PHOTO
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.export import ExportedProgram

from tresnet_det.engine import command_line
from tresnet_det.engine import config as edit
from tresnet_det.engine.work_dir import find_checkpoint, shell_path
from tresnet_det.errors import InputError
from tresnet_det.exporting import TASKS, build_export_module, trace, write_onnx, write_program
from tresnet_det.exporting.images import find_photos, find_test_dataset, set_size
from tresnet_det.exporting.models import build_model, describe
from tresnet_det.exporting.photos import PhotoReader
from tresnet_det.exporting.programs import OPSET, least_side, require

if TYPE_CHECKING:
    from tresnet_det.exporting.check import FileCheck

DEMO_OVERLAYS = Path(__file__).resolve().parents[1] / 'configs' / '_base_'
EXIT_DIFFERS = 1


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
        '--photos',
        metavar='DIR',
        help="photos to compare on, at any depth (default: the config's test images)",
    )
    check.add_argument(
        '--num-photos', type=positive, default=20, metavar='N', help='default: %(default)s'
    )
    data = parser.add_argument_group('config')
    data.add_argument('--data-root', metavar='DIR', help="folder of the config's data")
    data.add_argument('--demo', action='store_true', help='the model was trained with --demo')
    data.add_argument(
        '--cfg-options',
        nargs='+',
        action=command_line.KeyValueAction,
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    parser.set_defaults(work_dir=None, launcher='none', local_rank=0)
    return parser.parse_args()


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number above 0')
    return int(text)


def main() -> None:
    args = parse_args()
    out = check_out(args.out)
    require('onnx', 'onnxscript', *(() if args.no_check else ('onnxruntime',)))
    torch.manual_seed(0)
    if args.checkpoint != 'none' and '://' not in args.checkpoint:
        args.checkpoint = find_checkpoint(args.checkpoint)
    cfg = command_line.prepare_config(args, DEMO_OVERLAYS)
    if args.size:
        set_size(find_test_dataset(cfg)['pipeline'], *args.size)
    task = args.task
    if task == 'auto':
        task = 'detector' if edit.find_task(cfg) == 'detection' else 'classifier'
    if args.score_thr is not None:
        if task != 'detector':
            raise InputError(f'--score-thr is for detectors: leave it out for a {task}')
        cfg.model.test_cfg.score_thr = args.score_thr
    paths = [] if args.no_check else find_photos(cfg, args.photos, args.num_photos)

    checkpoint = None if args.checkpoint == 'none' else args.checkpoint
    model, classes = build_model(cfg, checkpoint, task)
    module = build_export_module(model, task)
    metadata = describe(cfg, module, classes, model)
    program = trace(module)
    write_onnx(program, module, out, metadata)
    report_file(out, module, metadata)
    if args.torch_export:
        write_program(program, out.with_suffix('.pt2'), metadata)
        side = least_side(program)
        print(f'{shell_path(out.with_suffix(".pt2"))}: sides from {side} pixels')
    if not args.no_check:
        from tresnet_det.exporting.check import FileCheck  # needs onnxruntime

        read = PhotoReader(cfg)
        check = FileCheck(out, model, module, [read(path) for path in paths])
        same = report_check(check, module, program if args.torch_export else None)
        report_speed(check)
        if not same:
            print('error: the file does not agree with PyTorch', file=sys.stderr)
            sys.exit(EXIT_DIFFERS)


def check_out(path: str) -> Path:
    """Return the file to write, once its folder is there.

    Raises:
        InputError: If it cannot be written, or is no ONNX file by its name.
    """
    out = Path(path)
    if out.suffix != '.onnx':
        raise InputError(f'--out {path}: give a file that ends in .onnx')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'--out {path}: {out.parent}: {error.strerror}') from error
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise InputError(f'--out {path} cannot be written')
    return out


def report_file(out: Path, module: nn.Module, metadata: dict) -> None:
    """Print what was written."""
    size = out.stat().st_size / 1e6
    print(f'{shell_path(out)}: {metadata["network"]}, {size:.1f} MB, opset {OPSET}')
    print(f'  input    {", ".join(module.input_names)}; sides {module.divisor} * n, any batch')
    print(f'  output   {", ".join(module.output_names)}')
    if metadata['steps'] is None:
        print(f'  note: {metadata["why_no_steps"]}: give it prepared images')


def report_check(check: 'FileCheck', module: nn.Module, program: ExportedProgram | None) -> bool:
    """Print how the file agrees with the model; True where all is the same."""
    folder = shell_path(os.path.commonpath([p.path.parent for p in check.photos]))
    print(f'\nagainst PyTorch, norms not folded, on {len(check.photos)} photos in {folder}')
    results = {'onnxruntime': check.compare_onnx()}
    if program is not None:
        results['torch.export'] = check.compare_program(program)
        if not results['torch.export']:
            print('  torch.export: not compared, the photos are smaller')
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
        f'\nimages a second, one of {height}x{width} at a time, post-processing included, '
        f'{torch.get_num_threads()} CPU threads: median of the rounds (range)'
    )
    for name, speed in check.measure_speed():
        print(f'  {name:<22} {speed.median:8.2f}  ({speed.low:.2f} to {speed.high:.2f})')


if __name__ == '__main__':
    command_line.run_tool(main)
