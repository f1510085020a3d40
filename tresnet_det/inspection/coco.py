"""Reader of COCO's JSON for the check of data, fault after fault.

Unlike the readers that train, it leaves out what is no good, notes it, and goes on.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..datasets.checks import coco_download
from ..datasets.formats.coco_content import (
    ID_TYPES,
    LIMIT,
    are_numbers,
    is_text,
    read_instances,
    read_json,
)
from ..errors import InputError, MissingFileError, few
from .findings import Findings
from .sources import NO_CLASS, Boxes, Source, Split, find_folder

UNKNOWN = -2  # in place of a class number, or of a row

Entry = dict[str, Any]  # of a COCO file
T = TypeVar('T')


def read_coco_split(source: Source, findings: Findings) -> Split | None:
    """Read a COCO instances file; None where it is none.

    Args:
        source: Of the kind ``'coco'``.
        findings: Gets what is wrong with entries, ids, classes and the form of boxes.
    """
    reader = _CocoReader(source, findings)
    content = reader.load()
    return None if content is None else reader.read(content)


class _CocoReader:
    def __init__(self, source: Source, findings: Findings) -> None:
        self.source, self.findings = source, findings

    def add(
        self,
        code: str,
        rows: Iterable[T],
        name: Callable[[T], str] = str,
        total: int | None = None,
    ) -> None:
        self.findings.add(self.source.name, code, rows, name, total)

    def load(self) -> dict[str, list[Entry]] | None:
        file = self.source.ann_file
        try:
            content = read_json(file)
        except MissingFileError:
            command = coco_download(file)
            way = f'get MS-COCO by `{command}`' if command else 'set data_root and ann_file'
            self.add('unreadable-annotations', [f'{file.absolute()}: is not there: {way}'])
            return None
        except InputError:
            content = None
        if isinstance(content, dict) and not self.source.needs_truth:
            content.setdefault('annotations', [])
        if self.source.optional and isinstance(content, dict) and not content.get('annotations'):
            self.add('left-out', [f'{file}: it has no annotations'])
            return None
        keys = ('images', 'categories', 'annotations')
        if isinstance(content, dict) and all(_are_entries(content.get(key)) for key in keys):
            filled = content['images'] and content['categories']
            if filled:
                return content
        reason = f'{file}: no COCO instances file'
        try:  # what training would say of it
            read_instances(file, test_mode=False)
        except InputError as error:
            reason = str(error)
        self.add('unreadable-annotations', [reason])
        return None

    def read(self, content: Mapping[str, list[Entry]]) -> Split:
        detection = self.source.detection
        files, sizes, row_of, named = self._read_images(content['images'])
        classes, label_of = self._read_categories(content['categories'])
        entries = content['annotations']
        measured = detection and self.source.needs_truth and not self.source.training
        also = ('id', 'area', 'iscrowd') if measured else ('id', 'area')
        needed = ('image_id', 'category_id', 'bbox')
        annotations = self._complete('annotations', entries, needed, also)
        if detection:
            self._check_annotation_ids(annotations, measured)

        total, ids = len(annotations), [a.get('id') for a in annotations]
        rows = _look_up(row_of, [a['image_id'] for a in annotations])

        def name(i: int) -> str:  # outlives the file's content, which takes gigabytes
            return f'{files[rows[i]]}, annotation id {ids[i]!r}'

        labels = _look_up(label_of, [a['category_id'] for a in annotations])
        for code, values, key in (
            ('unknown-image', rows, 'image_id'),
            ('unknown-category', labels, 'category_id'),
        ):

            def refer(i: int, key: str = key) -> str:
                return f'annotation id {ids[i]!r}: {key} {annotations[i][key]!r}'

            self.add(code, (values == UNKNOWN).nonzero()[0], refer, total)
        if not self.findings.has(self.source.name, 'no-known-class'):
            no_class = (labels == NO_CLASS) & (rows >= 0)
            self.add('category-no-class', no_class.nonzero()[0], name, total)
        good, boxes = (rows >= 0) & (labels != UNKNOWN), None
        if detection:
            boxes, bad = self._read_boxes(annotations, rows >= 0, name)
            good &= ~bad
        kept = good.nonzero()[0]
        return Split(
            self.source,
            find_folder(self.source, files, self.findings),
            classes,
            files,
            sizes,
            rows[kept],
            labels[kept],
            lambda i: name(kept[i]),
            named,
            np.bincount(rows[rows >= 0], minlength=len(files)) > 0,
            frozenset(classes) - {str(c.get('name')) for c in content['categories']},
            boxes=None if boxes is None else boxes.take(kept),
        )

    def _read_boxes(
        self, annotations: list[Entry], known: np.ndarray, name: Callable[[int], str]
    ) -> tuple[Boxes, np.ndarray]:
        """Return the boxes, and ``(M,)``, whether one is none.

        Args:
            annotations: ``M`` entries.
            known: ``(M,)``, whether an entry's image is there; others are reported already.
            name: Says of an entry where it is.
        """
        total = len(annotations)
        xywh = _as_boxes([a['bbox'] for a in annotations])
        areas = _as_areas([a.get('area', math.nan) for a in annotations])
        bad = np.isnan(xywh).any(1)
        bad |= np.isnan(areas) & np.array(['area' in a for a in annotations], bool)
        bad &= known
        self.add('bad-box', bad.nonzero()[0], name, total)
        crowds = np.array([a.get('iscrowd', 0) not in (0, 1) for a in annotations], bool)
        self.add('bad-crowd', (crowds & known).nonzero()[0], name, total)
        ignored = [bool(a.get('iscrowd') or a.get('ignore')) for a in annotations]
        return Boxes(xywh, areas, np.array(ignored, bool)), bad

    def _check_annotation_ids(self, annotations: list[Entry], measured: bool) -> None:
        ids = [a['id'] for a in annotations if 'id' in a]
        self._check_ids('annotations', ids, 'duplicate-annotation-id')
        if measured:
            zero = [i for i, a in enumerate(annotations) if a.get('id') == 0]
            self.add('annotation-id-0', zero, 'annotations[{}]'.format, len(annotations))

    def _read_images(
        self, entries: list[Entry]
    ) -> tuple[list[str], np.ndarray, dict[Any, int], set[str]]:
        """Return files, sizes, the row of each id, and all files that are named."""
        images = self._complete('images', entries, ('id', 'file_name'), ('width', 'height'))
        self._check_ids('images', [image['id'] for image in images], 'duplicate-image-id')
        files: list[str] = []
        row_of: dict[Any, int] = {}
        sizes, wrong = [], []
        for image in images:
            said = [image.get('width', math.nan), image.get('height', math.nan)]
            good = [
                side not in image or (type(image[side]) in (int, float) and 0 < image[side] < LIMIT)
                for side in ('width', 'height')
            ]
            if not isinstance(image['file_name'], str) or not all(good):
                wrong.append(image)
            if not isinstance(image['file_name'], str) or not isinstance(image['id'], ID_TYPES):
                continue
            if image['id'] in row_of:
                continue
            row_of[image['id']] = len(files)
            files.append(image['file_name'])
            sizes.append([side if ok else math.nan for side, ok in zip(said, good, strict=True)])
        self.add(
            'bad-image',
            wrong,
            lambda e: (
                f'image id {e["id"]!r}: {e["file_name"]!r}, {e.get("width")} x {e.get("height")}'
            ),
            len(images),
        )
        twice = [name for name, count in Counter(files).items() if count > 1]
        self.add('image-listed-twice', twice, total=len(files))
        named = {image['file_name'] for image in images if isinstance(image['file_name'], str)}
        return files, np.array(sizes, np.float64).reshape(-1, 2), row_of, named

    def _read_categories(self, entries: list[Entry]) -> tuple[tuple[str, ...], dict[Any, int]]:
        """Return the classes, and the class number of each category id."""
        categories = self._complete('categories', entries, ('id', 'name'))
        good: list[Entry] = []
        odd: list[Entry] = []
        for category in categories:
            fits = isinstance(category['id'], ID_TYPES) and is_text(category['name'])
            (good if fits else odd).append(category)
        self.add('bad-id', odd, lambda c: f'category {str(c)[:60]}')
        for key in ('id', 'name'):
            twice = [value for value, n in Counter(c[key] for c in good).items() if n > 1]
            self.add('duplicate-category', twice, (key + ' {!r}').format)
        names = list(dict.fromkeys(c['name'] for c in good))
        classes = self.source.classes
        if classes is None:
            classes = tuple(str(name) for name in names)
            number = {name: i for i, name in enumerate(names)}
        else:
            number = {name: i for i, name in enumerate(classes)}
            self._compare_classes(names, classes)
        return classes, {c['id']: number.get(c['name'], NO_CLASS) for c in good}

    def _compare_classes(self, names: list[str], classes: Sequence[str]) -> None:
        """Hold the file's order of names against the classes, as MMDetection numbers by it."""
        found = [name for name in names if name in set(classes)]
        if not found:
            self.add('no-known-class', [f'classes {few(classes)}; the file has {few(names)}'])
            return
        wrong = [
            i for i, pair in enumerate(zip(found, classes, strict=False)) if pair[0] != pair[1]
        ]
        if wrong and self.source.detection:
            self.add(
                'class-order',
                [
                    f'label {i} is {found[i]!r} by the file, {classes[i]!r} by metainfo.classes'
                    for i in wrong[:1]
                ],
            )
        missing = [name for name in classes if name not in set(names)]
        # MultiLabelDataset refuses it.
        code = 'class-without-category' if self.source.detection else 'missing-class'
        self.add(code, missing, repr, len(classes))

    def _complete(
        self, what: str, entries: list[Entry], needed: Sequence[str], also: Sequence[str] = ()
    ) -> list[Entry]:
        """Return the entries with the keys that nothing can do without; report what lacks any."""
        wanted = {*needed, *also}
        lacking = [i for i, entry in enumerate(entries) if not wanted <= entry.keys()]
        self.add(
            'missing-key',
            lacking,
            lambda i: (
                f'{what}[{i}] (id {entries[i].get("id")}) without '
                + few(key for key in (*needed, *also) if key not in entries[i])
            ),
        )
        if not lacking:
            return entries
        return [entry for entry in entries if set(needed) <= entry.keys()]

    def _check_ids(self, what: str, ids: list[Any], code: str) -> None:
        odd = [key for key in ids if not isinstance(key, ID_TYPES)]
        self.add('bad-id', odd, lambda key: f'{what}: {str(key)[:60]}')
        good = [key for key in ids if isinstance(key, ID_TYPES)] if odd else ids
        if len(set(good)) < len(good):
            twice = [key for key, count in Counter(good).items() if count > 1]
            self.add(code, twice, lambda key: f'id {key!r}')


