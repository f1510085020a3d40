"""Export a model: python tools/export.py WORK_DIR --out FILE.onnx, or CONFIG CHECKPOINT.

FCOS with its post-processing, a classifier, or any model's backbone, as ONNX for any batch and
size, the norms folded. The file is verified against PyTorch on images and both are timed. It says
itself how images are prepared; tresnet_det/inference/onnx_runner.py runs it without PyTorch:

  python tresnet_det/inference/onnx_runner.py FILE.onnx IMAGE

With --int8, convolutions are in 8 bits: half the time on CPUs and a quarter of the size. Both files
are evaluated on the validation images; where too much accuracy is lost, nothing is written.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram

from ..deploy import TASKS, build_export_module, trace, write_onnx, write_program
from ..deploy.models import build_model, describe
from ..deploy.programs import OPSET, least_side, require
from ..deploy.steps import set_size
from ..engine.config import find_test_dataset
from ..engine.work_dir import find_checkpoint
from ..errors import InputError, shell_path
from ..files import write_whole
from ..profiling.timing import Spread, Workload, measure_interleaved, ratios
from ..tasks import find_task
from . import command_line
from .command_line import add_cfg_options, out_file, positive, share

if TYPE_CHECKING:
    from ..deploy.check import FileCheck
    from ..deploy.measure import FileEvaluation
    from ..inference.onnx_runner import OnnxModel

EXIT_DIFFERS = 1
HINT = 'see docs/troubleshooting.md; --no-check skips the comparison'
ROUNDS, MIN_SECONDS = 5, 0.2  # of the timing


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    command_line.add_checkpoint(
        parser,
        ', none for random weights; for --task backbone also a published file or timm://NAME',
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
        '--score-thr', type=share, metavar='S', help="a detector's least score of a class"
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
    int8 = parser.add_argument_group('int8')
    int8.add_argument(
        '--int8',
        nargs='?',
        const='any',
        choices=['any', 'vnni'],
        help='write an int8 file: for any CPU (default), or for those with VNNI alone, where '
        'weights have one more bit',
    )
    int8.add_argument(
        '--calibration',
        metavar='DIR',
        help="images to calibrate on, at any depth (default: 128 of the config's training images)",
    )
    int8.add_argument(
        '--max-drop',
        type=share,
        default=0.01,
        metavar='D',
        help='of the mAP or the top-1 accuracy, from 0 to 1 (default: %(default)s)',
    )
    data = parser.add_argument_group('config')
    data.add_argument('--data-root', metavar='DIR', help="folder of the config's data")
    command_line.add_demo_options(data)
    add_cfg_options(data, 'model.test_cfg.nms.iou_threshold=0.5')
    parser.set_defaults(work_dir=None, launcher='none', local_rank=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    command_line.find_config(args)
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
    if args.int8:
        from ..deploy.check import find_calibration_images
        from ..deploy.measure import FileEvaluation

        if task == 'backbone':
            raise InputError('--int8 needs a metric, which a backbone has not: omit it')
        evaluation = FileEvaluation(cfg)
        calibration = find_calibration_images(cfg, args.calibration)

    checkpoint = None if args.checkpoint == 'none' else args.checkpoint
    model, meta = build_model(cfg, checkpoint, task)
    module = build_export_module(model, task)
    metadata = describe(cfg, module, meta, model)
    program = trace(module)
    with tempfile.TemporaryDirectory(prefix='.export', dir=out.parent) as folder:
        file = Path(folder, 'float.onnx') if args.int8 else out
        write_onnx(program, module, file, metadata)
        name = 'before int8' if args.int8 else shell_path(out)
        report_file(name, file.stat().st_size, module, metadata)
        if not args.no_check:
            check = FileCheck(file, model, module, prepare_images(cfg, paths))
            same = report_check(check, module, program if args.torch_export else None)
            report_speed(check)
            if not same:
                print(f'error: the file does not agree with PyTorch ({HINT})', file=sys.stderr)
                sys.exit(EXIT_DIFFERS)
        if args.int8 and not write_int8(file, out, calibration, evaluation, args):
            sys.exit(EXIT_DIFFERS)
    if not args.int8:
        out.with_suffix('.int8.json').unlink(missing_ok=True)  # of an earlier file
    if args.torch_export:
        write_program(program, out.with_suffix('.pt2'), metadata)
        side = least_side(program)
        print(f'{shell_path(out.with_suffix(".pt2"))}: sides from {side} pixels')


def write_int8(
    source: Path,
    out: Path,
    images: list[Path],
    evaluation: 'FileEvaluation',
    args: argparse.Namespace,
) -> bool:
    """Quantize a file, print what it costs and gains, and write it where that is within bounds."""
    from ..deploy.quantize import CPUS, Quantizer, set_metadata
    from ..inference.onnx_runner import OnnxModel

    def load(path: Path) -> OnnxModel:
        return OnnxModel(path, torch.get_num_threads(), ['CPUExecutionProvider'])

    print(f'\nint8 for {CPUS[args.int8]}; calibrated on {len(images)} images')
    start, target = time.monotonic(), source.with_name('int8.onnx')
    before = evaluation(load(source))
    found = Quantizer(source, images, args.int8).search(
        target, lambda path: evaluation(load(path)), before - args.max_drop
    )
    result = dict(
        cpu=CPUS[args.int8],
        calibration_images=len(images),
        in_float=found.excluded,
        metric=evaluation.name,
        images=len(evaluation),
        before=before,
        after=found.metric,
        max_drop=args.max_drop,
        seconds=round(time.monotonic() - start),
        megabytes=[path.stat().st_size / 1e6 for path in (source, target)],
    )
    result |= compare_speeds([load(path) for path in (source, target)], images[0])
    print(format_int8(result))
    if found.metric < before - args.max_drop:
        print(
            f'error: int8 costs {before - found.metric:.4f} of {evaluation.name}, more than '
            f'--max-drop {args.max_drop:g}: nothing is written',
            file=sys.stderr,
        )
        return False
    set_metadata(target, dict(quantized=result))
    os.replace(target, out)
    kept = out.with_suffix('.int8.json')
    write_whole(kept, (json.dumps(result, indent=1) + '\n').encode())
    print(f'{shell_path(out)}, {shell_path(kept)}')
    return True


def compare_speeds(models: 'list[OnnxModel]', image: Path) -> dict[str, Any]:
    """Return images/s of each model, the size of the image, and the ratios, low and high too."""
    inputs = models[0].prepare([image])
    tasks = [{'all': Workload(partial(model.run, inputs), images=1)} for model in models]
    speeds = [speed['all'] for speed in measure_interleaved(tasks, ROUNDS, MIN_SECONDS)]
    return dict(
        size='x'.join(map(str, inputs['images'].shape[2:])),
        speeds=[Spread.of(values).median for values in speeds],
        ratio=ratios(speeds[1], speeds[0]),
    )


def format_int8(result: dict[str, Any]) -> str:
    """Return the table of accuracy, size and speed."""
    before, after, ratio = result['before'], result['after'], result['ratio']
    old, new = result['megabytes']
    accuracy = f'{result["metric"]}, {result["images"]} images'
    rows = (
        ('', 'fp32', 'int8', f'{result["seconds"]} s'),
        (accuracy, f'{before:.4f}', f'{after:.4f}', f'drop {before - after:.4f}'),
        ('MB', f'{old:.1f}', f'{new:.1f}', f'{new / old:.2f} of the size'),
        (
            f'images/s at {result["size"]}',
            *(f'{speed:.2f}' for speed in result['speeds']),
            f'{ratio.median:.2f} times the speed ({ratio.low:.2f} to {ratio.high:.2f})',
        ),
    )
    return '\n'.join(f'  {a:<24}{b:>9}{c:>9}   {d}' for a, b, c, d in rows)


def report_file(name: str, size: int, module: Any, metadata: dict) -> None:
    """Print what was written, in so many bytes."""
    print(f'{name}: {metadata["network"]}, {size / 1e6:.1f} MB, opset {OPSET}')
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
