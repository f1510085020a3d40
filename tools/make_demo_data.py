"""Make the demo data: handwritten digits on photographs, in COCO's layout, in seconds."""

import argparse
import sys

from tresnet_det.datasets.contact_sheet import draw_contact_sheet
from tresnet_det.datasets.demo_digits import make_demo_data
from tresnet_det.errors import InputError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='data/demo', help='folder to make (default: %(default)s)')
    parser.add_argument('--num-train', type=int, default=1000, help='default: %(default)s')
    parser.add_argument('--num-val', type=int, default=200, help='default: %(default)s')
    parser.add_argument('--size', type=int, default=96, help='pixels a side (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument(
        '--preview', metavar='FILE', help='also draw 12 validation pictures with their boxes (PNG)'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Make the data, or print one line that says why not; returns the exit code."""
    args = parse_args(argv)
    try:
        out = make_demo_data(args.out, args.num_train, args.num_val, args.size, args.seed)
        print(f'{out}: {args.num_train} training, {args.num_val} validation pictures, 10 classes')
        if args.preview:
            ann_file = out / 'annotations/instances_val2017.json'
            sheet = draw_contact_sheet(ann_file, out / 'val2017', args.preview)
            print(f'contact sheet: {sheet}')
    except (InputError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