def _are_entries(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)


def _look_up(table: Mapping[Any, int], keys: list[Any]) -> np.ndarray:
    """Return what a table has for the keys, ``UNKNOWN`` where it has nothing."""
    try:
        found = [table.get(key, UNKNOWN) for key in keys]
    except TypeError:  # a list in place of an id
        found = [table.get(key, UNKNOWN) if isinstance(key, ID_TYPES) else UNKNOWN for key in keys]
    return np.array(found, np.int64)


def _as_boxes(values: list[Any]) -> np.ndarray:
    """Return ``(M, 4)``, NaN where a box is not four finite numbers."""
    try:
        array = np.array(values)  # of no given type, which would convert text without a word
        good = array.shape == (len(values), 4) and array.dtype.kind in 'iuf'
    except (ValueError, TypeError, OverflowError):
        good = False
    if not good:
        nothing = [math.nan] * 4
        array = np.array([v if are_numbers(v, 4) else nothing for v in values]).reshape(-1, 4)
    array = array.astype(np.float64)
    array[~(np.abs(array) < LIMIT).all(1)] = math.nan
    return array


def _as_areas(values: list[Any]) -> np.ndarray:
    """Return ``(M,)``, NaN where an area is no finite number."""
    good = [v if type(v) in (int, float) and abs(v) < LIMIT else math.nan for v in values]
    return np.array(good, np.float64)
