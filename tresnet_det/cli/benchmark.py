"""Measure models side by side: memory, multiply-adds, training and inference speed.

  python tools/benchmark.py                              the paper's table, TResNet and its rivals
  python tools/benchmark.py --models timm:resnet50 tresnet_m timm:tresnet_m --precision bf16
  python tools/benchmark.py --no-speed                   bytes kept for backward, within a minute
  python tools/benchmark.py --detector configs/fcos_resnet50.py configs/fcos_tresnet_m.py

All models take turns in every round, so what disturbs the machine disturbs all of them; ratios are
to the first model named, round by round. Tables are printed; CSV and chart go to benchmarks/.
"""

import argparse
import sys
from pathlib import Path

import torch

from ..compat.own_files import own_folder
from ..errors import InputError, shell_path
from ..profiling import modes
from ..profiling.report import (
    caption,
    describe,
    format_table,
    write_csv,
)
from ..profiling.settings import PRECISIONS, Settings
from .arguments import out_file, positive

# By mode and device: (batch, pixels a side). A whole detector needs larger images, fewer at once.
BATCH_SIZES = {'cpu': 8, 'cuda': 128}
DETECTOR_BATCH_SIZES = {'cpu': 2, 'cuda': 16}
SIZE, DETECTOR_SIZE = 224, 640


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what_group = parser.add_argument_group('what to measure')
    what_group.add_argument(
        '--models',
        nargs='+',
        metavar='NAME',
        help='tresnet_m, tresnet_l, tresnet_xl, tresnet_v2_l, with _recompute, _cp or _triton '
        'behind it for recompute_outputs, with_cp or Triton kernels; timm:NAME, torchvision:NAME; '
        "NAME@SIZE for images of its own size (default: the paper's table)",
    )
    what = what_group.add_mutually_exclusive_group()
    what.add_argument(
        '--no-speed', action='store_true', help='counts only: parameters, multiply-adds, bytes kept'
    )
    what.add_argument(
        '--family',
        action='store_true',
        help='published top-1 against measured speed, EfficientNet-B1 to B5 against TResNet',
    )
    what.add_argument(
        '--ablation',
        action='store_true',
        help='TResNet-M with one refinement or code optimisation left out at a time',
    )
    what.add_argument(
        '--detector', nargs='+', metavar='CONFIG', help='whole detectors, and loading their data'
    )
    what.add_argument(
        '--scaling', action='store_true', help='cost against resolution, and against batch size'
    )
    what.add_argument(
        '--processes',
        nargs='+',
        type=positive,
        metavar='N',
        help='a training step in N processes of one thread, beside what a plan says of it',
    )
    what.add_argument(
        '--profile', action='store_true', help='share of convolutions, and the largest others'
    )
    how = parser.add_argument_group('how')
    how.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='cpu, cuda or cuda:N (default: %(default)s)',
    )
    how.add_argument('--precision', choices=PRECISIONS, default='fp32', help='default: %(default)s')
    how.add_argument(
        '--layout',
        choices=['channels_last', 'contiguous'],
        default='channels_last',
        help='of weights and images (default: %(default)s)',
    )
    how.add_argument('--compile', action='store_true', help='run the models by torch.compile')
    how.add_argument(
        '--batch-size',
        type=positive,
        metavar='N',
        help='default: 8 on a CPU, 128 on a GPU; for detectors 2 and 16',
    )
    how.add_argument(
        '--size', type=positive, metavar='PIXELS', help='a side; default: 224, for detectors 640'
    )
    how.add_argument(
        '--no-fuse',
        action='store_true',
        help='our models infer as they train, their norms not folded into the convolutions',
    )
    how.add_argument('--rounds', type=positive, default=7, metavar='N', help='default: %(default)s')
    how.add_argument(
        '--min-seconds',
        type=float,
        default=0.5,
        metavar='S',
        help='for which each measurement repeats its step (default: %(default)s)',
    )
    how.add_argument('--threads', type=positive, metavar='N', help='of the CPU')
    how.add_argument(
        '--data-root', metavar='DIR', help="with --detector: folder of the configs' training data"
    )
    how.add_argument(
        '--out',
        metavar='PREFIX',
        help='writes PREFIX.csv and PREFIX.png (default: benchmarks/MODE_DEVICE)',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    mode = chosen_mode(args)
    settings = build_settings(args)
    prefix = out_file(args.out or f'benchmarks/{mode}_{settings.device.type}')
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # as for any training at one image size
    header = describe(settings)
    try:
        result = measure(args, mode, settings)
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(
            'the memory of the GPU does not do: give a smaller --batch-size, or fewer models'
        ) from error
    report(result, header, prefix, settings)


def chosen_mode(args: argparse.Namespace) -> str:
    """Return the mode, by the name that its files have.

    Raises:
        InputError: If an option does not go with it.
    """
    switches = {
        'counts': args.no_speed,
        'family': args.family,
        'ablation': args.ablation,
        'detectors': args.detector,
        'scaling': args.scaling,
        'processes': args.processes,
        'profile': args.profile,
    }
    mode = next((name for name, is_on in switches.items() if is_on), 'models')
    if args.models and mode in ('family', 'ablation', 'detectors'):
        raise InputError(f'--models does not go with {mode}, which has models of its own')
    if args.size and mode in ('family', 'scaling'):
        raise InputError(f'--size does not go with --{mode}, which has sizes of its own')
    if args.data_root and mode != 'detectors':
        raise InputError('--data-root goes with --detector only')
    if args.processes and (args.device != 'cpu' or args.compile or args.threads):
        raise InputError('--processes runs eagerly on the CPU, a thread each: --device cpu alone')
    return mode


def build_settings(args: argparse.Namespace) -> Settings:
    """Return what all modes share.

    Raises:
        InputError: If the device is not there or does not fit.
    """
    try:
        device = torch.device(args.device)
    except RuntimeError as error:
        raise InputError(f'--device {args.device}: use cpu, cuda or cuda:N') from error
    if args.threads or args.processes:
        torch.set_num_threads(args.threads or 1)
    defaults = DETECTOR_BATCH_SIZES if args.detector else BATCH_SIZES
    return Settings(
        device=device,
        precision=args.precision,
        channels_last=args.layout == 'channels_last',
        compile=args.compile,
        batch_size=args.batch_size or defaults.get(device.type, 1),
        rounds=args.rounds,
        min_seconds=args.min_seconds,
        fuse=not (args.no_fuse or args.processes),
    )


def measure(args: argparse.Namespace, mode: str, settings: Settings) -> modes.Result:
    size = args.size or (DETECTOR_SIZE if mode == 'detectors' else SIZE)
    if mode == 'family':
        return modes.run_family(settings, progress)
    if mode == 'ablation':
        configs = own_folder('configs')
        base = configs / 'fcos_tresnet_m.py'
        return modes.run_ablation(base, configs / 'ablation', size, settings, progress)
    if mode == 'detectors':
        return modes.run_detectors(args.detector, size, settings, args.data_root, progress)
    if mode == 'scaling':
        return modes.run_scaling(args.models, settings, progress)
    if mode == 'processes':
        return modes.run_processes(args.models, size, args.processes, settings)
    if mode == 'profile':
        return modes.run_profile(args.models, size, settings, progress)
    return modes.run_models(args.models, size, settings, progress, speed=mode == 'models')


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def report(result: modes.Result, header: dict[str, str], prefix: Path, settings: Settings) -> None:
    """Print the tables; write the CSV file and the chart."""
    for name, text in header.items():
        print(f'{name:<13} {text}')
    for title, rows in result.tables.items():
        print(f'\n{title}\n{format_table(rows, result.columns)}')
    if result.remarks:
        print()
    for remark in result.remarks:
        print(f'note: {remark}')
    # Not with_suffix: a point in PREFIX is part of the name.
    paths = [prefix.with_name(prefix.name + ending) for ending in ('.csv', '.png')]
    write_csv(paths[0], result.rows, header)
    if result.draw is None:
        del paths[1]
    else:
        result.draw(paths[1], title=result.chart_title, caption=caption(settings))
    print('\nwritten: ' + ', '.join(shell_path(path) for path in paths))
