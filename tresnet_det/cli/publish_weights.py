"""Strip a checkpoint for others and name it by its content: python tools/publish_weights.py SRC."""

import argparse

from ..checkpoints.publish import SUFFIXES, WEIGHTS, publish
from ..errors import shell_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('source', metavar='SRC', help='a checkpoint of tools/train.py')
    parser.add_argument('--out-dir', metavar='DIR', help='default: next to SRC')
    parser.add_argument(
        '--weights',
        choices=WEIGHTS,
        default='averaged',
        help='the averaged weights, which are what was validated (default), or the raw ones',
    )
    parser.add_argument('--format', choices=[s[1:] for s in SUFFIXES], default='pth')
    args = parser.parse_args()
    print(shell_path(publish(args.source, args.out_dir, args.weights, f'.{args.format}')))
