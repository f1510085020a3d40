"""Measure images/s per core of the classification pipelines, against torchvision's.

  python benchmarks/data_pipeline.py --data-root data/coco --out benchmarks/data_pipeline.csv

An image goes from its file to a uint8 tensor: one process, one thread, no batches. Both sides read
the same images with the same crops, flips and operations; the ratio is taken round by round.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import PIL
import torch
from torchvision.datasets.folder import pil_loader
from torchvision.transforms import v2

from tresnet_det.cli.ending import run_tool
from tresnet_det.datasets.decode import decode_rgb
from tresnet_det.datasets.pipeline import (
    MULTI_LABEL_TRAIN_PIPELINE,
    TRAIN_PIPELINE,
    build_transforms,
)
from tresnet_det.errors import InputError
from tresnet_det.profiling.report import Column, describe, format_table, write_csv
from tresnet_det.profiling.settings import Settings
from tresnet_det.profiling.timing import Workload, add_speeds, measure_interleaved

PIPELINES = {'one_label_224': TRAIN_PIPELINE, 'multi_label_448': MULTI_LABEL_TRAIN_PIPELINE}
COLUMNS = (
    Column('pipeline', 'pipeline'),
    Column('side', 'side'),
    Column('img/s', 'reading_img_per_s'),
    Column('ratio', 'reading_ratio'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data-root', type=Path, default=Path('data/coco'), metavar='DIR',
                        help='folder of JPEGs, at any depth')  # fmt: skip
    parser.add_argument(
        '--num-images', type=int, default=500, help='per round; default: %(default)s'
    )
    parser.add_argument('--rounds', type=int, default=9, help='default: %(default)s')
    parser.add_argument('--out', type=Path, metavar='FILE.csv')
    return parser.parse_args()


def find_images(root: Path, count: int) -> list[str]:
    """Return up to ``count`` JPEGs below a folder, evenly spread over all.

    Raises:
        InputError: There is none.
    """
    paths = sorted(str(p) for p in root.rglob('*') if p.suffix.lower() in ('.jpg', '.jpeg'))
    if not paths:
        raise InputError(f'--data-root {root}: no JPEG found, at any depth')
    count = min(count, len(paths))
    return [paths[number * len(paths) // count] for number in range(count)]


class PillowCutout:
    """:class:`tresnet_det.datasets.pipeline.Cutout` for Pillow's images, with the same draws."""

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def __call__(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """Fill a rectangle of the image."""
        spans = []
        for side in (image.height, image.width):
            half, centre = int(self.ratio * side / 2 + 0.5), int(torch.randint(side, ()))
            spans.append((max(centre - half, 0), min(centre + half, side)))
        (top, bottom), (left, right) = spans
        image.paste(tuple(torch.randint(256, (3,)).tolist()), (left, top, right, bottom))
        return image


def build_readers(pipeline: Sequence[Mapping]) -> dict[str, Callable[[str], torch.Tensor]]:
    """Return by side a function from an image's file to ``(3, H, W)`` of uint8."""
    steps: list[Callable] = []
    for entry in pipeline:
        arguments = dict(entry)
        name = arguments.pop('type')
        steps.append(
            PillowCutout(**arguments) if name == 'Cutout' else getattr(v2, name)(**arguments)
        )
    theirs, transform = v2.Compose([*steps, v2.PILToTensor()]), build_transforms(pipeline)
    return {
        'torchvision': lambda path: theirs(pil_loader(path)),
        'tresnet_det': lambda path: transform(decode_rgb(path)),
    }


def measure(paths: Sequence[str], rounds: int) -> list[dict]:
    """Return a row per pipeline and side; ratios are to torchvision."""
    rows = []
    for title, pipeline in PIPELINES.items():
        readers = build_readers(pipeline)

        def read_all(read: Callable) -> None:
            torch.manual_seed(0)
            for path in paths:
                read(path)

        contestants = [
            {'reading': Workload(lambda read=read: read_all(read), len(paths))}
            for read in readers.values()
        ]
        of_pipeline: list[dict] = [{'pipeline': title, 'side': side} for side in readers]
        add_speeds(of_pipeline, measure_interleaved(contestants, rounds, min_seconds=0))
        rows += of_pipeline
    return rows


def main() -> None:
    """Measure, print the table and write it."""
    args = parse_args()
    paths = find_images(args.data_root, args.num_images)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = measure(paths, args.rounds)
    known = describe(Settings(torch.device('cpu')))
    header = {name: known[name] for name in ('machine', 'versions', 'date', 'command')}
    header['versions'] += f', pillow {PIL.__version__}, opencv {cv2.__version__}'
    header |= {'images': str(len(paths)), 'rounds': f'{args.rounds}, interleaved'}
    print(format_table(rows, COLUMNS))
    if args.out:
        write_csv(args.out, rows, header)


if __name__ == '__main__':
    run_tool(main)
