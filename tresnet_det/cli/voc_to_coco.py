"""Convert a Pascal VOC dataset (XML files) to COCO's format, which the detection configs read."""

import argparse
import os
import sys

from ..readers.voc_to_coco import voc_to_coco


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('voc_root', help='folder with Annotations, ImageSets/Main and JPEGImages')
    parser.add_argument('out_dir', help='gets annotations/instances_<split>.json')
    parser.add_argument('--splits', nargs='+', help='lists in ImageSets/Main (default: all)')
    parser.add_argument(
        '--classes', nargs='+', help='names in the order of the labels (default: alphabetical)'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    result = voc_to_coco(args.voc_root, args.out_dir, args.splits, args.classes)
    for line in result['warnings']:
        print(f'warning: {line}', file=sys.stderr)
    print(format_table(result))
    images = os.path.abspath(os.path.join(args.voc_root, 'JPEGImages'))
    print(f'In a config: data_root={os.path.abspath(args.out_dir)!r},')
    print(f'  data_prefix=dict(img={images!r}), metainfo=dict(classes={tuple(result["classes"])})')


def format_table(result: dict) -> str:
    """Lay out what `voc_to_coco` returns: a row a split, a column a class."""
    rows = [('split', 'images', *result['classes'], 'boxes')]
    for split, found in result['splits'].items():
        boxes = found['boxes']
        numbers = (found['images'], *boxes.values(), sum(boxes.values()))
        rows.append((split, *map(str, numbers)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append('  '.join(cells))
    return '\n'.join(lines)
