"""Reader of COCO's instances files.

What MMDetection and pycocotools report late, in a worker, or not at all (an AP of 0) is named here.
"""

import itertools
import math
import numbers
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, few, shown
from .files import is_companion, read_json
from .findings import Add, Findings, compare_categories, is_text
from .masks import find_mask_fault, has_mask
from .split import NO_CLASS, Boxes, Source, Split

UNKNOWN, PASSED_OVER = -2, -3  # in place of a class number, or of a row
ID_TYPES = (numbers.Real, str)
LIMIT = 1e18  # of numbers: what is beyond it is a fault, and NaN is not below it
SIDES = ('width', 'height')

Entry = dict[str, Any]  # of a COCO file


def read_coco(source: Source, findings: Findings) -> Split | None:
    """Read a COCO instances file; None where it is skipped.

    Args:
        source: Of the kind ``'coco'``.
        findings: Gets what is wrong with entries, ids, classes and the form of boxes.

    Raises:
        InputError: It does not exist, or is none.
    """
    file, add = source.ann_file, source.about(findings)
    content = read_json(file, source.fills_in)
    if source.optional and isinstance(content, dict) and not content.get('annotations'):
        add('left-out', [f'{file} is skipped: it has no annotations'])
        return None
    _check_lists(file, content, source.needs_truth)
    # What is read in another way than it is written; None where nothing may be.
    with file.open('rb') as stream:
        marked = stream.read(len(BOM_UTF8)) == BOM_UTF8
    begins = ['it begins with a byte order mark: passed over'] * marked
    filled: list[str] | None = begins if source.fills_in else None
    files, sizes, row_of, named = _read_images(content['images'], add, filled)
    categories = _read_categories(content['categories'], add)
    names = list(dict.fromkeys(c['name'] for c in categories))
    classes = tuple(names) if source.classes is None else source.classes
    if source.classes is not None:
        add('unknown-class', source.find_unknown(names))
        compare_categories(names, classes, source.detection, add)
    number = {name: i for i, name in enumerate(classes)}
    label_of = {c['id']: number.get(c['name'], NO_CLASS) for c in categories}
    learnt = bool(set(label_of.values()) - {NO_CLASS})

    measured = source.detection and source.needs_truth and not source.training
    free = source.fills_in or not source.detection
    also = () if free else ('id', 'area', 'iscrowd') if measured else ('id', 'area')
    needed = ('image_id', 'category_id', *['bbox'] * source.detection)
    entries = _complete('annotations', content['annotations'], needed, also, add)
    if source.detection:
        ids = [a['id'] for a in entries if 'id' in a]
        _check_ids('annotations', ids, 'duplicate-annotation-id', add)
        for what in ('images', 'categories', 'annotations'):
            if filled is not None or (measured and what != 'annotations'):
                _check_mixed(what, content[what], add, filled)
        if measured:
            zero = [i for i, a in enumerate(entries) if a.get('id') == 0]
            add('annotation-id-0', zero, 'annotations[{}]'.format, len(entries))
    ids, total = [a.get('id') for a in entries], len(entries)
    rows = _look_up(row_of, [a['image_id'] for a in entries], filled)
    labels = _look_up(label_of, [a['category_id'] for a in entries], filled)

    def name(i: int) -> str:  # outlives the file's content, which takes gigabytes
        return f'{files[rows[i]]}, annotation id {shown(ids[i])}'

    for code, values, key in (
        ('unknown-image', rows, 'image_id'),
        ('unknown-category', labels, 'category_id'),
    ):

        def refer(i: int, key: str = key) -> str:
            return f'annotation id {shown(ids[i])}: {key} {shown(entries[i][key])}'

        add(code, (values == UNKNOWN).nonzero()[0], refer, total)
    if learnt:
        no_class = (labels == NO_CLASS) & (rows >= 0)
        add('category-no-class', no_class.nonzero()[0], name, total)
    good, boxes, masks = (rows >= 0) & (labels != UNKNOWN), None, []
    if source.detection:
        boxes, bad = _read_boxes(entries, rows >= 0, name, add, filled)
        good &= ~bad
        masks = _check_masks(entries, rows, sizes, name, add)
    kept = good.nonzero()[0]
    add('filled-in', [f'{file}: {line}' for line in filled or ()])
    return Split(
        source,
        source.folder,
        classes,
        files,
        rows[kept],
        labels[kept],
        lambda i: name(kept[i]),
        np.bincount(rows[rows >= 0], minlength=len(files)) > 0,
        sizes,
        named,
        absent=frozenset(classes) - set(names),
        boxes=boxes and boxes.take(kept),
        has_masks=all(has_mask(a.get('segmentation')) for a in entries),
        masks=masks,
        entries=_places(content['annotations'], entries)[kept],
        changed=bool(filled),
        group=_find_group(categories),
    )


