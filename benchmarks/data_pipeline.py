"""Measure images/s per core of the training pipelines, against torchvision's.

  python benchmarks/data_pipeline.py --data-root data/coco
  python benchmarks/data_pipeline.py --data-root PHOTOS --num-images 200 --parts

An image goes from its file to a uint8 tensor: one process, one thread, no batches. All sides read
the same images in every round, in turns of 32; ratios are this project's speed to the other's,
round by round. By the seed of a turn, torchvision's v2 and this project draw the same crops, flips
and operations.
"""

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch
from torch.utils.data import Dataset
from torchvision import transforms as v1
from torchvision.datasets.folder import pil_loader
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from tresnet_det.cli.arguments import out_file, positive
from tresnet_det.cli.run import run_tool
from tresnet_det.datasets.classification import ClassificationDataset
from tresnet_det.datasets.decode import decode_rgb
from tresnet_det.datasets.pipeline import (
    MULTI_LABEL_TRAIN_PIPELINE,
    TRAIN_PIPELINE,
    Cutout,
    build_transforms,
)
from tresnet_det.datasets.rand_augment import RandAugment
from tresnet_det.errors import InputError, MissingFileError, shell_path
from tresnet_det.profiling.comparison import flatten
from tresnet_det.profiling.report import (
    Column,
    describe,
    format_table,
    write_csv,
)
from tresnet_det.profiling.settings import Settings
from tresnet_det.profiling.timing import Spread, order_of_round

PIPELINES = {'one_label_224': TRAIN_PIPELINE, 'multi_label_448': MULTI_LABEL_TRAIN_PIPELINE}
OURS = 'tresnet_det'
# What is common, the same by torchvision's older transforms, and the way its guide recommends.
OTHERS = ('pillow_v2', 'pillow_v1', 'tensors_v2')
TURN = 32  # images, about 100 ms
ENDINGS = ('.jpg', '.jpeg')

