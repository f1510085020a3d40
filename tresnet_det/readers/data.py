"""The ways in: read the splits of a dataset, with every check that a training makes.

``check_data.py`` collects what is wrong, a training raises the first error: `read_data` serves
both. `read_strictly` is for a dataset that a config names, `prepare_splits` for ``--data FOLDER``:
what has to be written for a config, COCO's JSON or lists of labels, appears in a folder of the
caller's, nothing in the data's. Checks that need pixels are in :mod:`tresnet_det.readers.report`.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import InputError, MissingFileError
from ..files import replacing
from .class_folders import read_class_folders
from .coco import read_coco
from .counts import SEED, Counts, check_left, describe_small, plan_parts
from .csv import read_csv, read_list
from .exports import PARSERS, read_export
from .files import is_turned, not_found, read_json, read_sizes
from .findings import Findings, compare_classes
from .layouts import OF_TASK, check_training, layout_sources
from .locate import locate
from .masks import find_mask_fault
from .recognise import Layout
from .split import NAMED, ORIGINS, ROLES, Source, Split, check_boxes, compare_sizes
from .voc import read_voc
from .written import to_coco, to_labels
from .yolo import read_yolo

READERS: Mapping[str, Callable[[Source, Findings], Split | None]] = {
    'coco': read_coco,
    'voc': read_voc,
    'yolo': read_yolo,
    **dict.fromkeys(PARSERS, read_export),
    'csv': read_csv,
    'list': read_list,
    'folders': read_class_folders,
}
FROM_HEADERS = ('coco', *NAMED)  # kinds whose annotations may lack the size of an image
ONE_LABEL = ('list', 'folders')  # kinds of single-label sources
NAMES = {'train': 'train_without_val', 'val': 'val_of_train'}  # of the files that hold the parts


def read_data(
    sources: Sequence[Source],
    findings: Findings,
    num_classes: int | None = None,
    headers: float = 0,
) -> list[Split]:
    """Read splits, and check them as far as that needs no pixels.

    Args:
        sources: Where they are.
        findings: Gets what is wrong.
        num_classes: Of the model's head; None where it is not known.
        headers: Most images of a COCO file that are opened to compare their size with what it says.

    Returns:
        Those that could be read.

    Raises:
        InputError: The findings are strict, and there is an error.
    """
    found = locate(_agree_on_classes(_read(sources, findings), findings), findings)
    splits = [
        replace(split, usable=split.labels >= 0)
        if split.boxes is None
        else check_boxes(split, findings)
        for split in (_fit_sizes(split, findings, headers) for split in found)
    ]
    for split in splits:
        _check_filter(split, findings)
    _check_usable(splits, findings)
    wanting = [split for split in splits if split.source.needs_truth]
    named = [(split.name, split.source.ann_file, split.classes) for split in wanting]
    first = next(((s.name, '', s.classes) for s in splits if s.source.training), None)
    compare_classes(named, first, num_classes, findings)
    for split in wanting:
        add = split.about(findings)
        if findings.has(split.name, 'nothing-to-learn'):
            continue
        if split.source.own and split.source.kind in ONE_LABEL and len(split.classes) == 1:
            add('single-class', [repr(split.classes[0])])
        silent = ~split.annotated if split.lacking is None else ~split.annotated & ~split.lacking
        add('no-annotation', silent.nonzero()[0], split.files.__getitem__, len(split.files))
    return splits


def read_strictly(source: Source) -> tuple[Split, list[str]]:
    """Read one split for a dataset.

    Returns:
        The split, and warnings, a line each.

    Raises:
        InputError: There is an error in it.
    """
    findings = Findings(strict=True)
    (split,) = locate(_read([source], findings), findings)
    return split, findings.warnings()


def _read(sources: Sequence[Source], findings: Findings) -> list[Split]:
    """Return the splits that can be read; that others cannot is a finding."""
    splits: list[Split] = []
    for source in sources:
        kind = source.kind
        # The classes of your own data are those of its first split.
        if source.own and kind not in ORIGINS and source.classes is None and splits:
            known_by = 'the training data' if kind == 'folders' else ''
            source = replace(source, classes=splits[0].classes or None, known_by=known_by)
        try:
            split = READERS[kind](source, findings)
        except InputError as error:
            if findings.strict and findings.has_error(source.name):  # the finding itself
                raise
            add = source.about(findings)
            if not isinstance(error, MissingFileError):
                add('unreadable-annotations', [error])
            elif kind == 'folders':
                add('missing-folder', [not_found('image folder', source.ann_file)])
            else:
                add('missing-file', [not_found('annotation file', source.ann_file)])
        else:
            splits += [split] if split else []
    return splits


def _fit_sizes(split: Split, findings: Findings, most: float) -> Split:
    """Take sizes that are not annotated from the images' headers, and compare the others."""
    unknown = np.isnan(split.sizes).any(1)
    if split.source.kind not in FROM_HEADERS:
        return split
    most = math.inf if split.source.kind in NAMED else most
    compared = np.zeros(len(unknown), bool)
    if most:
        compared[:: max(1, math.ceil(len(unknown) / most))] = True
    rows = np.flatnonzero(unknown | compared)
    files, add, sizes = (
        [split.files[row] for row in rows],
        split.about(findings),
        split.sizes.copy(),
    )
    # A dataset that a config names may skip an image that does not decode.
    refuse = add if split.source.fills_in or split.source.kind != 'coco' else lambda *_: None
    real, unreadable = read_sizes(split.folder, files, refuse)
    differs = ((sizes[rows] != real).any(1) & ~np.isnan(sizes[rows] + real).any(1)).nonzero()[0]

    def compare(i: int) -> str:
        return compare_sizes(files[i], sizes[rows[i]], real[i])

    turned = [
        i
        for i in differs
        if (sizes[rows[i]] == real[i, ::-1]).all() and is_turned(split.path(rows[i]))
    ]
    add('exif-rotated', turned, compare, len(files))
    add('size-differs', sorted({*differs} - {*turned}), compare, len(files))
    sizes[unknown] = real[unknown[rows]]
    known = [mask for mask in split.masks if not np.isnan(sizes[mask[0]]).any()]
    faults = [(place, find_mask_fault(mask, *sizes[row])) for row, place, mask in known]
    bad = [f'{place}: it {fault}' for place, fault in faults if fault]
    add('bad-mask', bad, total=len(split.rows))
    if split.fractions and split.boxes is not None:
        xywh = split.boxes.xywh * np.tile(sizes[split.rows], 2)
        split = replace(split, boxes=replace(split.boxes, xywh=xywh, areas=xywh[:, 2:].prod(1)))
    unreadable = [int(rows[i]) for i in unreadable if refuse is add]
    return replace(split, sizes=sizes, unreadable=unreadable, masks=())