def _places(every: list[Entry], entries: list[Entry]) -> np.ndarray:
    """Return where some of the entries are."""
    if len(every) == len(entries):
        return np.arange(len(entries))
    place = {id(entry): i for i, entry in enumerate(every)}
    return np.array([place[id(entry)] for entry in entries], np.int64)


def _check_lists(file: Path, content: Any, needs_truth: bool) -> None:
    if isinstance(content, dict) and not needs_truth:
        content.setdefault('annotations', [])
    for key in ('images', 'categories', 'annotations'):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise InputError(
                f'{file}: no COCO instances file, it has no list {key!r} of entries; expected is '
                'one like instances_train2017.json (captions and image_info files are others)'
            )
        if not entries and key != 'annotations':
            raise InputError(f'{file}: the list {key!r} is empty, nothing to learn or measure')


def _read_images(
    entries: list[Entry], add: Add, filled: list[str] | None
) -> tuple[list[str], np.ndarray, dict[Any, int], set[str]]:
    """Return files, sizes, the row of each id, and all files that are named.

    Entries of one file become one where what lacks is filled in.
    """
    also = SIDES if filled is None else ()
    images = _complete('images', entries, ('id', 'file_name'), also, add)
    _check_ids('images', [image['id'] for image in images], 'duplicate-image-id', add)
    row_of: dict[Any, int] = {}
    first: dict[str, int] = {}  # rows by file
    files: list[str] = []
    sizes, wrong, twice, named = [], [], [], set()
    for image in images:
        sides = [image.get(side, math.nan) for side in SIDES]
        good = [type(v) in (int, float) and 0 < v < LIMIT for v in sides]
        name = image['file_name']
        pairs = [*zip(SIDES, good, strict=True)]
        is_name = isinstance(name, str) and '\0' not in name
        unsaid = () if filled is None else _find_unsaid(image)
        if not is_name or not all(ok or s in unsaid or s not in image for s, ok in pairs):
            wrong.append(image)
        if is_name:
            named.add(name)
            if not isinstance(image['id'], ID_TYPES) or image['id'] in row_of:
                continue
            if name in first:
                twice.append(name)
            if filled is not None and is_companion(name):
                row_of[image['id']] = PASSED_OVER
            elif filled is not None and name in first:
                row_of[image['id']] = first[name]
            else:
                row_of[image['id']] = first[name] = len(files)
                files.append(name)
                sizes.append([v if ok else math.nan for v, ok in zip(sides, good, strict=True)])

    def describe(image: Entry) -> str:
        text = ' x '.join(shown(image.get(side)) for side in SIDES)
        return f'image id {shown(image["id"])}: {shown(image["file_name"])}, {text}'

    add('bad-image', wrong, describe, len(images))
    add('image-listed-twice', dict.fromkeys(twice), total=len(images))
    if filled is not None:
        _tell(filled, len(twice), 'images are entries of a file with one already: merged with it')
        passed = sum(row == PASSED_OVER for row in row_of.values())
        _tell(filled, passed, 'images are companion files (._NAME): passed over')
        lacking = sum(bool(_find_unsaid(image)) for image in images)
        _tell(filled, lacking, 'images have no width or height: taken from the files')
    return files, np.array(sizes, np.float64).reshape(-1, 2), row_of, named


def _find_unsaid(image: Entry) -> Sequence[str]:
    """Return which sides of an image are left open; some tools write 0 x 0 then."""
    sides = [image.get(side) for side in SIDES]
    return SIDES if sides == [0, 0] else [s for s in SIDES if image.get(s) is None]


