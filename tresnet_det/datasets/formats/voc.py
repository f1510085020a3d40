"""Pascal VOC annotations to COCO's format."""

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ...errors import InputError, MissingFileError, few, shown
from .text_files import read_lines

ORIGIN = 'Converted from Pascal VOC'  # marks files that may be written anew
LONGEST = 250  # bytes of a name, without its ending; file systems take 255 with it


def voc_to_coco(
    voc_root: str | os.PathLike,
    out_dir: str | os.PathLike,
    splits: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> dict:
    """Convert VOC XML files to one COCO instances JSON a split.

    Boxes: VOC counts pixels from 1 and includes the last one (VOC2007 devkit, section 'Bounding
    box': the top left pixel is (1, 1)), COCO measures from the image's corner at 0. So ``x =
    xmin - 1``, ``w = xmax - xmin + 1``, and the same for y: a box over a whole 640 x 480 image is
    ``1, 1, 640, 480`` there and ``[0, 0, 640, 480]`` here. Boxes are clipped to the image. A box
    whose corners coincide in x or y (``xmax <= xmin``) is a click, not a box: it is dropped.

    An object marked ``difficult`` gets ``iscrowd=1``: as in VOC's own evaluation it is neither
    counted as missed nor is a detection on it counted as wrong, and MMDetection does not train on
    it. (COCO's API passes over a key ``ignore``.)

    Images are not copied: ``file_name`` is relative to ``JPEGImages``, which a config names by
    ``data_prefix=dict(img=...)``. An image has the same id in all splits.

    Args:
        voc_root: Folder with ``Annotations``, ``ImageSets/Main`` and ``JPEGImages``.
        out_dir: Gets ``annotations/instances_<split>.json``. Files that this function made are
            made anew, others are not overwritten.
        splits: Names of lists in ``ImageSets/Main``; by default all that list images only (VOC's
            lists of one class, with a second column, are left out).
        classes: Class names in the order of the labels; by default all names in the splits' files,
            in alphabetical order.

    Returns:
        ``classes`` (list), ``splits`` (for each ``file``, ``images`` and ``boxes``, a count for
        each class), and ``warnings`` (lines of text).

    Raises:
        MissingFileError: A folder, list, XML file or image is not there.
        InputError: A file is malformed, an image has another size than its XML says, a class is
            not in ``classes``, or a file to be written is there and comes from elsewhere.
    """
    voc_root, out_dir = Path(voc_root), Path(out_dir)
    check_layout(voc_root)
    lists = _read_lists(voc_root, splits)
    names = sorted({name for members in lists.values() for name in members})
    images = list_images(voc_root / 'JPEGImages')
    records = {name: _read_record(voc_root, name, images) for name in names}
    classes = _settle_classes(voc_root, records, classes)
    targets = {split: out_dir / f'annotations/instances_{split}.json' for split in lists}
    for target in targets.values():
        _check_overwrite(target)
    image_ids = {name: number for number, name in enumerate(names, 1)}
    summary = {}
    for split, members in lists.items():
        content = _compose(split, members, records, image_ids, classes)
        _write_json(targets[split], content)
        counts = Counter(a['category_id'] for a in content['annotations'])
        summary[split] = {
            'file': targets[split],
            'images': len(members),
            'boxes': {name: counts[label] for label, name in enumerate(classes, 1)},
        }
    return {'classes': classes, 'splits': summary, 'warnings': _warnings(records)}


def check_layout(voc_root: Path) -> None:
    """Hold that a folder has VOC's three.

    Raises:
        MissingFileError: It lacks one.
    """
    for part in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        if (voc_root / part).is_dir():
            continue
        inner = sorted(found.parent for found in voc_root.glob('*/Annotations'))
        hint = f'; did you mean {inner[0]}?' if inner else ', as Pascal VOC is laid out'
        raise MissingFileError(f'{voc_root}: has no folder {part}{hint}')


def _read_lists(voc_root: Path, splits: Sequence[str] | None) -> dict[str, list[str]]:
    """Return the image names of each split."""
    folder = voc_root / 'ImageSets/Main'
    wanted = sorted(p.stem for p in folder.glob('*.txt')) if splits is None else splits
    lists = {}
    for split in wanted:
        file = folder / f'{split}.txt'
        if not file.is_file():
            there = ', '.join(sorted(p.stem for p in folder.glob('*.txt')))
            raise MissingFileError(f'{file}: no such list of images; there are: {there}')
        rows = [row.split() for row in read_lines(file) if row.strip()]
        if any(len(row) > 1 for row in rows):
            if splits is None:
                continue
            raise InputError(f'{file}: has a second column, it is a list of one class, no split')
        members = [row[0] for row in rows]
        odd = [name for name in members if '/' in name or len(os.fsencode(name)) > LONGEST]
        if odd:
            raise InputError(
                f'{file}: names {shown(odd[0])}: write the names of images, without folder and '
                'ending'
            )
        twice = [name for name, count in Counter(members).items() if count > 1]
        if twice:
            raise InputError(f'{file}: names {twice[0]} more than once; remove what is double')
        if members:
            lists[split] = members
        elif splits is not None:
            raise InputError(f'{file}: is empty')
    if not lists:
        raise InputError(f'{folder}: has no list of images; write one, such as train.txt')
    return lists


def list_images(folder: Path) -> dict[str, list[str]]:
    """Return the file names in a folder by their stem."""
    images: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)):
        images.setdefault(os.path.splitext(name)[0], []).append(name)
    return images


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuse document types, and with them entities that grow without end or read other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError(
            'has a document type declaration, which annotations have no use for: remove it'
        )


