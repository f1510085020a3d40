"""Make the demo data, in seconds: handwritten digits on photos, as COCO or class folders."""

import argparse

from ..datasets.demo.classes import make_demo_classes
from ..datasets.demo.contact_sheet import draw_class_sheet, draw_contact_sheet
from ..datasets.demo.digits import make_demo_data

DETECTION = {'out_dir': 'data/demo', 'num_train': 1000, 'num_val': 200, 'size': 96}
CLASSES = {'out_dir': 'data/demo_classes', 'size': 64}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--classes',
        action='store_true',
        help='class folders for classification: each of the 1797 digits alone on an image',
    )
    parser.add_argument(
        '--out-dir',
        help=f'default: {DETECTION["out_dir"]}; with --classes {CLASSES["out_dir"]}',
    )
    parser.add_argument(
        '--num-train',
        type=int,
        help=f'default: {DETECTION["num_train"]}; not with --classes',
    )
    parser.add_argument(
        '--num-val', type=int, help=f'default: {DETECTION["num_val"]}; not with --classes'
    )
    parser.add_argument(
        '--size',
        type=int,
        help=f'pixels a side (default: {DETECTION["size"]}; with --classes {CLASSES["size"]})',
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument(
        '--preview',
        metavar='FILE',
        help='also draw 12 validation images with their boxes or classes (PNG)',
    )
    args = parser.parse_args()
    if args.classes and (args.num_train is not None or args.num_val is not None):
        parser.error('--num-train and --num-val: with --classes each digit is drawn once')
    for name, value in (CLASSES if args.classes else DETECTION).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def main() -> None:
    args = parse_args()
    if args.classes:
        make_classes(args)
    else:
        make_detection(args)


def make_detection(args: argparse.Namespace) -> None:
    out = make_demo_data(args.out_dir, args.num_train, args.num_val, args.size, args.seed)
    print(f'{out}: {args.num_train} training, {args.num_val} validation images, 10 classes')
    if args.preview:
        ann_file = out / 'annotations/instances_val2017.json'
        print(f'contact sheet: {draw_contact_sheet(ann_file, out / "val2017", args.preview)}')


def make_classes(args: argparse.Namespace) -> None:
    out = make_demo_classes(args.out_dir, args.size, args.seed)
    train, val = (len(list((out / split).glob('*/*.png'))) for split in ('train', 'val'))
    print(f'{out}: {train} training, {val} validation images, 10 classes')
    if args.preview:
        print(f'contact sheet: {draw_class_sheet(out / "val", args.preview)}')
