"""Measure the classification heads alone, with timm's ML-Decoder: parameters and time.

  python benchmarks/heads.py --classes 10000 --groups 100

On the last feature map of a TResNet at 224 pixels, forward only, all heads in every round; ratios
are to the linear head. timm's decoder has a loop that recent torch versions refuse: its one layer
is called without it.
"""

import argparse
from pathlib import Path

import torch
from torch import nn

from tresnet_det import LinearClsHead, MLDecoderHead
from tresnet_det.cli.command_line import out_file
from tresnet_det.cli.ending import run_tool
from tresnet_det.profiling.report import Column, describe, format_table, write_csv
from tresnet_det.profiling.settings import Settings
from tresnet_det.profiling.timing import Workload, add_speeds, measure_interleaved

LOSS = dict(type='MultiLabelLoss', preset='asl')
COLUMNS = (
    Column('head', 'head'),
    Column('parameters', 'parameters', 1e6, ' M'),
    Column('img/s', 'forward_img_per_s'),
    Column('to the first', 'forward_ratio'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--classes', type=int, default=10000)
    parser.add_argument('--groups', type=int, default=100, help='of ML-Decoder: its queries')
    parser.add_argument('--in-channels', type=int, default=2048)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--min-seconds', type=float, default=0.5, help='of each measurement')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path, metavar='PREFIX', help='write PREFIX.csv')
    return parser.parse_args()


def build_heads(in_channels: int, classes: int, groups: int) -> dict[str, nn.Module]:
    """Return the heads by name, the linear one first."""
    heads = {
        'linear': LinearClsHead(in_channels, classes, LOSS),
        'ml_decoder': MLDecoderHead(in_channels, classes, groups, loss=LOSS),
    }
    try:
        from timm.layers.ml_decoder import MLDecoder
    except ImportError:
        return heads
    theirs = MLDecoder(classes, groups, initial_num_features=in_channels)
    (layer,) = theirs.decoder.layers
    theirs.decoder.forward = lambda queries, memory: layer(queries, memory)
    return heads | {'timm ml_decoder': theirs}


def main() -> None:
    args = parse_args()
    settings = Settings(
        torch.device(args.device),
        batch_size=args.batch_size,
        rounds=args.rounds,
        min_seconds=args.min_seconds,
        channels_last=False,
        fuse=False,
    )
    if args.out:
        out_file(args.out)
    heads = build_heads(args.in_channels, args.classes, args.groups)
    x = torch.rand(args.batch_size, args.in_channels, 7, 7, device=settings.device)
    rows, contestants = [], []
    for name, head in heads.items():
        head.to(settings.device).eval()
        parameters = sum(p.numel() for p in head.parameters() if p.requires_grad)
        rows.append({'head': name, 'parameters': parameters})
        step = torch.no_grad()(lambda head=head: head(x))
        contestants.append({'forward': Workload(step, args.batch_size, settings.device.type)})
    add_speeds(rows, measure_interleaved(contestants, args.rounds, args.min_seconds))
    print(f'{args.classes} classes, {args.groups} groups, {args.in_channels} channels at 7x7')
    print(format_table(rows, COLUMNS))
    if args.out:
        write_csv(args.out.with_name(f'{args.out.name}.csv'), rows, describe(settings))


if __name__ == '__main__':
    run_tool(main)