def _read_categories(entries: list[Entry], add: Add) -> list[Entry]:
    """Return the categories that have a name and an id."""
    categories = _complete('categories', entries, ('id', 'name'), (), add)
    good: list[Entry] = []
    odd: list[Entry] = []
    for category in categories:
        fits = isinstance(category['id'], ID_TYPES) and is_text(category['name'])
        (good if fits else odd).append(category)
    add('bad-id', odd, lambda c: f'category {shown(c["id"])} with the name {shown(c["name"])}')
    twice = [
        f'{key} {shown(value)}'
        for key in ('id', 'name')
        for value, n in Counter(c[key] for c in good).items()
        if n > 1
    ]
    add('duplicate-category', twice)
    return good


def _find_group(categories: Sequence[Entry]) -> str | None:
    """Return the name of the category that is the others' supercategory."""
    groups = [category.get('supercategory') for category in categories]
    named = [c for c in categories if c['name'] in groups and c.get('supercategory') == 'none']
    return named[0]['name'] if len(named) == 1 and len(categories) > 1 else None


def _read_boxes(
    entries: list[Entry],
    known: np.ndarray,
    name: Callable[[int], str],
    add: Add,
    filled: list[str] | None,
) -> tuple[Boxes, np.ndarray]:
    """Return the boxes, and ``(M,)``, whether one is none.

    Args:
        entries: ``M`` annotations.
        known: ``(M,)``, whether an entry's image is in the file; others are reported already.
        name: Says of an entry where it is.
        add: Gets what is wrong.
        filled: Gets what was filled in; None where nothing is.
    """
    total = len(entries)
    xywh = _as_boxes([a['bbox'] for a in entries])
    unsaid = math.nan if filled is None else 0
    said = [a.get('area', unsaid) for a in entries]
    if filled is not None:
        said = [unsaid if v is None else v for v in said]
    good = [v if type(v) in (int, float) and abs(v) < LIMIT else math.nan for v in said]
    areas = np.array(good, np.float64)
    no_box = np.isnan(xywh).any(1)
    bad = no_box.copy()
    bad[[i for i in np.isnan(areas).nonzero()[0] if 'area' in entries[i]]] = True
    bad &= known
    if filled is not None:
        lacking = ~bad & (areas <= 0) & (xywh[:, 2:] > 0).all(1)
        areas = np.where(lacking, xywh[:, 2:].prod(1), areas)
        _tell(filled, lacking.sum(), 'annotations have no area, or 0: computed from the box')
        lost = [a.get('iscrowd') for a in entries].count(None)
        _tell(filled, lost, 'annotations have no iscrowd: 0')
        _tell(filled, sum('id' not in a for a in entries), 'annotations have no id: numbered')

    def describe(i: int) -> str:
        key = 'bbox' if no_box[i] else 'area'
        return f'{name(i)}: {key} {shown(entries[i][key])}'

    add('bad-box', bad.nonzero()[0], describe, total)
    free = (0, 1) if filled is None else (0, 1, None)
    crowds = np.array([a.get('iscrowd', 0) not in free for a in entries], bool)
    add('bad-crowd', (crowds & known).nonzero()[0], name, total)
    ignored = [bool(a.get('iscrowd') or a.get('ignore')) for a in entries]
    return Boxes(xywh, areas, np.array(ignored, bool)), bad


def _check_masks(
    entries: list[Entry], rows: np.ndarray, sizes: np.ndarray, name: Callable[[int], str], add: Add
) -> list[tuple[int, str, Any]]:
    """Find masks that are none; return those of images without a size, for `Split.masks`."""
    sides, faults, unsized = sizes.tolist(), dict[int, str](), []
    for i, (entry, row) in enumerate(zip(entries, rows.tolist(), strict=True)):
        mask = entry.get('segmentation')
        if row < 0 or not has_mask(mask):
            continue
        if math.isnan(sum(sides[row])):
            unsized.append((row, name(i), mask))
        elif fault := find_mask_fault(mask, *sides[row]):
            faults[i] = fault
    add('bad-mask', faults, lambda i: f'{name(i)}: it {faults[i]}', len(entries))
    return unsized


