"""Make the demo data, in seconds: handwritten digits on photos, as COCO or class folders."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from mmengine.structures import BaseDataElement, InstanceData

from ..datasets.demo.classes import make_demo_classes
from ..datasets.demo.digits import make_demo_data
from ..models import ClsDataSample
from ..readers.config import label_source
from ..readers.data import read_strictly

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
        preview_objects(out / 'annotations/instances_val2017.json', out / 'val2017', args.preview)


def make_classes(args: argparse.Namespace) -> None:
    out = make_demo_classes(args.out_dir, args.size, args.seed)
    train, val = (len(list((out / split).glob('*/*.png'))) for split in ('train', 'val'))
    print(f'{out}: {train} training, {val} validation images, 10 classes')
    if args.preview:
        preview_classes(out / 'val', args.preview)


def preview_objects(ann_file: Path, folder: Path, out_file: str, count: int = 12) -> None:
    """Draw the first images of a COCO file with their boxes and class names."""
    from ..evaluation.draw import draw_detections

    content = json.loads(ann_file.read_text(encoding='utf-8'))
    classes = {category['id']: category['name'] for category in content['categories']}
    labels = {category_id: label for label, category_id in enumerate(classes)}
    samples = []
    for image in content['images'][:count]:
        objects = [a for a in content['annotations'] if a['image_id'] == image['id']]
        boxes = torch.tensor([a['bbox'] for a in objects]).reshape(-1, 4)
        truth = InstanceData(
            bboxes=torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
            labels=torch.tensor([labels[a['category_id']] for a in objects], dtype=torch.long),
        )
        path = str(folder / image['file_name'])
        samples.append(BaseDataElement(metainfo=dict(img_path=path), gt_instances=truth))
    draw_detections(samples, list(classes.values()), out_file)
    print(f'preview: {out_file}')


def preview_classes(folder: Path, out_file: str, count: int = 12) -> None:
    """Draw images of class folders with their classes: one of each, then a second one, ..."""
    from ..evaluation.draw import draw_classifications

    split, _ = read_strictly(label_source(str(folder), '', None, None, several=False))
    earlier: Counter[int] = Counter()
    turns = []  # how many images of its class come before each
    for label in split.labels.tolist():
        turns.append(earlier[label])
        earlier[label] += 1
    order: Any = sorted(range(len(turns)), key=lambda n: (turns[n], split.labels[n]))[:count]
    samples = [
        ClsDataSample(
            metainfo=dict(img_path=str(folder / split.files[n])), gt_label=split.labels[n]
        )
        for n in order
    ]
    draw_classifications(samples, split.classes, out_file, multi_label=False)
    print(f'preview: {out_file}')
