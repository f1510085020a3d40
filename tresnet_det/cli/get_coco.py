"""Download MS-COCO (2017: 20 GB) into the layout that the detection configs read."""

import argparse

from ..datasets.coco_download import BASE_URL, SPLITS, get_coco
from ..errors import printable


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--out-dir', default='data/coco', help='folder to fill (default: %(default)s)'
    )
    parser.add_argument('--year', type=int, choices=(2017, 2014), default=2017)
    parser.add_argument(
        '--splits', nargs='+', choices=SPLITS, default=list(SPLITS), help='default: both'
    )
    parser.add_argument('--base-url', default=BASE_URL, help='a mirror (default: %(default)s)')
    parser.add_argument('--keep-archives', action='store_true', help='do not delete the zip files')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        counts = get_coco(args.out_dir, args.year, args.splits, args.base_url, args.keep_archives)
    except KeyboardInterrupt:
        raise KeyboardInterrupt('run it again, it resumes where it was') from None
    for name, count in counts.items():
        print(f'{printable(args.out_dir)}/{name}: {count} images, all that its annotations name')
