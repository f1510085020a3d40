"""Turn images into features of a frozen backbone: python tools/embed.py WEIGHTS INPUT [INPUT ...].

  python tools/embed.py WEIGHTS IMAGES                     features, (N, C) of float32: the last
                                                           stage's output, averaged over all places
  python tools/embed.py WEIGHTS IMAGES --neighbors 5       the most similar of each image, too
  python tools/embed.py WEIGHTS IMAGES --query IMAGE       the most similar to these images
  python tools/embed.py WEIGHTS --data FOLDER              of a dataset with labels, and how good
                                                           the features are for it: a linear probe

WEIGHTS is a training's work directory, a checkpoint of a TResNet (of any task), or timm://NAME.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import InputError, printable, shell_path
from ..evaluation.draw import Line, draw_classes, read_image, save_sheet
from ..evaluation.pages import write_csv
from ..files import replacing
from ..inference.embedder import SIDE, Embedder, find_labelled, find_neighbors, probe
from ..inference.inputs import InputImage, Report, count_images, find_sources, read_images
from ..inference.predictor import BATCH_SIZE
from .command_line import minutes, out_file, positive
from .failures import one_line

COPY = 0.999  # cosine from which on an image is called a near copy
ROWS = 4096  # of features that are written at once
MOST_DRAWN = 24  # images of a sheet that stand before their neighbours
THUMBNAIL = 160  # pixels

Images = Callable[[Report], Iterator[InputImage]]
Neighbors = Sequence[tuple[str, Sequence[tuple[str, float]]]]  # of each name others, and cosines


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('weights', help='work directory, checkpoint file, or timm://NAME')
    parser.add_argument(
        'inputs',
        nargs='*',
        metavar='input',
        help='images and videos: files, folders, patterns such as "DIR/**/*.jpg", URLs of images',
    )
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='in place of inputs: a dataset in any layout that train.py takes; of one with boxes, '
        'what is inside each',
    )
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='.npy, with the names in a .csv next to it, or .parquet with the columns file and '
        'features (otherwise embed/features.npy in the work directory, or here)',
    )
    parser.add_argument(
        '--neighbors',
        type=positive,
        metavar='K',
        help='write the K most similar images of each to FILE_neighbors.csv',
    )
    parser.add_argument(
        '--query', nargs='+', metavar='IMAGE', help='of these images, which need not be inputs (5)'
    )
    parser.add_argument(
        '--sheet', metavar='FILE', help=f'draw the first {MOST_DRAWN} with their neighbours'
    )
    parser.add_argument(
        '--img-size',
        type=positive,
        metavar='PIXELS',
        help=f"resize to a square of this side (otherwise {SIDE}, or a classifier's own test "
        'pipeline)',
    )
    parser.add_argument(
        '--batch-size', type=positive, default=BATCH_SIZE, help=f'images at once ({BATCH_SIZE})'
    )
    parser.add_argument('--device', help='cpu, cuda:0, ... (otherwise a GPU where there is one)')
    args = parser.parse_args()
    if bool(args.inputs) == bool(args.data):
        parser.error('give images, or --data FOLDER (a linear probe needs labels)')
    if args.query and not args.neighbors:
        args.neighbors = 5
    if args.sheet and not args.neighbors:
        parser.error('--sheet draws neighbours: give --neighbors K or --query IMAGE')
    return args


def _check_overwritten(args: argparse.Namespace, out: Path) -> None:
    """Refuse to write where the images and labels are, whose CSV files may have the same name."""
    written = {out: '--out', **({Path(args.sheet): '--sheet'} if args.sheet else {})}
    for given in filter(None, [args.data, *args.inputs, *(args.query or [])]):
        for file, option in written.items():
            if Path(given).absolute() in (file.absolute(), *file.absolute().parents):
                raise InputError(
                    f'{option} {file} is in {given}, among images and labels: name another'
                )


def main() -> None:
    args = parse_args()
    folder = Path(args.weights) if Path(args.weights).is_dir() else Path()
    out = out_file(args.out or folder / 'embed' / 'features.npy', '.npy', '.parquet')
    if out.suffix == '.parquet':
        import_pyarrow()
    sheet = args.sheet and out_file(args.sheet, '.jpg', '.png')
    _check_overwritten(args, out)
    labelled = find_labelled(args.data) if args.data else []
    sources, queries = find_sources(args.inputs), find_sources(args.query or [])
    embedder = Embedder(args.weights, args.device, args.img_size)
    start = time.monotonic()
    embed_all = partial(embed, embedder, batch_size=args.batch_size, folder=out.parent)
    parts: list[Images] = [partial(part.read, embedder.read) for part in labelled]
    total = sum(len(part.items) for part in labelled) + count_images(sources)
    found, features = embed_all(parts or [partial(read_images, sources, embedder.read)], total)
    columns, labels = {'file': sum(found, [])}, []
    for part, names in zip(labelled, found, strict=False):  # images without labels are no part
        row_of = {name: row for row, name in enumerate(part.items)}
        rows = [row_of[name] for name in names]
        columns.setdefault('split', []).extend([part.split] * len(names))
        columns.setdefault('label', []).extend(map(part.describe, rows))
        labels.append(part.labels[rows])
    save(out, features, columns)
    print(
        f'{len(features)} x {features.shape[1]} features by {shell_path(args.weights)} on '
        f'{embedder.device} in {minutes(time.monotonic() - start)}\n  features  {shell_path(out)}'
    )
    if args.neighbors:
        asked, sought = columns['file'], None
        if queries:
            images = partial(read_images, queries, embedder.read)
            (asked,), sought = embed_all([images], count_images(queries))
        alike = find_neighbors(features, args.neighbors, sought)
        pairs = [
            (name, [(columns['file'][row], cosine) for row, cosine in zip(*ranks, strict=True)])
            for name, *ranks in zip(asked, *alike, strict=True)
        ]
        write_neighbors(out.with_name(f'{out.stem}_neighbors.csv'), pairs)
        if sheet:
            draw_neighbors(sheet, pairs[:MOST_DRAWN])
        if sought is None and (copies := (alike[1][:, :1] > COPY).sum()):
            print(f'note: {copies} images have a near copy (a cosine above {COPY})')
    if labelled:
        print(probe(features, np.concatenate(labels), columns['split']))


def embed(
    embedder: Embedder, parts: Sequence[Images], total: int, batch_size: int, folder: Path
) -> tuple[list[list[str]], np.ndarray]:
    """Compute features batch by batch.

    Args:
        embedder: What computes them.
        parts: Each yields images; what cannot be read is named and skipped.
        total: How many there are, for the progress bar.
        batch_size: Most images at once.
        folder: Gets the features, in a file without a name, of which nothing is left.

    Returns:
        The names of each part's images, and the features of all, ``(N, C)`` of float32, on disk.

    Raises:
        InputError: None could be read.
    """
    bar = tqdm(total=total, unit='image', disable=None, dynamic_ncols=True, file=sys.stderr)

    def report(name: str, error: Exception) -> None:
        bar.write(f'skipped {printable(one_line(error))}', file=sys.stderr)
        bar.update()

    names: list[list[str]] = []
    with bar, writing(folder), tempfile.TemporaryFile(dir=folder) as file:
        for part in parts:
            names.append([])
            for image, features in embedder.stream(part(report), report, batch_size):
                names[-1].append(image.name)
                file.write(features.numpy().tobytes())
                bar.update()
        file.flush()
        count = sum(map(len, names))
        if not count:
            raise InputError('there are no features: none of the images could be read')
        return names, np.memmap(file, np.float32, 'r').reshape(count, -1)


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Say where something could not be written, which not every error of the system does."""
    try:
        yield
    except OSError as error:
        raise InputError(f'{place}: cannot be written ({error.strerror or error})') from error


