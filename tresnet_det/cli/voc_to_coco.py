"""Convert a Pascal VOC dataset (XML files) to COCO's format, which the detection configs read."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingFileError, printable
from ..evaluation.report import format_table
from ..readers.data import layout_sources, read_data
from ..readers.findings import Findings
from ..readers.prepare import number_images, to_coco, write_text
from ..readers.split import Layout
from ..readers.voc import find_lists

ORIGIN = 'Converted from Pascal VOC'  # marks files that may be written again


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
        print(f'warning: {printable(line)}', file=sys.stderr)
    for found in result['splits'].values():
        count = sum(found['boxes'].values())
        print(f'{printable(found["file"])}: {found["images"]} images, {count} boxes')
    columns = {f'{split} boxes': found['boxes'] for split, found in result['splits'].items()}
    classes = result['classes']
    print(format_table([{'class': c, **{k: v[c] for k, v in columns.items()}} for c in classes]))
    images = os.path.abspath(os.path.join(args.voc_root, 'JPEGImages'))
    print(f'In a config: data_root={os.path.abspath(args.out_dir)!r},')
    print(f'  data_prefix=dict(img={images!r}), metainfo=dict(classes={tuple(classes)})')


def voc_to_coco(
    voc_root: str | os.PathLike,
    out_dir: str | os.PathLike,
    splits: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> dict:
    """Convert VOC XML files to one COCO instances JSON a split.

    Boxes are read as :func:`~tresnet_det.readers.voc.read_voc` says, clipped to the image, and
    dropped where they have no area. An object marked ``difficult`` gets ``iscrowd=1``: MMDetection
    does not train on it, and COCO's evaluation ignores it. (COCO's API passes over ``ignore``.)

    Images are not copied: ``file_name`` is relative to ``JPEGImages``, which a config names by
    ``data_prefix=dict(img=...)``. An image has the same id in all splits.

    Args:
        voc_root: Folder with ``Annotations``, ``ImageSets/Main`` and ``JPEGImages``.
        out_dir: Gets ``annotations/instances_<split>.json``. Files that this function made are
            made again, others are not overwritten.
        splits: Names of lists in ``ImageSets/Main``; by default all that list images only (VOC's
            lists of one class, with a second column, are skipped).
        classes: Class names in the order of the labels; by default all names in the splits' files,
            in alphabetical order.

    Returns:
        ``classes`` (list), ``splits`` (for each ``file``, ``images`` and ``boxes``, a count for
        each class), and ``warnings`` (lines of text).

    Raises:
        MissingFileError: A folder, list, XML file or image is not found.
        InputError: A file is malformed, an image has another size than its XML says, a class is
            not in ``classes``, or a file to be written exists and comes from elsewhere.
    """
    root, out, findings = Path(voc_root), Path(out_dir), Findings(strict=True)
    _check_layout(root)
    folder = root / 'ImageSets/Main'
    files = find_lists(folder) if splits is None else [folder / f'{name}.txt' for name in splits]
    for file in files:
        if not file.is_file():
            there = ', '.join(sorted(path.stem for path in folder.glob('*.txt')))
            raise MissingFileError(f'{file}: no such list of images; there are: {there}')
    layout = Layout('voc', root, {file.stem: file for file in files}, root / 'Annotations')
    sources = [
        replace(
            source,
            training=True,
            classes=tuple(classes) if classes else None,
            known_by='--classes',
            needs_truth=False,  # an empty list becomes an empty file
        )
        for source in layout_sources(layout, list(layout.splits), 'detection')
    ]
    read = read_data(sources, findings)
    if not read[0].classes:
        raise InputError(f'{root / "Annotations"}: the files have no object with a box')
    targets = [out / f'annotations/instances_{split.name}.json' for split in read]
    for target in filter(Path.exists, targets):
        _check_overwrite(target)
    ids, summary = number_images(read), {}
    for split, target in zip(read, targets, strict=True):
        content = to_coco(split, np.arange(len(split.files)), ids)
        write_text(target, json.dumps(content, separators=(',', ':')))
        boxes = dict(zip(split.classes, split.class_counts().tolist(), strict=True))
        summary[split.name] = dict(file=target, images=len(split.files), boxes=boxes)
    return dict(classes=list(read[0].classes), splits=summary, warnings=findings.warnings())


def _check_layout(voc_root: Path) -> None:
    """Check that a folder has VOC's three.

    Raises:
        MissingFileError: It lacks one.
    """
    for part in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        if (voc_root / part).is_dir():
            continue
        inner = sorted(found.parent for found in voc_root.glob('*/Annotations'))
        hint = f'; did you mean {inner[0]}?' if inner else ', as Pascal VOC is laid out'
        raise MissingFileError(f'{voc_root}: has no folder {part}{hint}')


def _check_overwrite(target: Path) -> None:
    try:
        origin = json.loads(target.read_bytes())['info']['description']
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        origin = ''
    if not str(origin).startswith(ORIGIN):
        raise InputError(f'{target}: exists and was not made by this conversion; move it away')
