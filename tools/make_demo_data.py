"""Make the demo data, in seconds: handwritten digits on photographs, as COCO or class folders."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from tresnet_det.datasets.classification import find_class_images
from tresnet_det.datasets.demo.classes import make_demo_classes
from tresnet_det.datasets.demo.digits import make_demo_data
from tresnet_det.errors import InputError

DETECTION = {'out': 'data/demo', 'num_train': 1000, 'num_val': 200, 'size': 96}
CLASSES = {'out': 'data/demo_classes', 'size': 64}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--classes',
        action='store_true',
        help='class folders for classification: each of the 1797 digits alone on an image',
    )
    parser.add_argument(
        '--out',
        help=f'folder to make (default: {DETECTION["out"]}; with --classes {CLASSES["out"]})',
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
    args = parser.parse_args(argv)
    if args.classes and (args.num_train is not None or args.num_val is not None):
        parser.error('--num-train and --num-val: with --classes each digit is drawn once')
    for name, value in (CLASSES if args.classes else DETECTION).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def main(argv: list[str] | None = None) -> int:
    """Make the data, or print one line that says why not; returns the exit code."""
    args = parse_args(argv)
    try:
        if args.classes:
            make_classes(args)
        else:
            make_detection(args)
    except (InputError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


def make_detection(args: argparse.Namespace) -> None:
    out = make_demo_data(args.out, args.num_train, args.num_val, args.size, args.seed)
    print(f'{out}: {args.num_train} training, {args.num_val} validation images, 10 classes')
    if args.preview:
        preview_objects(out / 'annotations/instances_val2017.json', out / 'val2017', args.preview)


def make_classes(args: argparse.Namespace) -> None:
    out = make_demo_classes(args.out, args.size, args.seed)
    train, val = (len(list((out / split).glob('*/*.png'))) for split in ('train', 'val'))
    print(f'{out}: {train} training, {val} validation images, 10 classes')
    if args.preview:
        preview_classes(out / 'val', args.preview)


def preview_objects(ann_file: Path, folder: Path, out_file: str, count: int = 12) -> None:
    """Draw the first images of a COCO file with their boxes and class names."""
    from tresnet_det.evaluation import draw_predictions

    content = json.loads(ann_file.read_text(encoding='utf-8'))
    classes = {category['id']: category['name'] for category in content['categories']}
    labels = {category_id: label for label, category_id in enumerate(classes)}
    truth = {image['id']: dict(bboxes=[], labels=[]) for image in content['images'][:count]}
    for annotation in content['annotations']:
        if annotation['image_id'] in truth:
            x, y, w, h = annotation['bbox']
            objects = truth[annotation['image_id']]
            objects['bboxes'].append([x, y, x + w, y + h])
            objects['labels'].append(labels[annotation['category_id']])
    paths = [folder / image['file_name'] for image in content['images'][:count]]
    draw_predictions(paths, None, list(truth.values()), list(classes.values()), out_file)
    print(f'preview: {out_file}')


def preview_classes(folder: Path, out_file: str, count: int = 12) -> None:
    """Draw images of class folders with their classes: one of each, then a second one, ..."""
    from tresnet_det.evaluation import draw_classifications

    names, labels, classes = find_class_images(folder, None)
    earlier: Counter[int] = Counter()
    turns = []  # how many images of its class come before each
    for label in labels:
        turns.append(earlier[label])
        earlier[label] += 1
    order = sorted(range(len(names)), key=lambda n: (turns[n], labels[n]))[:count]
    paths, shown = [folder / names[n] for n in order], [labels[n] for n in order]
    draw_classifications(paths, None, shown, classes, out_file, multi_label=False)
    print(f'preview: {out_file}')


if __name__ == '__main__':
    sys.exit(main())
