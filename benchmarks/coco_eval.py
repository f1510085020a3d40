"""Time COCO's twelve figures by both backends of the metric, on made-up predictions."""

import argparse
import csv
import gc
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from mmengine.logging import MMLogger

import tresnet_det  # noqa: F401  (prepares the stack before MMDetection is imported)
from tresnet_det.cli.run import run_tool
from tresnet_det.errors import InputError

CONTESTANTS = ('faster_coco_eval', 'pycocotools', 'mmdet')
CLASSES = tuple(f'class {n}' for n in range(80))
IDS = tuple(n + 1 + n // 8 for n in range(80))  # with gaps, as COCO's


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--num-images', type=int, default=5000)
    parser.add_argument('--detections', type=int, default=100, help='an image')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', help='CSV file of the times of each round, in seconds')
    parser.add_argument(
        '--no-mmdet', action='store_true', help="leave MMDetection's own CocoMetric out"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    names = CONTESTANTS[: 3 - args.no_mmdet]
    with tempfile.TemporaryDirectory() as folder:
        ann_file = Path(folder) / 'truth.json'
        samples = make_data(ann_file, args.num_images, args.detections, args.seed)
        rows = measure(str(ann_file), samples, names, args.rounds)
    if args.out:
        write_csv(args.out, rows)
    print(format_table(rows, names))


def make_data(ann_file: Path, images: int, detections: int, seed: int) -> list[dict]:
    """Write a truth like COCO's val2017 and return what a detector says of each image.

    About 7 objects an image, of 80 classes of unequal frequency, a hundredth of them crowds. Of
    the detections, up to half are displaced truths; the others lie anywhere, two in three with a
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


def measure(
    ann_file: str, samples: list[dict], names: tuple[str, ...], rounds: int
) -> list[dict[str, str | int | float]]:
    """Run every contestant in every round, the order turned round each time.

    Returns:
        A row a run: ``round``, ``who``, ``whole`` (from the predictions' tensors to figures and
        tables) and ``inner`` (the library's evaluate, accumulate and summarize), in seconds.

    Raises:
        InputError: The figures of two contestants differ.
    """
    MMLogger.get_instance('benchmark', log_level='WARNING')  # no tables between the times
    rows, figures = [], {}
    for number in range(rounds):
        for who in names[:: -1 if number % 2 else 1]:
            with _inner_clock() as inner, redirect_stdout(io.StringIO()):
                metric = _build(who, ann_file)
                gc.collect()
                start = time.perf_counter()
                metric.process({}, samples)
                figures[who] = metric.evaluate(size=len(samples))
                whole = time.perf_counter() - start
            rows.append(
                {'round': number + 1, 'who': who, 'whole': round(whole, 4),
                 'inner': round(inner[0], 4)}
            )  # fmt: skip
            print(
                f'round {number + 1}, {who}: whole {whole:.2f} s, inner {inner[0]:.2f} s',
                flush=True,
            )
    quick, slow = figures[names[0]], figures[names[1]]
    worst = max(abs(quick[key] - slow[key]) for key in slow)
    if worst > 1e-9:
        raise InputError(f'the figures of {names[0]} and {names[1]} differ by {worst:g}')
    print(f'largest difference of the twelve figures: {worst:.1e}; mAP {slow["coco/bbox_mAP"]:.4f}')
    return rows


def _build(who: str, ann_file: str):
    if who == 'mmdet':
        from mmdet.evaluation import CocoMetric

        metric = CocoMetric(ann_file=ann_file, proposal_nums=(1, 10, 100), classwise=True)
    else:
        from tresnet_det.evaluation import CocoTwelveMetric

        metric = CocoTwelveMetric(ann_file=ann_file, backend=who)
    metric.dataset_meta = {'classes': CLASSES}
    return metric


@contextmanager
def _inner_clock() -> Iterator[list[float]]:
    """Add up the time in what computes: both libraries' methods, and the means of our twelve."""
    from faster_coco_eval import COCOeval_faster
    from pycocotools.cocoeval import COCOeval

    from tresnet_det.evaluation import coco_backends

    spent = [0.0]

    def timed(function: Callable) -> Callable:
        def run(*args):
            start = time.perf_counter()
            result = function(*args)
            spent[0] += time.perf_counter() - start
            return result

        return run

    places = [(coco_backends, 'summarize'), (COCOeval, 'summarize')]
    for name in ('evaluate', 'accumulate'):
        places += [(COCOeval_faster, name), (COCOeval, name)]
    with ExitStack() as stack:
        for place, name in places:
            stack.enter_context(mock.patch.object(place, name, timed(getattr(place, name))))
        yield spent


def write_csv(path: str, rows: list[dict]) -> None:
    """Write a line for each run."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def format_table(rows: list[dict], names: tuple[str, ...]) -> str:
    """Lay out medians, and how often the quick one fits in, with the spread over the rounds."""
    lines = [f'{"":18}{"whole metric, s":>16}{"ratio":>24}{"inner call, s":>16}{"ratio":>24}']
    times = {
        (who, what): [row[what] for row in rows if row['who'] == who]
        for who in names
        for what in ('whole', 'inner')
    }
    for who in names:
        line = f'{who:18}'
        for what in ('whole', 'inner'):
            quick = times[names[0], what]
            ratios = [a / b for a, b in zip(times[who, what], quick, strict=True)]
            spread = f'{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})'
            line += f'{statistics.median(times[who, what]):16.2f}{spread:>24}'
        lines.append(line)
    return '\n'.join(lines)


if __name__ == '__main__':
    run_tool(main)