def _check_filter(split: Split, findings: Findings) -> None:
    """Find images that the dataset's filter drops for their size."""
    least = split.source.filter_cfg.get('min_size') or 0
    small = (split.sizes.min(1) < least).nonzero()[0]

    def name(row: int) -> str:
        return f'{split.files[row]}, {split.sizes[row, 0]:g} x {split.sizes[row, 1]:g}'

    if len(small):
        try:
            left = len(split.files) - len(small)
            check_left(split.source.ann_file, left, [describe_small(len(small), least)])
        except InputError as error:
            split.about(findings)('nothing-to-learn', [error])
    split.about(findings)('small-image', small, name, len(split.files))


def _agree_on_classes(splits: list[Split], findings: Findings) -> list[Split]:
    """Give the splits of your own data one list of classes.

    VOC's are the names in all of them. Of COCO's, the category that groups the others is skipped
    where no object is of it.
    """
    own = [s for s in splits if s.source.kind in NAMED and s.source.classes is None]
    classes = tuple(sorted({name for split in own for name in split.classes}))
    if not own:
        own = [s for s in splits if s.source.kind == 'coco' and s.source.own]
        group = own[0].group if own else None
        in_use = [group in s.classes and (s.labels == s.classes.index(group)).any() for s in own]
        if group is None or any(in_use):
            return splits
        text = f'the category {group!r} groups the others and has no boxes: skipped'
        own[0].about(findings)('left-out', [text])
        classes = tuple(name for name in own[0].classes if name != group)
    return [split.renumber(classes) if split in own else split for split in splits]


def _check_usable(splits: Sequence[Split], findings: Findings) -> None:
    """Check that there is something to learn, and to measure on; a part of several may lack it."""
    training = [split for split in splits if split.source.training]
    for group in [training] + [[split] for split in splits if not split.source.training]:
        wanting = [split for split in group if split.source.needs_truth]
        if not wanting or any(split.usable.any() for split in group):
            continue
        if not any(findings.has_error(split.name) for split in group):
            text = nothing_usable(wanting[0].source.ann_file)
            wanting[0].about(findings)('nothing-to-learn', [text])


def nothing_usable(file: object) -> str:
    """Say that no annotation of a file can be used."""
    return f'{file}: no image has a usable box or label of the classes, nothing to learn or measure'


