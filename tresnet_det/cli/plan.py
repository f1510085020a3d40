"""Plan a training on many GPUs: hours, memory, data read a second, from one GPU's measured speed.

  python tools/plan.py configs/imagenet_tresnet_m.py --images-per-second 2000 --gpus 1 8 64 1024
  python tools/plan.py configs/fcos_tresnet_m.py --speeds benchmarks/detectors_cuda.csv

Epochs, batch and image size come from the config, memory and gradients from its model. What the
figures assume, and what is not in them: docs/scale.md. Nothing is downloaded, and no GPU is needed.
"""

import argparse
import shlex
import sys
from pathlib import Path

from mmengine.config import Config

from ..engine import config as edit
from ..errors import InputError, shell_path
from ..profiling import charts
from ..profiling.plan import (
    LINKS,
    Assumptions,
    Cluster,
    Footprint,
    Row,
    Training,
    parse_link,
    plan,
    remarks,
)
from ..profiling.plan_inputs import (
    ImageSize,
    Speed,
    count_model,
    find_precision,
    read_image_size,
    read_speed,
    read_training,
)
from ..profiling.report import MIB, Column, format_table, write_csv
from ..tasks import find_task
from .arguments import add_cfg_options, out_file

GIB = 2**30
COLUMNS = (
    Column('GPUs', 'gpus'),
    Column('batch/GPU', 'batch_size'),
    Column('in all', 'global_batch'),
    Column('lr', 'lr'),
    Column('steps/epoch', 'steps_per_epoch'),
    Column('step ms', 'step_seconds', 1e-3),
    Column('efficiency', 'efficiency'),
    Column('hours', 'hours'),
    Column('GPU hours', 'gpu_hours'),
    Column('GiB/GPU', 'memory_bytes', GIB),
    Column('read MB/s', 'read_bytes_per_s', 1e6),
    Column('cores', 'cores'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument(
        '--gpus', type=int, nargs='+', default=[1, 8, 64, 256, 1024], metavar='N',
        help='default: 1 8 64 256 1024',
    )  # fmt: skip
    speed = parser.add_argument_group('how fast one GPU trains, measured')
    speed.add_argument(
        '--images-per-second', type=float, metavar='N', help="at the config's size and batch"
    )
    speed.add_argument('--source', metavar='TEXT', help='where that speed comes from')
    speed.add_argument('--speeds', metavar='CSV', help='a file that tools/benchmark.py wrote')
    assumed = parser.add_argument_group('what is assumed')
    links = f'{", ".join(LINKS)} (nominal figures), or GB/s:microseconds'
    assumed.add_argument(
        '--in-node', default='nvlink4', metavar='LINK', help=f'{links}; default: %(default)s'
    )
    assumed.add_argument(
        '--between-nodes', default='ethernet-100g', metavar='LINK',
        help='of a whole node, from the same list; default: %(default)s',
    )  # fmt: skip
    assumed.add_argument(
        '--gpus-per-node', type=int, default=8, metavar='N', help='default: %(default)s'
    )
    assumed.add_argument(
        '--overlap', type=float, default=0.5, metavar='SHARE',
        help='of the backward pass beside which gradients travel; default: %(default)s',
    )  # fmt: skip
    assumed.add_argument(
        '--workspace', type=float, default=0.2, metavar='SHARE',
        help='of memory beside what is counted; default: %(default)s',
    )  # fmt: skip
    assumed.add_argument('--gpu-memory', type=float, metavar='GIB', help='says what fits into it')
    assumed.add_argument(
        '--max-global-batch', type=int, metavar='N',
        help="images of a step on all GPUs, to which each GPU's batch shrinks",
    )  # fmt: skip
    data = parser.add_argument_group('data')
    data.add_argument(
        '--num-images', type=int, metavar='N', help='of an epoch, in data of your own'
    )
    data.add_argument('--image-kb', type=float, metavar='KB', help='1000 bytes, of a mean file')
    data.add_argument(
        '--images-per-core', type=float, metavar='N', help='that a core reads and decodes'
    )
    add_cfg_options(parser, 'train_dataloader.batch_size=64')
    parser.add_argument('--out', type=Path, metavar='PREFIX', help='write PREFIX.csv, PREFIX.png')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = edit.load_config(args.config)
    edit.override(cfg, args.cfg_options)
    if args.out:
        out_file(args.out)
    training = read_training(cfg, args.num_images, args.image_kb, args.images_per_core)
    size = read_image_size(cfg)
    speed = find_speed(args, cfg, training, size)
    cluster = Cluster(parse_link(args.in_node), parse_link(args.between_nodes), args.gpus_per_node)
    assumed = Assumptions(
        speed.img_per_s, cluster, args.overlap, args.workspace, args.max_global_batch
    )
    model = count_model(cfg, size)
    rows = [plan(training, model, assumed, gpus) for gpus in sorted(set(args.gpus))]
    header = describe(args, cfg, training, size, speed, model)
    notes = remarks(training, rows, assumed)
    if args.gpu_memory is not None:
        notes += fit(model, rows, assumed, args.gpu_memory)
    report(rows, header, notes, args.out)


def find_speed(args: argparse.Namespace, cfg: Config, training: Training, size: ImageSize) -> Speed:
    """Return the measured speed that the options name.

    Raises:
        InputError: If they name none, or two.
    """
    if (args.images_per_second is None) == (args.speeds is None):
        raise InputError(
            'how fast does one GPU train? Give --images-per-second N, or --speeds FILE.csv from '
            'tools/benchmark.py'
        )
    if args.speeds is None:
        return Speed(args.images_per_second, args.source or 'as given by --images-per-second')
    names = [Path(args.config).stem]
    backbone = cfg.model.backbone
    if not find_task(cfg).detects and backbone.type == 'TResNet':
        names.append(f'tresnet_{backbone.get("arch", "m")}')
    return read_speed(args.speeds, names, training.batch_size, size.typical)


def describe(
    args: argparse.Namespace,
    cfg: Config,
    training: Training,
    size: ImageSize,
    speed: Speed,
    model: Footprint,
) -> dict[str, str]:
    """Return on what the plan rests, a short text for each heading."""
    side = size.largest**0.5
    pixels = f'{side:g} x {side:g}' if side.is_integer() else f'{size.largest / 1e6:.3g} M'
    return {
        'training': f'{args.config}: {training.epochs} epochs of {training.images} images',
        'one GPU': f'{speed.img_per_s:.4g} images/s, {speed.source}',
        'model': f'{model.parameters / 1e6:.1f} M parameters, '
        f'{model.gradient_bytes / 1e6:.0f} MB of gradients; of each image '
        f'{model.kept_per_image / MIB:.1f} MiB kept, in {find_precision(cfg)} at {pixels} pixels',
        'data': f'{training.file_bytes / 1000:.0f} kB an image; a core decodes '
        f'{training.images_per_core:g} images/s',
        'links': f'{args.in_node} inside a node of {args.gpus_per_node}, '
        f'{args.between_nodes} between nodes; named ones are nominal figures, not measured',
        'assumed': f'{args.overlap:.0%} of the backward pass hides communication (in brackets: all '
        f'of it, none); {args.workspace:.0%} of memory for what is not counted',
        'command': shlex.join(['python', *sys.argv]),
    }


def fit(model: Footprint, rows: list[Row], assumed: Assumptions, memory: float) -> list[str]:
    """Return a line where a plan does not fit into a GPU of ``memory`` GiB."""
    too_large = [row for row in rows if row['memory_bytes'] > memory * GIB]
    if not too_large:
        return []
    most = model.largest_batch(memory * GIB, too_large[-1]['gpus'] > 1, assumed.workspace)
    return [
        f'{too_large[0]["memory_bytes"] / GIB:.1f} GiB do not fit into {memory:g}: the largest '
        f'batch is {most}'
    ]


def report(rows: list[Row], header: dict[str, str], notes: list[str], out: Path | None) -> None:
    for name, text in header.items():
        print(f'{name:<9} {text}')
    # Of learning rates, the first two digits say more than the places behind the point.
    table = [row | {'lr': f'{row["lr"]:.2g}'} for row in rows]
    print(f'\n{format_table(table, COLUMNS)}')
    print(
        '\nTraining steps alone: validation, checkpoints, start and waiting for data are not in it.'
    )
    for note in notes:
        print(f'note: {note}')
    if out is None:
        return
    paths = [out.with_name(out.name + ending) for ending in ('.csv', '.png')]
    write_csv(paths[0], rows, header | {'notes': '; '.join(notes) or 'none'})
    charts.draw_plan(rows, paths[1], header['training'], header['one GPU'])
    print('\nwritten: ' + ', '.join(shell_path(path) for path in paths))