def import_pyarrow() -> Any:
    """Return pyarrow, or say how to get it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError('--out: .parquet needs pyarrow: pip install pyarrow, or .npy') from error
    return pyarrow


def save(out: Path, features: np.ndarray, columns: dict[str, list[str]]) -> None:
    """Write features with the names of their images: a ``.npy`` and a ``.csv``, or a ``.parquet``.

    Args:
        out: The file; its ending decides which.
        features: ``(N, C)``, of which few rows are in memory at once.
        columns: What is known of each, ``N`` texts by the column's name.
    """
    if out.suffix == '.npy':
        rows = zip(*columns.values(), strict=True)
        with writing(out), replacing(out) as unfinished:  # both, or neither
            np.save(unfinished, features)
            write_csv(out.with_suffix('.csv'), (dict(zip(columns, r, strict=True)) for r in rows))
        return
    arrow = import_pyarrow()
    texts = {key: [printable(text) for text in values] for key, values in columns.items()}
    vector = arrow.list_(arrow.float32(), features.shape[1])
    kinds = [*((key, arrow.string()) for key in columns), ('features', vector)]
    schema = arrow.schema(kinds)
    with (
        writing(out),
        replacing(out) as unfinished,
        arrow.parquet.ParquetWriter(unfinished, schema) as writer,
    ):
        for start in range(0, len(features), ROWS):
            part = slice(start, start + ROWS)
            flat = arrow.array(features[part].ravel())
            vectors = arrow.FixedSizeListArray.from_arrays(flat, features.shape[1])
            arrays = [*(arrow.array(values[part]) for values in texts.values()), vectors]
            writer.write_table(arrow.table(arrays, schema=schema))


def write_neighbors(file: Path, pairs: Neighbors) -> None:
    """Write a line for each image and each of its neighbours, and print where."""
    rows = (
        dict(file=name, rank=rank, neighbor=neighbor, cosine=f'{cosine:.6f}')
        for name, others in pairs
        for rank, (neighbor, cosine) in enumerate(others, 1)
    )
    with writing(file):
        write_csv(file, rows)
    print(f'  neighbors {shell_path(file)}')


def draw_neighbors(file: Path, pairs: Neighbors) -> None:
    """Draw a sheet, each image left of its neighbours with their cosines, and print where."""
    tiles = []
    for name, others in pairs:
        panels = [_draw(name, None), *(_draw(*other) for other in others)]
        height = max(map(len, panels))
        sides = ((0, 4), (0, 0))
        filled = [np.pad(p, ((0, height - len(p)), *sides), constant_values=255) for p in panels]
        tiles.append(np.hstack(filled))
    with writing(file):
        save_sheet(tiles, file, {'nearest neighbours'}, '', Counter())
    print(f'  sheet     {shell_path(file)}')


def _draw(name: str, cosine: float | None) -> np.ndarray:
    # A box, a frame or a URL is not read again.
    blank = np.full((THUMBNAIL, THUMBNAIL, 3), 200, np.uint8)
    image = read_image(name) if Path(name).is_file() else blank
    return draw_classes(image, [Line(Path(name).name, cosine)], side=THUMBNAIL)
