"""Run a step again that training stopped at: python tools/replay.py WORK_DIR/non_finite/iter_N.pth.

It names the first module whose output is not finite, the first parameter whose gradient is not, and
the images that do it alone.
"""

import argparse

from .. import datasets, evaluation  # noqa: F401  (registers what a config may name)
from ..engine.non_finite.replay import replay


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('file', help='what the training kept: WORK_DIR/non_finite/iter_N.pth')
    parser.add_argument(
        '--config', metavar='FILE', help='of the training (default: the one in its work directory)'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    print('\n'.join(replay(args.file, args.config).lines()))