Steps = dict[str, Callable]
Row = dict[str, object]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--data-root',
        default='data/coco',
        metavar='DIR',
        help='folder of JPEGs, at any depth; of COCO its train2017 (default: %(default)s)',
    )
    parser.add_argument(
        '--num-images',
        type=positive,
        default=500,
        metavar='N',
        help='a round, evenly spread over all (default: %(default)s)',
    )
    parser.add_argument(
        '--rounds', type=positive, default=9, metavar='N', help='default: %(default)s'
    )
    parser.add_argument(
        '--parts', action='store_true', help='also where the time of an image goes, on both sides'
    )
    parser.add_argument(
        '--out', metavar='PREFIX', help='writes PREFIX.csv, and PREFIX_parts.csv with --parts'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    folder, names = find_images(Path(args.data_root), args.num_images)
    if args.out:
        out_file(args.out)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    header = describe_run(len(names), args.rounds)
    for name, text in header.items():
        print(f'{name:<9} {text}')
    rows = measure(folder, names, args.rounds)
    print_rounds(rows)
    save(rows, header, args.out, '')
    if args.parts:
        paths = [str(folder / name) for name in names]
        save(measure_parts(paths, args.rounds), header, args.out, '_parts')


def save(rows: Sequence[Row], header: Mapping[str, str], prefix: str | None, ending: str) -> None:
    """Write the CSV file, where a prefix is given."""
    if prefix:
        path = Path(f'{prefix}{ending}.csv')
        write_csv(path, rows, header)
        print(f'written: {shell_path(path)}')


def find_images(root: Path, count: int) -> tuple[Path, list[str]]:
    """Find up to ``count`` JPEGs, evenly spread over all that are there.

    Returns:
        Their folder, and the files relative to it.

    Raises:
        MissingFileError: The folder is not there.
        InputError: It has no JPEG.
    """
    if not root.is_dir():
        raise MissingFileError(f'--data-root {root}: no such folder: give a folder of JPEGs')
    folder = root / 'train2017' if (root / 'train2017').is_dir() else root
    names = sorted(
        os.path.relpath(os.path.join(place, file), folder)
        for place, _, files in os.walk(folder)
        for file in files
        if file.lower().endswith(ENDINGS)
    )
    if not names:
        raise InputError(
            f'--data-root {root}: no JPEG ({", ".join(ENDINGS)}) in {folder}, at any depth'
        )
    count = min(count, len(names))
    return folder, [names[number * len(names) // count] for number in range(count)]


def describe_run(images: int, rounds: int) -> dict[str, str]:
    """Return on what and how the figures are measured, one short text for each heading."""
    known = describe(Settings(torch.device('cpu')))
    versions = f'{known["versions"]}, pillow {PIL.__version__}, opencv {cv2.__version__}'
    return {
        'machine': known['machine'],
        'versions': versions,
        'images': f'{images}, read once before the first round',
        'rounds': f'{rounds}, in turns of {TURN} images; median (smallest - largest)',
        'date': known['date'],
        'command': known['command'],
    }


class PillowCutout:
    """:class:`tresnet_det.datasets.pipeline.Cutout` for Pillow's images, with the same draws."""

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def __call__(self, image):
        """Fill a rectangle of the image."""
        spans = []
        for side in (image.height, image.width):
            half, centre = int(self.ratio * side / 2 + 0.5), int(torch.randint(side, ()))
            spans.append((max(centre - half, 0), min(centre + half, side)))
        (top, bottom), (left, right) = spans
        image.paste(tuple(torch.randint(256, (3,)).tolist()), (left, top, right, bottom))
        return image


def decode_to_tensor(path: str) -> torch.Tensor:
    """Return an image as torchvision's own reader gives it, ``(3, H, W)`` of uint8."""
    return decode_image(path, mode=ImageReadMode.RGB)


def build_steps(who: str, pipeline: Sequence[Mapping]) -> Steps:
    """Return what a side does to an image: reading its file, then each transform.

    Args:
        who: ``OURS``, or one of ``OTHERS``.
        pipeline: One of ``PIPELINES``.
    """
    types = [entry['type'] for entry in pipeline]
    if who == OURS:
        return {
            'decode': decode_rgb,
            **dict(zip(types, build_transforms(pipeline).transforms, strict=True)),
        }
    library, on_pillow = (v1 if who.endswith('v1') else v2), who.startswith('pillow')
    steps = {'decode': pil_loader if on_pillow else decode_to_tensor}
    for entry in pipeline:
        arguments = dict(entry)
        name = arguments.pop('type')
        if name == 'RandAugment':  # as much of it, whatever the defaults
            ours = RandAugment(**arguments)
            arguments = {
                key: getattr(ours, key) for key in ('num_ops', 'magnitude', 'num_magnitude_bins')
            }
        if name == 'Cutout':
            kind = PillowCutout if on_pillow else Cutout
        else:
            kind = getattr(library, name)
        steps[name] = kind(**arguments)
    if on_pillow:
        steps['PILToTensor'] = library.PILToTensor()
    return steps


class TorchvisionDataset(Dataset):
    """Images as torchvision's ``ImageFolder`` reads them, with a label.

    Args:
        paths: Image files.
        steps: Reading a file, then the transforms.
    """

    def __init__(self, paths: Sequence[str], steps: Steps) -> None:
        self.paths = paths
        self.load, *transforms = steps.values()
        self.transforms = v1.Compose(transforms)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return an image, ``(3, H, W)`` of uint8, and its label."""
        return self.transforms(self.load(self.paths[index])), 0


def build_dataset(
    who: str, pipeline: Sequence[Mapping], folder: Path, names: Sequence[str]
) -> Dataset:
    """Return the images as a side reads them, all with the label 0."""
    if who == OURS:
        labels = np.zeros(len(names), np.int64)
        return ClassificationDataset(folder, names, labels, ('all',), pipeline)
    return TorchvisionDataset([str(folder / name) for name in names], build_steps(who, pipeline))


def take_turns(sides: int, images: int, rounds: int) -> Iterator[tuple[int, int, range]]:
    """Say which side reads which images next, the random generator set for it.

    Sides change every ``TURN`` images, in changing order, so that what slows the machine down for
    a second slows all of them.

    Yields:
        Number of the round, 0 for one that warms up and does not count; the side; the images.
    """
    starts = range(0, images, TURN)
    for number in range(rounds + 1):
        began = time.monotonic()
        for turn, start in enumerate(starts, number * len(starts)):
            for side in order_of_round(turn, sides):
                torch.manual_seed(turn)
                yield number, side, range(start, min(start + TURN, images))
        title = f'round {number} of {rounds}' if number else 'warm-up'
        print(f'{title}: {time.monotonic() - began:.0f} s', file=sys.stderr, flush=True)


def measure(folder: Path, names: Sequence[str], rounds: int) -> list[Row]:
    """Measure all sides of both pipelines.

    Returns:
        A row a round and pipeline, with ``WHO_img_per_s`` and, for the others, ``WHO_ratio``.
    """
    rows = []
    sides = (OURS, *OTHERS)
    for title, pipeline in PIPELINES.items():
        datasets = [build_dataset(who, pipeline, folder, names) for who in sides]
        seconds = np.zeros((len(sides), rounds + 1))
        for number, side, images in take_turns(len(sides), len(names), rounds):
            start = time.perf_counter()
            for image in images:
                datasets[side][image]
            seconds[side, number] += time.perf_counter() - start
        speeds = len(names) / seconds[:, 1:]
        for number in range(rounds):
            row: Row = {'pipeline': title, 'round': number + 1}
            for who, speed in zip(sides, speeds[:, number].tolist(), strict=True):
                row[f'{who}_img_per_s'] = speed
            for who in OTHERS:
                row[f'{who}_ratio'] = row[f'{OURS}_img_per_s'] / row[f'{who}_img_per_s']
            rows.append(row)
    return rows


def print_rounds(rows: Sequence[Row]) -> None:
    """Print each round of a measurement, then the medians."""
    columns = [Column('pipeline', 'pipeline'), Column('round', 'round')]
    columns += [Column(f'{who}, img/s', f'{who}_img_per_s') for who in (OURS, OTHERS[0])]
    columns += [Column(f'{OURS} to {who}', f'{who}_ratio') for who in OTHERS]
    print(f'\neach round\n{format_table(rows, columns)}')
    medians = []
    for title, who in itertools.product(PIPELINES, (OURS, *OTHERS)):
        line: Row = {'pipeline': title, 'side': who}
        for key in ('img_per_s', 'ratio')[: 1 if who == OURS else 2]:
            values = [row[f'{who}_{key}'] for row in rows if row['pipeline'] == title]
            line |= flatten(key, Spread.of(values))
        medians.append(line)
    columns = [Column('pipeline', 'pipeline'), Column('side', 'side')]
    columns += [Column('img/s a core', 'img_per_s'), Column(f'{OURS} to it', 'ratio')]
    print(f'\nmedian (smallest - largest) of the rounds\n{format_table(medians, columns)}')


def measure_parts(paths: Sequence[str], rounds: int) -> list[Row]:
    """Time each step of ours and of the first other side; print the table.

    Returns:
        A row a step and pipeline, with ``WHO_ms`` an image, the median of the rounds, and
        ``WHO_percent`` of the steps' sum.
    """
    rows = []
    for title, pipeline in PIPELINES.items():
        sides = [build_steps(who, pipeline) for who in (OURS, OTHERS[0])]
        spent = [{name: [0.0] * (rounds + 1) for name in steps} for steps in sides]
        for number, side, images in take_turns(len(sides), len(paths), rounds):
            for index in images:
                image = paths[index]
                for name, step in sides[side].items():
                    start = time.perf_counter()
                    image = step(image)
                    spent[side][name][number] += time.perf_counter() - start
        for name in sides[1]:  # which has ours, and the conversion to a tensor
            row: Row = {'pipeline': title, 'step': name}
            for who, seconds in zip((OURS, OTHERS[0]), spent, strict=True):
                if name in seconds:
                    typical = {step: statistics.median(s[1:]) for step, s in seconds.items()}
                    row[f'{who}_ms'] = 1000 * typical[name] / len(paths)
                    row[f'{who}_percent'] = 100 * typical[name] / sum(typical.values())
            rows.append(row)
    columns = [Column('pipeline', 'pipeline'), Column('step', 'step')]
    for who in (OURS, OTHERS[0]):
        columns += [Column(f'{who}, ms', f'{who}_ms'), Column('%', f'{who}_percent')]
    print(f'\nmilliseconds an image by step, medians\n{format_table(rows, columns)}')
    return rows


if __name__ == '__main__':
    run_tool(main)
