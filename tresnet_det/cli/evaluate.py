"""Evaluate a results file: python tools/evaluate.py ANN RESULTS [--images DIR] [--out DIR].

ANN is a COCO annotation file, and RESULTS what test.py, predict.py or any other detector wrote of
its images: a list of image_id, category_id, score and bbox or segmentation. Of a classifier, ANN is
a folder of classes, a CSV, a list or a COCO file, and RESULTS its results.json or results.csv. The
folder gets report.html and report.md, and all numbers as CSV and JSON. PyTorch is not needed.
"""

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError, shell_path
from ..evaluation.explain import Settings, explain, read_detections
from ..evaluation.explain_labels import explain_labels
from ..evaluation.labels import is_of_labels, read_labels
from ..evaluation.matching import IOU_THRS, MAX_DETS
from ..evaluation.report import format_twelve
from .command_line import out_folder, positive, share


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ann', metavar='ANN', help='the ground truth')
    parser.add_argument('results', metavar='RESULTS', help='what was predicted')
    parser.add_argument('--images', metavar='DIR', help='folder of the images, to draw the worst')
    parser.add_argument('--out', metavar='DIR', help='where the report goes (evaluation/)')
    parser.add_argument('--compare', metavar='OTHER', help='results of another model, to compare')
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='measure these alone')
    parser.add_argument(
        '--max-dets', type=positive, default=MAX_DETS, metavar='N',
        help=f'detections of a class that count in an image ({MAX_DETS})',
    )  # fmt: skip
    parser.add_argument(
        '--iou-thrs', type=share, nargs='+', default=IOU_THRS, metavar='IOU',
        help='overlaps over which mAP is the mean (0.5 to 0.95 by 0.05)',
    )  # fmt: skip
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument(
        '--precision', type=share, metavar='P',
        help='choose thresholds with this precision at least (otherwise those of the best F1)',
    )  # fmt: skip
    wanted.add_argument('--recall', type=share, metavar='R', help='likewise, with this recall')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    folder = None if args.images is None else Path(args.images)
    if folder and not folder.is_dir():
        raise InputError(f'--images {folder} is no folder')
    out = out_folder(args.out or 'evaluation', '--out')
    title = f'{Path(args.results).name} on {Path(args.ann).name}'
    ann = Path(args.ann)  # which tells where the results are none
    of_labels = is_of_labels(args.results) or ann.is_dir() or ann.suffix.lower() in ('.csv', '.txt')
    explained = _explain_labels if of_labels else _explain_detections
    headline = explained(args, out, title, folder)
    print(f'\n{headline}')
    print(f'  report         {shell_path(out / "report.html")}')


def _explain_detections(args: argparse.Namespace, out: Path, title: str, folder: Any) -> str:
    settings = Settings(args.iou_thrs, args.max_dets, args.precision, args.recall)
    result, other = (
        path and read_detections(args.ann, path, args.classes, settings)
        for path in (args.results, args.compare)
    )
    headline = explain(result, out, title, folder, other)
    print(format_twelve(result.metrics, result.kind, '', settings.ious, settings.max_dets))
    return headline


def _explain_labels(args: argparse.Namespace, out: Path, title: str, folder: Any) -> str:
    usual = dict(classes=None, max_dets=MAX_DETS, iou_thrs=IOU_THRS, precision=None, recall=None)
    for key, value in usual.items():
        if getattr(args, key) != value:
            option = key.replace('_', '-')
            raise InputError(f"--{option} is for a detector, and {args.results} is a classifier's")
    result, other = (path and read_labels(args.ann, path) for path in (args.results, args.compare))
    print(f'measured as {"multi" if result.several else "single"}-label classification')
    return explain_labels(result, out, title, folder, other)
