"""Plan a training on N GPUs: hours, memory, data rate and cost, from one GPU's measured speed.

  python tools/plan.py configs/imagenet_tresnet_m.py --images-per-second 2000 --gpus 1 8 64 1024

Epochs, batch and image size come from the config, memory and gradients from its model. What the
numbers assume: docs/scale.md. Nothing is downloaded, and no GPU is needed.
"""

import argparse
import shlex
import sys
from pathlib import Path

from ..engine import config as edit
from ..errors import shell_path
from ..profiling.plan import (
    GIB,
    LINKS,
    Cluster,
    count_model,
    find_precision,
    plan,
    read_image_area,
    read_training,
    warnings,
)
from ..profiling.report import MIB, Column, format_table, write_csv
from ..values import check_values
from .command_line import above_zero, add_cfg_options, out_file, positive, share

COLUMNS = (
    Column('GPUs', 'gpus'),
    Column('batch/GPU', 'batch_size'),
    Column('in all', 'global_batch'),
    Column('lr', 'lr'),
    Column('steps/epoch', 'steps_per_epoch'),
    Column('step ms', 'step_seconds', 1e-3),
    Column('efficiency', 'efficiency'),
    Column('hours', 'hours'),
    Column('(no overlap)', 'hours_max'),
    Column('GPU hours', 'gpu_hours'),
    Column('cost', 'cost'),
    Column('GiB/GPU', 'memory_bytes', GIB),
    Column('read MB/s', 'read_bytes_per_s', 1e6),
    Column('CPU cores', 'cores'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config')
    add(
        '--images-per-second', type=above_zero, required=True, metavar='N',
        help="that one GPU trains on, measured at the config's size, batch and precision",
    )  # fmt: skip
    add('--gpus', type=positive, nargs='+', default=[1, 8, 64, 256, 1024], metavar='N')
    add('--in-node', default='nvlink4', choices=LINKS, help='nominal values; default: %(default)s')
    add(
        '--between-nodes', default='ethernet-100g', choices=LINKS,
        help='of a whole node; default: %(default)s',
    )  # fmt: skip
    add('--gpus-per-node', type=positive, default=8, metavar='N', help='default: %(default)s')
    add(
        '--overlap', type=share, default=0.5, metavar='SHARE',
        help='of the backward pass that hides communication; default: %(default)s',
    )  # fmt: skip
    add(
        '--max-global-batch', type=positive, metavar='N',
        help="images per step on all GPUs, to which each GPU's batch shrinks",
    )  # fmt: skip
    add('--gpu-memory', type=above_zero, metavar='GIB', help='warns of what does not fit into it')
    add('--price', type=above_zero, metavar='MONEY', help='of a GPU hour: adds the cost')
    add('--num-images', type=positive, metavar='N', help='per epoch, of custom data')
    add('--image-kb', type=above_zero, metavar='KB', help='1000 bytes, of an average image file')
    add_cfg_options(parser, 'train_dataloader.batch_size=64')
    add('--out', type=Path, metavar='FILE.csv', help='write the table')
    return parser.parse_args()


def main() -> None:
    """Print the plan."""
    args = parse_args()
    cfg = edit.load_config(args.config)
    edit.override(cfg, args.cfg_options)
    check_values(cfg)
    if args.out:
        out_file(args.out, '.csv')
    training = read_training(cfg, args.num_images, args.image_kb)
    area = read_image_area(cfg)
    in_node, between = LINKS[args.in_node], LINKS[args.between_nodes]
    cluster = Cluster(in_node, between, args.gpus_per_node, args.overlap)
    model = count_model(cfg, area)
    speed, most, price = args.images_per_second, args.max_global_batch, args.price
    rows = [
        plan(training, model, cluster, speed, gpus, most, price) for gpus in sorted(set(args.gpus))
    ]
    notes = warnings(training, model, rows, args.gpu_memory and args.gpu_memory * GIB)
    header = {
        'training': f'{args.config}: {training.epochs} epochs of {training.images} images',
        'one GPU': f'{args.images_per_second:g} images/s',
        'model': f'{model.parameters / 1e6:.1f} M parameters, {model.gradient_bytes / 1e6:.0f} MB '
        f'of gradients; activation memory {model.kept_per_image / MIB:.1f} MiB per image, '
        f'in {find_precision(cfg)} at {area / 1e6:.3g} M pixels',
        'data': f'{training.file_bytes / 1000:.0f} kB per image; a core loads '
        f'{training.images_per_core:g} images/s',
        'links': f'{args.in_node} inside a node of {args.gpus_per_node}, {args.between_nodes} '
        'between nodes; nominal values, not measured',
        'command': shlex.join(['python', *sys.argv]),
    }
    for name, text in header.items():
        print(f'{name:<9} {text}')
    # Of learning rates, the first two digits say more than the places behind the point.
    table = [row | {'lr': f'{row["lr"]:.2g}'} for row in rows]
    print(f'\n{format_table(table, COLUMNS)}')
    print('\nTraining steps alone: without validation, checkpoints, start-up and waiting for data.')
    for note in notes:
        print(f'note: {note}')
    if args.out:
        write_csv(args.out, rows, header | {'notes': '; '.join(notes) or 'none'})
        print(f'\nwritten: {shell_path(args.out)}')
