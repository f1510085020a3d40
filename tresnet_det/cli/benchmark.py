"""Measure models side by side: memory, MACs, training and inference speed.

  python tools/benchmark.py                              the paper's table, TResNet and its rivals
  python tools/benchmark.py --models timm:resnet50 tresnet_m timm:tresnet_m --precision bf16
  python tools/benchmark.py --no-speed                   activation memory, within a minute
  python tools/benchmark.py --detector configs/fcos_resnet50.py configs/fcos_tresnet_m.py
  python tools/benchmark.py --all                        all that a GPU can answer in 8 minutes

All models take turns in every round, so what disturbs the machine disturbs all of them; ratios are
to the first model named, round by round. Tables are printed; CSV and chart go to benchmarks/.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from ..compat.installed import own_folder
from ..errors import InputError, shell_path
from ..files import write_whole
from ..profiling import modes
from ..profiling.ceilings import measure_ceilings
from ..profiling.report import caption, describe, format_table, write_csv
from ..profiling.settings import PRECISIONS, Settings
from ..profiling.timing import Row
from .command_line import out_file, out_folder, positive

# By mode and device: (batch, pixels a side). A whole detector needs larger images, fewer at once.
BATCH_SIZES = {'cpu': 8, 'cuda': 128}
DETECTOR_BATCH_SIZES = {'cpu': 2, 'cuda': 16}
SIZE, DETECTOR_SIZE = 224, 640
OF_TABLES = (  # options that --all has no use for
    'precision', 'layout', 'compile', 'batch_size', 'size', 'no_fuse', 'rounds', 'min_seconds',
)  # fmt: skip


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
        'behind it for recompute_outputs, with_cp or Triton kernels; timm:NAME, torchvision:NAME, '
        'a resnet50 with _folded behind it for folded norms in inference; '
        "NAME@SIZE for images of its own size (default: the paper's table)",
    )
    what = what_group.add_mutually_exclusive_group()
    what.add_argument(
        '--no-speed', action='store_true', help='counts only: parameters, MACs, activation memory'
    )
    what.add_argument(
        '--family',
        action='store_true',
        help='published top-1 against measured speed, EfficientNet-B1 to B5 against TResNet',
    )
    what.add_argument(
        '--ablation',
        action='store_true',
        help='TResNet-M with one refinement removed at a time',
    )
    what.add_argument(
        '--detector', nargs='+', metavar='CONFIG', help='whole detectors, and loading their data'
    )
    what.add_argument(
        '--profile', action='store_true', help='share of convolutions, and the largest others'
    )
    what.add_argument(
        '--all',
        action='store_true',
        help='on a GPU and within eight minutes: correctness and speed of every backend, memory, '
        'detectors; rows and a summary go to --out, a folder (default: benchmarks/gpu)',
    )
    how = parser.add_argument_group('how')
    how.add_argument(
        '--dry', action='store_true', help='with --all: a rehearsal on the CPU, with tiny networks'
    )
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
        help='models infer as they train, their norms not folded into the convolutions',
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
        '--data-root',
        metavar='DIR',
        help="with --detector: folder of the configs' training data; with --all: of BCCD",
    )
    how.add_argument(
        '--out',
        metavar='PREFIX',
        help='writes PREFIX.csv and PREFIX.png (default: benchmarks/MODE_DEVICE); see --all',
    )
    args = parser.parse_args()
    given = [name for name in OF_TABLES if getattr(args, name) != parser.get_default(name)]
    if args.all and given:
        option = given[0].replace('_', '-')
        raise InputError(f'--{option} does not go with --all, which has settings of its own')
    return args


def main() -> None:
    """Measure one table, or all that a GPU can answer."""
    args = parse_args()
    mode = chosen_mode(args)
    if args.all:
        run_all(args)
        return
    settings = build_settings(args)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # as for any training at one image size
    run_table(args, mode, settings, Path(args.out or f'benchmarks/{mode}_{settings.device.type}'))


def chosen_mode(args: argparse.Namespace) -> str:
    """Return the mode, by the name that its files have.

    Raises:
        InputError: If an option does not go with it.
    """
    modes_by_option = {
        'counts': args.no_speed,
        'family': args.family,
        'ablation': args.ablation,
        'detectors': args.detector,
        'profile': args.profile,
        'all': args.all,
    }
    mode = next((name for name, chosen in modes_by_option.items() if chosen), 'models')
    if args.models and mode in ('family', 'ablation', 'detectors', 'all'):
        raise InputError(f'--models does not go with {mode}, which has models of its own')
    if args.size and mode == 'family':
        raise InputError('--size does not go with --family, which has sizes of its own')
    if args.data_root and mode not in ('detectors', 'all'):
        raise InputError('--data-root goes with --detector and --all only')
    if args.dry and mode != 'all':
        raise InputError('--dry goes with --all only')
    return mode


def build_settings(args: argparse.Namespace) -> Settings:
    """Return how the models run.

    Raises:
        InputError: If the device is not found or does not fit.
    """
    try:
        device = torch.device(args.device)
    except RuntimeError as error:
        raise InputError(f'--device {args.device}: use cpu, cuda or cuda:N') from error
    if args.threads:
        torch.set_num_threads(args.threads)
    defaults = DETECTOR_BATCH_SIZES if args.detector else BATCH_SIZES
    settings = Settings(
        device=device,
        precision=args.precision,
        channels_last=args.layout == 'channels_last',
        compile=args.compile,
        batch_size=args.batch_size or defaults.get(device.type, 1),
        rounds=args.rounds,
        min_seconds=args.min_seconds,
        fuse=not args.no_fuse,
    )
    if settings.warning:
        print(settings.warning, file=sys.stderr)
    if device.type == 'cuda' and device.index is not None:
        torch.cuda.set_device(device)  # events and waiting are those of the current one
    return settings


def run_all(args: argparse.Namespace) -> None:
    """Run every step on a GPU, or a rehearsal on the CPU; write rows and ``summary.md``.

    A rehearsal's numbers mean nothing: without ``--out`` they go to a new temporary folder.

    Raises:
        InputError: If there is no GPU and this is no rehearsal.
    """
    from ..profiling import gpu, gpu_steps, gpu_summary  # the detection stack is heavy to import

    if args.dry:
        args.device = 'cpu'
    device = build_settings(args).device
    if device.type == 'cpu' and not args.dry:
        raise InputError('--all needs a GPU; --all --dry is a rehearsal on the CPU')
    if device.type == 'cuda':
        device = torch.device('cuda', device.index or 0)
    default = tempfile.mkdtemp(prefix='gpu_rehearsal_') if args.dry else 'benchmarks/gpu'
    run = gpu.Run(
        out_folder(args.out or default, '--out'), device, args.dry, args.data_root or 'data/bccd'
    )
    gpu.run_steps(gpu_steps.STEPS, run)
    summary = gpu_summary.summarize(run)
    path = run.out / 'summary.md'
    write_whole(path, summary.encode())
    print(f'\n{summary}\nwritten: {shell_path(path)}, and the rows next to it')


def run_table(args: argparse.Namespace, mode: str, settings: Settings, prefix: Path) -> None:
    """Measure a table, print it, and write ``PREFIX.csv`` and the chart ``PREFIX.png``.

    The CSV file has the rows as they come: a run that is stopped leaves what it had measured.
    """
    out_file(prefix)
    # Not with_suffix: a point in PREFIX is part of the name.
    path, chart = (prefix.with_name(prefix.name + ending) for ending in ('.csv', '.png'))
    header = describe(settings)
    if settings.device.type == 'cuda':
        ceilings = measure_ceilings(settings.device)
        header['ceilings'] = ', '.join(f'{k} {v:.0f}' for k, v in ceilings.items())

    def save(rows: Sequence[Row]) -> None:
        write_csv(path, rows, header)
        print(f'{path.name}: {len(rows)} rows', file=sys.stderr, flush=True)

    size = args.size or (DETECTOR_SIZE if mode == 'detectors' else SIZE)
    try:
        if mode == 'family':
            result = modes.run_family(settings, save)
        elif mode == 'ablation':
            configs = own_folder('configs')
            base, folder = configs / 'fcos_tresnet_m.py', configs / 'ablation'
            result = modes.run_ablation(base, folder, size, settings, save)
        elif mode == 'detectors':
            result = modes.run_detectors(args.detector, size, settings, args.data_root, save)
        elif mode == 'profile':
            result = modes.run_profile(args.models, size, settings, save)
        else:
            result = modes.run_models(args.models, size, settings, save, speed=mode == 'models')
    except torch.cuda.OutOfMemoryError as error:
        raise InputError(
            'the GPU is out of memory: give a smaller --batch-size, or fewer models'
        ) from error
    for name, text in header.items():
        print(f'{name:<13} {text}')
    for title, rows in result.tables.items():
        print(f'\n{title}\n{format_table(rows, result.columns)}')
    for remark in result.remarks:
        print(f'note: {remark}')
    written = [path]
    if result.draw is not None:
        result.draw(chart, title=result.title, caption=caption(settings))
        written.append(chart)
    print('\nwritten: ' + ', '.join(map(shell_path, written)))