@dataclass(frozen=True)
class ReadySplit:
    """A split as a config names it.

    Attributes:
        ann_file: COCO's JSON, a CSV or a list of labels; None for class folders.
        folder: Of the images.
        counts: Of its images.
        written: Whether ``ann_file`` was made here.
    """

    ann_file: Path | None
    folder: Path
    counts: Counts
    written: bool = False


@dataclass(frozen=True)
class OwnData:
    """Data ready to be trained on.

    Attributes:
        layout: As it was recognised.
        classes: Names in the order of the labels.
        splits: By ``train``, ``val`` and ``test``; those that exist.
        notes: What was decided, skipped or doubtful, a line each.
        has_masks: Whether its objects have outlines, not only boxes.
        unit: What its objects are called.
    """

    layout: Layout
    classes: tuple[str, ...]
    splits: dict[str, ReadySplit]
    notes: list[str] = field(default_factory=list)
    has_masks: bool = False
    unit: str = 'labels'


def prepare_splits(
    layout: Layout,
    task: str,
    out_dir: str | os.PathLike,
    classes: Sequence[str] | None = None,
    testing: bool = False,
) -> OwnData:
    """Make the splits of a layout ready for a config: converted where they must be.

    Where there is none to validate on, a tenth of the training images becomes it: of the images
    with boxes and of those without, of those with a label, or of each class where an image has one.

    Args:
        layout: Of :func:`find_layout`.
        task: As there.
        out_dir: Gets what has to be written; made only where that is anything.
        classes: Names in the order of the labels, such as a checkpoint's; the data must have no
            others. None takes the data's own: COCO's in their order, but for the empty category by
            which Roboflow names a project; YOLO's by number; VOC's and others' by name.
        testing: Whether only what is measured on matters: the test split, or else the validation.

    Raises:
        InputError: The first error in the data, or the classes do not fit.
    """
    findings = Findings(strict=True)
    if not (testing and layout.splits):
        check_training(layout, findings)
    roles = [role for role in ROLES if role in layout.splits]
    if testing and classes:
        roles = [role for role in roles if role != 'train'] or roles
    sources = layout_sources(layout, roles, task)
    if classes:
        known = tuple(classes)
        sources = [replace(s, classes=known, known_by='the checkpoint') for s in sources]
    read = {split.name: split for split in read_data(sources, findings, headers=math.inf)}
    first = next(iter(read.values()))
    notes = [line for f in findings if f.code == 'left-out' for line in f.examples]
    parts = plan_parts(read, task)
    divided = parts.keys() > read.keys()
    if divided:
        val, total = len(parts['val'][1]), len(read['train'].files)
        notes.append(
            f'no validation split: {val} of the {total} training images are held out for it '
            f'(a tenth, by the SHA-256 of {SEED}/NAME) and not trained on'
        )
    if task == 'detection' or layout.kind in ORIGINS:  # datasets of labels warn themselves
        notes += findings.warnings()
    ids = number_images(read.values())
    splits = {}
    for role, (split, chosen) in parts.items():
        cut = divided and role in NAMES
        file = split.source.ann_file if layout.kind in ('coco', 'csv') else None
        written = cut or layout.kind in ORIGINS or split.changed
        if written:
            stem = NAMES[role] if cut else role
            file = _write(split, chosen, Path(out_dir, stem), ids)
        splits[role] = ReadySplit(file, split.folder, Counts.of(split, chosen, task), written)
    unit = 'boxes' if task == 'detection' else 'labels'
    return OwnData(layout, first.classes, splits, [*layout.notes, *notes], first.has_masks, unit)


def number_images(splits: Iterable[Split]) -> dict[str, int]:
    """Return a number for each image by its path, the same in all splits."""
    paths = {split.path(row) for split in splits for row in range(len(split.files))}
    return {path: number for number, path in enumerate(sorted(paths), 1)}


def _write(split: Split, chosen: np.ndarray, stem: Path, ids: Mapping[str, int]) -> Path:
    """Write some images of a split, as COCO's JSON or as labels; return the file."""
    if split.source.kind not in OF_TASK['detection']:
        target = stem.with_name(stem.name + ('.csv' if split.source.several else '.txt'))
        write_text(target, to_labels(split, chosen))
        return target
    coco = split.source.kind == 'coco'
    more = read_json(split.source.ann_file)['annotations'] if coco else ()
    content = to_coco(split, chosen, ids, more)
    target = stem.with_name(f'instances_{stem.name}.json')
    write_text(target, json.dumps(content, separators=(',', ':')))
    return target


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all; several processes may write the same at once.

    Raises:
        InputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding='utf-8', errors='surrogateescape')
    except OSError as error:
        raise InputError(f'{path} cannot be written: {error.strerror or error}') from error
