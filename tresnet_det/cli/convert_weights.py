"""Convert TResNet weights: python tools/convert_weights.py SRC DST [--to timm|ours]."""

import argparse

from ..checkpoints.publish import FORMATS, convert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'source',
        metavar='SRC',
        help="a file in the official, timm's or this project's format, or timm://NAME",
    )
    parser.add_argument('target', metavar='DST', help='the file to write: .pth or .safetensors')
    parser.add_argument('--to', choices=FORMATS, default='ours', help='default: ours')
    args = parser.parse_args()
    count = convert(args.source, args.target, args.to)
    print(f'{args.target}: {count} tensors in the format of {args.to}')
