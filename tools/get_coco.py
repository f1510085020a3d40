"""Download MS-COCO (2017: 20 GB) into the layout that the detection configs read."""

import argparse
import sys

from tresnet_det.datasets.coco_download import BASE_URL, SPLITS, get_coco
from tresnet_det.errors import InputError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='data/coco', help='folder to fill (default: %(default)s)')
    parser.add_argument('--year', type=int, choices=(2017, 2014), default=2017)
    parser.add_argument(
        '--splits', nargs='+', choices=SPLITS, default=list(SPLITS), help='default: both'
    )
    parser.add_argument('--base-url', default=BASE_URL, help='a mirror (default: %(default)s)')
    parser.add_argument('--keep-archives', action='store_true', help='do not delete the zip files')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Download and verify, or print one line that says why not; returns the exit code."""
    args = parse_args(argv)
    try:
        counts = get_coco(args.out, args.year, args.splits, args.base_url, args.keep_archives)
    except (InputError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nstopped; run it again, it goes on where it was', file=sys.stderr)
        return 130
    for name, count in counts.items():
        print(f'{args.out}/{name}: {count} images, all that its annotations name')
    return 0


if __name__ == '__main__':
    sys.exit(main())
