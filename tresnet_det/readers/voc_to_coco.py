"""Pascal VOC written as COCO's format, with the images where they are."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingFileError
from .data import read_data
from .files import read_lines
from .findings import Findings
from .prepare import to_coco, write_text
from .split import Source
from .voc import check_layout

ORIGIN = 'Converted from Pascal VOC'  # marks files that may be written again


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
    root, out = Path(voc_root), Path(out_dir)
    check_layout(root)
    findings = Findings(strict=True)
    sources = [
        Source(
            file.stem,
            'voc',
            file,
            root / 'JPEGImages',
            training=True,
            detection=True,
            classes=tuple(classes) if classes else None,
            known_by='--classes',
            own=True,
            needs_truth=False,  # an empty list becomes an empty file
            xml_folder=root / 'Annotations',
        )
        for file in _find_lists(root / 'ImageSets/Main', splits)
    ]
    read = read_data(sources, findings)
    if not read[0].classes:
        raise InputError(f'{root / "Annotations"}: the files have no object with a box')
    paths = {split.path(row) for split in read for row in range(len(split.files))}
    ids = {path: number for number, path in enumerate(sorted(paths), 1)}
    targets = [out / f'annotations/instances_{split.name}.json' for split in read]
    for target in targets:
        _check_overwrite(target)
    summary = {}
    for split, target in zip(read, targets, strict=True):
        content = to_coco(split, np.arange(len(split.files)), ids)
        write_text(target, json.dumps(content, separators=(',', ':')))
        boxes = dict(zip(split.classes, split.class_counts().tolist(), strict=True))
        summary[split.name] = dict(file=target, images=len(split.files), boxes=boxes)
    return {
        'classes': list(read[0].classes),
        'splits': summary,
        'warnings': findings.warnings(),
    }


def _find_lists(folder: Path, splits: Sequence[str] | None) -> list[Path]:
    """Return the lists of images of the splits."""
    if splits is not None:
        for split in splits:
            if not (folder / f'{split}.txt').is_file():
                there = ', '.join(sorted(p.stem for p in folder.glob('*.txt')))
                raise MissingFileError(
                    f'{folder}/{split}.txt: no such list of images; there are: {there}'
                )
        return [folder / f'{split}.txt' for split in splits]
    files = []
    for file in sorted(folder.glob('*.txt')):
        rows = [row.split() for row in read_lines(file) if row.strip()]
        if rows and all(len(row) == 1 for row in rows):  # others are lists of one class
            files.append(file)
    if not files:
        raise InputError(f'{folder}: has no list of images; write one, such as train.txt')
    return files


def _check_overwrite(target: Path) -> None:
    if not target.exists():
        return
    try:
        origin = json.loads(target.read_bytes())['info']['description']
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        origin = ''
    if not str(origin).startswith(ORIGIN):
        raise InputError(f'{target}: exists and was not made by this conversion; move it away')
