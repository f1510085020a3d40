"""Time the COCO metric by each of its backends, and MMDetection's, on random predictions.

  python benchmarks/coco_eval.py --out benchmarks/coco_eval.csv

A run is the whole metric, from the predictions' tensors to the 12 numbers and the tables. All take
turns in every round; ratios are to pycocotools' speed, round by round.
"""

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger

from tresnet_det.cli.ending import run_tool
from tresnet_det.errors import InputError
from tresnet_det.evaluation.coco_metric import CocoTwelveMetric
from tresnet_det.profiling.report import Column, describe, format_table, write_csv
from tresnet_det.profiling.settings import Settings
from tresnet_det.profiling.timing import Workload, add_speeds, measure_interleaved

BACKENDS = ('pycocotools', 'faster_coco_eval')
CLASSES = tuple(f'class {n}' for n in range(80))
IDS = tuple(n + 1 + n // 8 for n in range(80))  # with gaps, as COCO's
COLUMNS = (
    Column('metric', 'metric'),
    Column('img/s', 'evaluation_img_per_s'),
    Column('to the first', 'evaluation_ratio'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--num-images', type=int, default=5000)
    parser.add_argument('--detections', type=int, default=100, help='per image')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, metavar='FILE.csv')
    return parser.parse_args()


def make_data(ann_file: Path, images: int, detections: int, seed: int) -> list[dict]:
    """Write ground truth like COCO's val2017 and return what a detector says of each image.

    About 7 objects an image, of 80 classes of unequal frequency, a hundredth of them crowds. Of
    the detections, up to half are displaced ground truth; of the others, two in three have a
    class that the image has.
    """
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, 81)
    frequency /= frequency.sum()
    content = {
        'images': [
            {'id': 7 * n + 1, 'width': 640, 'height': 480, 'file_name': f'{n}.jpg'}
            for n in range(images)
        ],
        'categories': [{'id': i, 'name': n} for i, n in zip(IDS, CLASSES, strict=True)],
        'annotations': [],
    }
    samples = []
    for image in content['images']:
        count = rng.geometric(1 / 7.3)
        present = rng.choice(80, min(3, count), p=frequency)
        labels, boxes = rng.choice(present, count), _boxes(rng, count)
        for label, (x1, y1, x2, y2) in zip(labels.tolist(), boxes.tolist(), strict=True):
            width, height = x2 - x1, y2 - y1
            content['annotations'].append(
                {
                    'id': len(content['annotations']) + 1,
                    'image_id': image['id'],
                    'category_id': IDS[label],
                    'bbox': [x1, y1, width, height],
                    'area': 0.7 * width * height,  # of the mask
                    'iscrowd': int(rng.random() < 0.01),
                }
            )
        hits = rng.integers(0, count, min(detections // 2, 3 * count))
        size = np.tile(boxes[hits, 2:] - boxes[hits, :2], 2)
        near = boxes[hits] + rng.normal(0, 0.08, size.shape) * size
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        rest = detections - len(hits)
        wrong = np.where(
            rng.random(rest) < 2 / 3, rng.choice(present, rest), rng.choice(80, rest, p=frequency)
        )
        scores = np.concatenate([rng.beta(3, 2, len(hits)), rng.beta(1, 6, rest)])
        order = np.argsort(-scores)
        samples.append(
            {
                'img_id': image['id'],
                'ori_shape': (480, 640),
                'pred_instances': {
                    'bboxes': torch.from_numpy(
                        np.concatenate([near, _boxes(rng, rest)])[order].astype(np.float32)
                    ),
                    'scores': torch.from_numpy(scores[order].astype(np.float32)),
                    'labels': torch.from_numpy(np.concatenate([labels[hits], wrong])[order]),
                },
            }
        )
    ann_file.write_text(json.dumps(content))
    return samples


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes (N, 4) as corners in an image of 640x480, with sides from 8 to 400 pixels."""
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (count, 2)))
    low = rng.uniform(0, 1, (count, 2)) * np.maximum([640, 480] - sides, 0)
    return np.round(np.concatenate([low, low + sides], axis=1), 2)


def build_metric(who: str, ann_file: str) -> Any:
    """Return a metric: MMDetection's own, or ours by a backend."""
    if who == 'mmdet':
        from mmdet.evaluation import CocoMetric  # not before our package, which prepares its stack

        metric = CocoMetric(ann_file=ann_file, proposal_nums=(1, 10, 100), classwise=True)
    else:
        metric = CocoTwelveMetric(ann_file=ann_file, backend=who)
    metric.dataset_meta = {'classes': CLASSES}
    return metric


def main() -> None:
    """Measure, compare the results, print the table and write it."""
    args = parse_args()
    MMLogger.get_instance('benchmark', log_level='WARNING')  # no tables between the times
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        ann_file = Path(folder, 'annotations.json')
        samples = make_data(ann_file, args.num_images, args.detections, args.seed)

        def evaluate(who: str) -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                metric = build_metric(who, str(ann_file))
                metric.process({}, samples)
                found[who] = metric.evaluate(size=len(samples))

        names = (*BACKENDS, 'mmdet')
        contestants = [
            {'evaluation': Workload(lambda who=who: evaluate(who), args.num_images)}
            for who in names
        ]
        rows: list[dict] = [{'metric': who} for who in names]
        add_speeds(rows, measure_interleaved(contestants, args.rounds, min_seconds=0))
    first, second = (found[who] for who in BACKENDS)
    worst = max(abs(first[key] - second[key]) for key in first)
    if worst > 1e-9:
        raise InputError(f'the results of {" and ".join(BACKENDS)} differ by {worst:g}')
    print(f'largest difference of the 12 metrics: {worst:.1e}\n{format_table(rows, COLUMNS)}')
    if args.out:
        known = describe(Settings(torch.device('cpu')))
        header = {name: known[name] for name in ('machine', 'versions', 'date', 'command')}
        write_csv(args.out, rows, header)


if __name__ == '__main__':
    run_tool(main)