def parse_xml(file: Path) -> ElementTree.Element:
    """Read an annotation file and return its root.

    Raises:
        MissingFileError: It is not there.
        InputError: It cannot be read, is malformed, has a document type, or is none of VOC's.
    """
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        root = ElementTree.fromstring(file.read_bytes(), parser)
    except FileNotFoundError:
        raise MissingFileError(
            f'{file}: not there, though a list names it: add it, or take it off the list'
        ) from None
    except OSError as error:
        raise InputError(f'{file}: cannot be read ({error.strerror or error})') from error
    except InputError as error:
        raise InputError(f'{file}: {error}') from None
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise InputError(f'{file}: malformed XML, {error}: export it anew') from None
    if root.tag != 'annotation':
        raise InputError(f'{file}: the root is <{root.tag}>, not <annotation>; no VOC file')
    return root


def _read_record(voc_root: Path, name: str, images: dict[str, list[str]]) -> dict:
    """Read one XML file and hold it against its image.

    Returns:
        ``file_name``, ``width``, ``height``, ``objects`` (name, COCO box, difficult), and
        ``dropped`` and ``clipped`` (texts).
    """
    file = voc_root / 'Annotations' / f'{name}.xml'
    root = parse_xml(file)
    candidates = images.get(name, [])
    if not candidates:
        raise MissingFileError(f'{voc_root / "JPEGImages"}: has no image {name}, wanted by {file}')
    said = root.findtext('filename', '').strip()
    file_name = said if said in candidates else candidates[0]
    width, height = image_size(voc_root / 'JPEGImages' / file_name)
    if root.find('size') is not None:
        claimed = tuple(read_number(file, root, f'size/{side}') for side in ('width', 'height'))
        if claimed not in ((width, height), (0, 0)):  # 0 x 0 is how some tools say nothing
            raise InputError(
                f'{file}: says {claimed[0]} x {claimed[1]}, and the image {file_name} is '
                f'{width} x {height}; correct <size>, and see that the boxes fit the image'
            )
    record = {'file_name': file_name, 'width': width, 'height': height}
    record |= {'objects': [], 'dropped': [], 'clipped': []}
    for element in root.iter('object'):
        _add_object(file, element, record)
    return record


