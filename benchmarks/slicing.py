"""Measure what tiles cost in accuracy and in time, on large canvases of demo images.

  python tools/export.py configs/fcos_tresnet_m.py WORK_DIR --demo --out fcos.onnx
  python benchmarks/slicing.py fcos.onnx --overlap 0.5

A canvas is a grid of demo images with held-out digits, moved by a third of an image, so that seams
fall anywhere. Each image by itself is the native scale, which nothing cuts. An object on a seam is
lost where the native image has it and the tiles do not, and doubled where the tiles have two boxes
of its class that share half of the smaller one, and the native image has not: of scores from 0.3.
"""

import argparse
import contextlib
import io
import time
from itertools import product

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tresnet_det.datasets.demo.digits import make_image
from tresnet_det.datasets.demo.images import load_sources, split_samples
from tresnet_det.inference.onnx_runner import OnnxModel, tile_windows

SIDE, SHIFT = 96, 32  # pixels
SCORE_THR = 0.3


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help="the demo's detector, exported")
    parser.add_argument('--slice', type=int, default=SIDE)
    parser.add_argument('--overlap', type=float, default=0.5)
    parser.add_argument('--canvas', type=int, default=2560, help='side in pixels')
    parser.add_argument('--rounds', type=int, default=5, help='of the times')
    return parser.parse_args()


def make_canvas(side: int) -> tuple[np.ndarray, list[np.ndarray], list[list[tuple]]]:
    """Return a canvas, its images row by row, and of each the digits: ``(x, y, w, h)``, class."""
    sources, count = load_sources(), (side - SHIFT) // SIDE
    pool = split_samples(len(sources.digits), 0)[1]
    rngs = [np.random.default_rng([3, *cell]) for cell in product(range(count), repeat=2)]
    images, digits = zip(*(make_image(rng, sources, pool, SIDE) for rng in rngs), strict=True)
    rows = [np.concatenate(images[n : n + count], 1) for n in range(0, count**2, count)]
    before, after = (SHIFT, side - SHIFT - count * SIDE), (0, 0)
    canvas = np.pad(np.concatenate(rows), (before, before, after), mode='symmetric')
    return canvas, list(images), [[digit[:2] for digit in found] for found in digits]


def compute_map(objects: list[dict], detections: list[dict]) -> float:
    """Return COCO's mAP, of all detections instead of 100 an image."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [{'id': number} for number in range(10)]
        images = [{'id': n} for n in range(objects[-1]['image_id'] + 1)]
        coco.dataset = {'images': images, 'annotations': objects, 'categories': categories}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), 'bbox')
        evaluation.params.maxDets = [1, 10, 100_000]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval['precision'][..., 0, -1]
    return float(precision[precision > -1].mean())


def as_rows(image_id: int, found: dict[str, np.ndarray]) -> list[dict]:
    corners = np.split(found['boxes'].astype(float), 2, 1)
    boxes = np.concatenate((corners[0], corners[1] - corners[0]), 1).tolist()
    rows = zip(boxes, found['labels'].tolist(), found['scores'].tolist(), strict=True)
    return [dict(image_id=image_id, bbox=b, category_id=n, score=s) for b, n, s in rows]


def count_boxes(found: dict[str, np.ndarray], box: tuple, label: int) -> tuple[int, int]:
    """Return how many boxes meet an object at an IoU of 0.5, and share half of the smaller."""
    mine = (found['scores'] >= SCORE_THR) & (found['labels'] == label)
    boxes, (x, y, w, h) = found['boxes'][mine], box
    low, high = np.maximum(boxes[:, :2], (x, y)), np.minimum(boxes[:, 2:], (x + w, y + h))
    shared = (high - low).clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    union = areas + w * h - shared
    return int((shared >= 0.5 * union).sum()), int((shared >= 0.5 * np.minimum(areas, w * h)).sum())


def measure_times(model: OnnxModel, crops: list[np.ndarray], rounds: int) -> list[float]:
    """Return, round by round, the time of batches of 8 to that of one tile at a time."""
    ratios = []
    for _ in range(rounds):
        start = time.perf_counter()
        for crop in crops:
            model.predict(crop)
        single = time.perf_counter() - start
        for n in range(0, len(crops), 8):
            model.predict_all(crops[n : n + 8])
        ratios.append((time.perf_counter() - start - single) / single)
    return ratios


def main() -> None:
    args = parse_args()
    model = OnnxModel(args.model)
    canvas, images, digits = make_canvas(args.canvas)
    sliced = model.predict_sliced(canvas, args.slice, args.overlap)
    windows = np.array(tile_windows(*canvas.shape[:2], args.slice, args.overlap))
    seams = np.setdiff1d(windows, (0, args.canvas))
    columns = (args.canvas - SHIFT) // SIDE
    native, objects, moved = [], [], []
    on_seams = lost = gained = doubled = lost_moved = gained_moved = 0
    for n, (image, content) in enumerate(zip(images, digits, strict=True)):
        found = model.predict(image)
        native += as_rows(n, found)
        for box, label in content:
            x, y = (SHIFT + SIDE * k for k in (n % columns, n // columns))
            place = (box[0] + x, box[1] + y, *box[2:])
            row = dict(id=len(objects) + 1, category_id=label, area=box[2] * box[3], iscrowd=0)
            objects.append(row | dict(image_id=n, bbox=list(box)))
            moved.append(row | dict(image_id=0, bbox=list(place)))
            cut = [(seams > p) & (seams < p + s) for p, s in zip(place, place[2:], strict=False)]
            if not np.any(cut):
                continue
            on_seams += 1
            (one, parts), (tiles, tile_parts) = (
                count_boxes(found, box, label),
                count_boxes(sliced, place, label),
            )
            lost += bool(one and not tiles)
            gained += bool(tiles and not one)
            doubled += tile_parts > 1 >= parts
            # Without a seam, but among other surroundings than in its own image.
            left, top = (
                min(max(int(p + s / 2 - args.slice / 2), 0), args.canvas - args.slice)
                for p, s in zip(place, place[2:], strict=False)
            )
            window = canvas[top : top + args.slice, left : left + args.slice]
            middle = (place[0] - left, place[1] - top, *place[2:])
            moved_one, _ = count_boxes(model.predict(window), middle, label)
            lost_moved += bool(one and not moved_one)
            gained_moved += bool(moved_one and not one)
    whole = as_rows(0, model.predict(canvas))
    print(f'tiles {len(windows)}, objects {len(objects)}, on seams {on_seams}')
    print(f'mAP: native {compute_map(objects, native):.4f}', end=', ')
    print(f'tiles {compute_map(moved, as_rows(0, sliced)):.4f}', end=', ')
    print(f'the image as a whole {compute_map(moved, whole):.4f}')
    print(f'on seams: lost {lost}, found in tiles alone {gained}, doubled {doubled}')
    print(f'the same in a tile around each: lost {lost_moved}, found there alone {gained_moved}')
    crops = [canvas[y1:y2, x1:x2] for x1, y1, x2, y2 in windows[:64]]
    ratios = measure_times(model, crops, args.rounds)
    low, middle, high = np.quantile(ratios, (0, 0.5, 1))
    print(f'time of batches of 8 to single tiles: {middle:.2f} ({low:.2f} to {high:.2f})')


if __name__ == '__main__':
    main()