def _as_boxes(values: list[Any]) -> np.ndarray:
    """Return ``(M, 4)``, NaN where a box is not four finite numbers."""
    try:
        array = np.array(values)  # of no given type, which would convert text without a word
        good = array.shape == (len(values), 4) and array.dtype.kind in 'iuf'
    except (ValueError, TypeError, OverflowError):
        good = False
    if not good:
        array = np.array([v if _is_box(v) else [math.nan] * 4 for v in values]).reshape(-1, 4)
    array = array.astype(np.float64)
    rows = ((array == 0) | (array == 1)).any(1).nonzero()[0]  # NumPy makes numbers of booleans
    array[[i for i in rows if not _is_box(values[i])]] = math.nan
    array[~(np.abs(array) < LIMIT).all(1)] = math.nan
    return array


def _is_box(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    return all(type(v) in (int, float) and abs(v) < LIMIT for v in value)


def _complete(
    what: str, entries: list[Entry], needed: Sequence[str], also: Sequence[str], add: Add
) -> list[Entry]:
    """Return the entries with the keys that nothing can do without; report what lacks any."""
    keys = (*needed, *also)
    expected = set(keys)
    lacking = [i for i, entry in enumerate(entries) if not expected <= entry.keys()]
    if not lacking:
        return entries

    def describe(i: int) -> str:
        lost = few(key for key in keys if key not in entries[i])
        return f'{what}[{i}] (id {shown(entries[i].get("id"))}) without {lost}'

    add('missing-key', lacking, describe, len(entries))
    return [entry for entry in entries if set(needed) <= entry.keys()]


def _tell(filled: list[str], count: int, what: str) -> None:
    if count:
        filled.append(f'{count} {what}')


def _check_mixed(what: str, entries: list[Entry], add: Add, filled: list[str] | None) -> None:
    """Find ids of both kinds: NumPy makes all text of them, by which nothing is found."""
    ids = [entry['id'] for entry in entries if 'id' in entry]
    if str in (types := {*map(type, ids)}) and len(types) > 1:
        if filled is None:
            add(
                'mixed-ids',
                [next(key for key in ids if isinstance(key, str))],
                lambda key: f'{what}: {shown(key)}',
            )
        else:
            filled.append(f'{what}: ids are partly numbers, partly text: numbered again')


def _check_ids(what: str, ids: list[Any], code: str, add: Add) -> None:
    usual = {*map(type, ids)} <= {int, str}  # of a million, asking each costs a second
    odd = [] if usual else [key for key in ids if not isinstance(key, ID_TYPES)]
    add('bad-id', odd, lambda key: f'{what}: {shown(key)}')
    good = [key for key in ids if isinstance(key, ID_TYPES)] if odd else ids
    if len(set(good)) < len(good):
        twice = [key for key, count in Counter(good).items() if count > 1]
        add(code, twice, lambda key: f'id {shown(key)}')


def _look_up(table: Mapping[Any, int], keys: list[Any], filled: list[str] | None) -> np.ndarray:
    """Return what a table has for the keys, ``UNKNOWN`` where it has nothing.

    Where what lacks is filled in, a number may be written as text, on either side.
    """
    try:
        found = list(map(table.get, keys, itertools.repeat(UNKNOWN)))
    except TypeError:  # a list in place of an id
        found = [table.get(key, UNKNOWN) if isinstance(key, ID_TYPES) else UNKNOWN for key in keys]
    if filled is not None and UNKNOWN in found:
        texts = {str(key): value for key, value in table.items()}
        if len(texts) < len(table):  # 1 and '1' are two
            return np.array(found, np.int64)
        again = [
            texts.get(str(key), UNKNOWN)
            if value == UNKNOWN and isinstance(key, ID_TYPES)
            else value
            for key, value in zip(keys, found, strict=True)
        ]
        changed = sum(a != b for a, b in zip(again, found, strict=True))
        _tell(filled, changed, 'annotations refer to numbers as text, or to text as numbers')
        found = again
    return np.array(found, np.int64)