def image_size(file: Path) -> tuple[int, int]:
    """Return width and height as the image is shown (cameras may store it turned).

    Raises:
        InputError: It cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            # Of a turned TIFF, newer Pillows have exchanged the size already: let it turn itself.
            turned = image.getexif().get(0x0112, 1) >= 5
            return ImageOps.exif_transpose(image).size if turned else image.size
    except Exception:  # Pillow raises almost anything on a broken header
        raise InputError(f'{file}: not a readable image: replace or remove it') from None


def read_number(file: Path, element: ElementTree.Element, path: str) -> int | float:
    """Return the number below an element, whole where it is.

    Args:
        file: Named in messages.
        element: Where ``path`` begins.
        path: Of the element that has the number, such as ``bndbox/xmin``.

    Raises:
        InputError: It is not there, or no finite number.
    """
    text = element.findtext(path)
    try:
        value = float(text or '')
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f'{file}: <{path}> is {text!r}; it must be a number')
    return int(value) if value.is_integer() else value


def _add_object(file: Path, element: ElementTree.Element, record: dict) -> None:
    name = element.findtext('name', '').strip()
    if not name:
        raise InputError(f'{file}: an <object> has no <name>: write it, or remove the object')
    sides = ('xmin', 'ymin', 'xmax', 'ymax')
    xmin, ymin, xmax, ymax = (read_number(file, element, f'bndbox/{side}') for side in sides)
    text = f'{file.stem} ({name} {xmin}, {ymin}, {xmax}, {ymax})'
    left, top = max(xmin - 1, 0), max(ymin - 1, 0)
    right, bottom = min(xmax, record['width']), min(ymax, record['height'])
    if xmax <= xmin or ymax <= ymin or right <= left or bottom <= top:
        record['dropped'].append(text)
        return
    if (left, top, right, bottom) != (xmin - 1, ymin - 1, xmax, ymax):
        record['clipped'].append(text)
    box = [left, top, right - left, bottom - top]
    difficult = element.findtext('difficult', '0').strip() not in ('', '0')
    record['objects'].append((name, box, difficult))


def _settle_classes(voc_root: Path, records: dict, classes: Sequence[str] | None) -> list[str]:
    found: dict = {}  # class name -> a file that has it
    for image, record in records.items():
        for name, _, _ in record['objects']:
            found.setdefault(name, image)
    if classes is None:
        if not found:
            raise InputError(f'{voc_root / "Annotations"}: the files have no object with a box')
        return sorted(found)
    unknown = sorted(set(found) - set(classes))
    if unknown:
        file = voc_root / 'Annotations' / f'{found[unknown[0]]}.xml'
        raise InputError(
            f'{file}: has the class {unknown[0]!r}, which is none of {", ".join(classes)}'
            + (f' (there are {len(unknown)} such names)' if len(unknown) > 1 else '')
        )
    return list(classes)


def _compose(
    split: str, members: list[str], records: dict, image_ids: dict[str, int], classes: list[str]
) -> dict:
    """Put one split's COCO content together."""
    labels = {name: label for label, name in enumerate(classes, 1)}
    images: list[dict] = []
    annotations: list[dict] = []
    for name in members:
        record = records[name]
        image = {key: record[key] for key in ('file_name', 'width', 'height')}
        images.append({'id': image_ids[name], **image})
        for class_name, box, difficult in record['objects']:
            annotations.append(
                {
                    'id': len(annotations) + 1,  # from 1: COCO's API takes 0 for "not found"
                    'image_id': image_ids[name],
                    'category_id': labels[class_name],
                    'bbox': box,
                    'area': box[2] * box[3],
                    'iscrowd': int(difficult),
                }
            )
    return {
        'info': {'description': f'{ORIGIN}, split {split}'},
        'images': images,
        'annotations': annotations,
        'categories': [{'id': label, 'name': name} for name, label in labels.items()],
    }


def _check_overwrite(target: Path) -> None:
    if not target.exists():
        return
    try:
        origin = json.loads(target.read_bytes())['info']['description']
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        origin = ''
    if not str(origin).startswith(ORIGIN):
        raise InputError(f'{target}: is there and was not made by this conversion; move it away')


def _write_json(target: Path, content: dict) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temp = target.with_name(f'.{target.name}.{os.getpid()}')
    try:
        temp.write_text(json.dumps(content, separators=(',', ':')), encoding='utf-8')
        temp.replace(target)
    finally:
        temp.unlink(missing_ok=True)


def _warnings(records: dict) -> list[str]:
    lines = []
    dropped = [text for record in records.values() for text in record['dropped']]
    if dropped:
        lines.append(f'{len(dropped)} boxes without area are left out: {few(dropped)}')
    clipped = [text for record in records.values() for text in record['clipped']]
    if clipped:
        lines.append(
            f'{len(clipped)} boxes passed the border and are clipped, the first in {clipped[0]}'
            ' (VOC pixels count from 1, so 0 lies outside)'
        )
    return lines
