"""What a check of data can find: kinds with their mend, and a list that groups and counts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

ERROR, WARNING, NOTE = LEVELS = ('error', 'warning', 'note')
MOST_EXAMPLES = 1000  # of a finding that are kept

T = TypeVar('T')


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        level: ``'error'`` where training would fail or its figures mislead, ``'warning'`` where
            something is lost or doubtful, ``'note'`` for a fact worth knowing.
        what: What is found, in the plural.
        mend: What to do.
    """

    level: str
    what: str
    mend: str


KINDS = {
    # The config and the files as a whole.
    'bad-config': Kind(ERROR, 'settings that do not fit', 'change them in the config'),
    'num-classes': Kind(
        ERROR,
        "heads with another number of classes than the data's",
        'set num_classes of the head, or metainfo.classes of the dataset',
    ),
    'not-checked': Kind(
        NOTE, 'datasets that this tool does not know', 'look at their images yourself'
    ),
    'unreadable-annotations': Kind(
        ERROR, 'annotation files that cannot be used', 'mend the file, or name another'
    ),
    'missing-folder': Kind(
        ERROR, 'image folders that are not there', 'set data_root and data_prefix'
    ),
    'bad-layout': Kind(
        ERROR, 'names of classes or paths that cannot be used', 'correct them there'
    ),
    'no-training-split': Kind(
        ERROR,
        'data sets without a part for training',
        'put train into the name of the part to learn from',
    ),
    'left-out': Kind(
        NOTE, 'parts that are left out', 'training passes them over; see whether that is meant'
    ),
    'images-not-found': Kind(
        ERROR, 'annotation files whose images are not found', 'move them, or rename their folder'
    ),
    'nothing-to-learn': Kind(
        ERROR, 'splits without any usable annotation', 'annotate, or name another file'
    ),
    # Images.
    'missing-image': Kind(
        ERROR, 'images that are not in the folder', 'complete the folder, or drop the entries'
    ),
    'undecodable-image': Kind(
        ERROR, 'images that do not decode', 'replace the files, or drop the entries'
    ),
    'size-differs': Kind(
        ERROR,
        'images of another size than annotated',
        'correct width and height, and see that the boxes fit the image',
    ),
    'exif-rotated': Kind(
        ERROR,
        'images that EXIF turns, annotated unturned',
        'save them turned, without the EXIF tag, and turn the boxes; or remove the tag',
    ),
    'exif-turned': Kind(
        NOTE,
        'images that EXIF turns, with fractions for boxes',
        'they are of the image as it is shown; see that the boxes lie right',
    ),
    'blank-image': Kind(WARNING, 'images of one colour', 'see whether they were exported whole'),
    'duplicate-image': Kind(
        WARNING, 'images with the pixels of another', 'keep one of each, or know why'
    ),
    'contradicting-labels': Kind(
        WARNING,
        'images with the pixels of one of another class',
        'decide for a class; several labels per image need MultiLabelDataset',
    ),
    'image-listed-twice': Kind(
        WARNING, 'images with several entries', 'merge the entries, and their annotations'
    ),
    'unused-file': Kind(
        NOTE, 'files beside the images that nothing names', 'annotate them, or let them be'
    ),
    # Entries and ids.
    'missing-key': Kind(
        ERROR, 'entries that lack a key', 'write it; MMDetection and pycocotools need it'
    ),
    'bad-id': Kind(
        ERROR, 'ids that are neither number nor text, or names that are no text', 'correct them'
    ),
    'bad-image': Kind(
        ERROR,
        'images whose file_name is no text, or width or height no number above 0',
        'correct the entries',
    ),
    'duplicate-image-id': Kind(
        ERROR, 'image ids that occur more than once', 'number anew (files merged by hand?)'
    ),
    'duplicate-annotation-id': Kind(
        ERROR, 'annotation ids that occur more than once', 'number anew (files merged by hand?)'
    ),
    'annotation-id-0': Kind(
        WARNING,
        'annotations with the id 0, for pycocotools "not found"',
        'number annotations from 1',
    ),
    'unknown-image': Kind(
        ERROR, 'annotations of an image that is not in the file', 'add the image, or drop them'
    ),
    'missing-annotation': Kind(
        ERROR, 'images whose XML file is not there', 'add the file, or take them off the list'
    ),
    'broken-xml': Kind(ERROR, 'XML files that cannot be used', 'export them anew'),
    'repeated-row': Kind(ERROR, 'images that are listed again', 'remove one of the rows'),
    'bad-row': Kind(
        ERROR, 'rows of another form than the others', 'separate cells as the header does'
    ),
    'bad-label': Kind(
        ERROR, 'rows with a label that is none', "write 1, 0 or -1 (unknown), or a class's name"
    ),
    # YOLO's label files.
    'bad-label-row': Kind(
        ERROR,
        'rows of label files that are neither a box nor a polygon',
        'write CLASS X Y WIDTH HEIGHT, five numbers, for each box',
    ),
    'pixel-row': Kind(
        ERROR,
        'rows of label files with pixels in place of fractions',
        "divide x and width by the image's width, y and height by its height",
    ),
    'bad-fraction': Kind(
        ERROR,
        'rows of label files with a number outside 0 to 1',
        'correct them: 0 is the left or top of the image, 1 its right or bottom',
    ),
    'unknown-class-number': Kind(
        ERROR,
        'rows of label files with a class that has no name',
        'correct them, or add names: whole numbers that count the names from 0',
    ),
    'missing-label-file': Kind(
        WARNING,
        'images without a label file',
        'add it, an empty one where there is no object; training takes the image as such a one',
    ),
    'label-without-image': Kind(
        WARNING, 'label files without an image', 'add the image, or remove them'
    ),
    'shared-label-file': Kind(
        WARNING, 'images with the label file of another', 'give each a name of its own'
    ),
    # Classes.
    'duplicate-category': Kind(
        ERROR, 'categories with the id or name of another', 'give each its own'
    ),
    'unknown-category': Kind(
        ERROR, 'annotations of a category that does not exist', 'add the category, or drop them'
    ),
    'no-known-class': Kind(
        ERROR, 'files without any of the classes', 'set metainfo.classes, or name other data'
    ),
    'class-order': Kind(
        ERROR,
        "files whose order of categories is not the classes'",
        'give both the same names in the same order: MMDetection numbers by the file',
    ),
    'classes-differ': Kind(
        ERROR,
        'splits with other classes than the training split',
        'give both the same names in the same order (metainfo.classes)',
    ),
    'single-class': Kind(
        ERROR, 'sets with one class, which leaves nothing to tell', 'give a folder for each class'
    ),
    'missing-class': Kind(
        ERROR, 'classes without a folder or column', 'add it, or change metainfo.classes'
    ),
    'empty-class-folder': Kind(
        ERROR, 'class folders without an image', 'fill them, or set metainfo.classes'
    ),
    'similar-classes': Kind(
        WARNING, 'class names that differ by case or spacing only', 'are they one class?'
    ),
    'unused-category': Kind(
        WARNING,
        'classes without an example',
        'they can be neither learnt nor measured on it',
    ),
    'class-without-category': Kind(
        WARNING,
        'classes that the file has no category for',
        'they can be neither learnt nor measured on it',
    ),
    'category-no-class': Kind(
        WARNING,
        'annotations of categories that are no class',
        'they are left out; set metainfo.classes to have them',
    ),
    # Boxes.
    'bad-crowd': Kind(
        ERROR, 'annotations whose iscrowd is neither 0 nor 1', 'write 0, or 1 for a crowd'
    ),
    'bad-box': Kind(ERROR, 'boxes or areas that are no numbers', 'write [x, y, width, height]'),
    'relative-boxes': Kind(
        ERROR, 'files with all boxes within [0, 1]', "multiply by the image's width and height"
    ),
    'corner-boxes': Kind(
        ERROR,
        'files whose boxes fit their images as [x1, y1, x2, y2] only',
        'write [x, y, width, height], in YOLO with the centre for x and y',
    ),
    'box-outside': Kind(
        ERROR,
        'boxes wholly outside their image',
        'correct them: training drops them, evaluation counts them as missed',
    ),
    'box-partly-outside': Kind(
        WARNING, 'boxes partly outside their image', 'they are clipped; see whether they fit'
    ),
    'box-without-area': Kind(
        WARNING,
        'boxes without area or with a side below one pixel',
        'drop them: training does, evaluation counts them as missed',
    ),
    'duplicate-box': Kind(
        WARNING, 'boxes that are there twice, of one class', 'drop one of each (merged twice?)'
    ),
    'no-annotation': Kind(
        NOTE,
        'images without an annotation',
        'meant as background? filter_empty_gt and filter_empty leave them out',
    ),
    # Between splits.
    'overlap': Kind(
        ERROR,
        'images that are in the training split, too',
        'take them out of one split: what is measured on them was learnt by heart',
    ),
    'near-copy': Kind(
        WARNING,
        'images that look like one of the training split',
        'see whether they are the same, resized or compressed anew',
    ),
}


@dataclass
class Finding:
    """All of one kind in one split.

    Attributes:
        split: The split's name.
        code: A key of ``KINDS``.
        count: How many there are.
        examples: Where: at most `MOST_EXAMPLES` files, ids or rows.
        total: Among how many; None where that says nothing.
    """

    split: str
    code: str
    count: int = 0
    examples: list[str] = field(default_factory=list)
    total: int | None = None

    @property
    def level(self) -> str:
        """Its kind's, one of ``LEVELS``."""
        return KINDS[self.code].level

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        _, what, mend = KINDS[self.code]
        own = dict(split=self.split, count=self.count, total=self.total)
        return dict(
            level=self.level, code=self.code, **own, what=what, mend=mend, where=self.examples
        )


class Findings:
    """A list of findings that goes on, grouped by split and kind."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Finding] = {}

    def add(
        self,
        split: str,
        code: str,
        rows: Iterable[T],
        name: Callable[[T], str] = str,
        total: int | None = None,
    ) -> None:
        """Add what was found.

        Args:
            split: The split's name.
            code: A key of ``KINDS``.
            rows: One for each fault, of any type; nothing is added where there is none.
            name: Says of a row where it is. It is only asked for the examples that are kept.
            total: Among how many.
        """
        rows = list(rows)
        if not rows:
            return
        group = self._groups.setdefault((split, code), Finding(split, code))
        group.count += len(rows)
        group.total = total
        room = MOST_EXAMPLES - len(group.examples)
        group.examples += [name(row) for row in rows[:room]]

    def has(self, split: str, *codes: str) -> bool:
        """Whether any of these kinds was found in a split."""
        return any((split, code) in self._groups for code in codes)

    def has_error(self, split: str) -> bool:
        """Whether an error was found in a split."""
        return any(f.split == split and f.level == ERROR for f in self._groups.values())

    def sorted(self) -> list[Finding]:
        """Return the findings: errors first, by split in the order of their coming."""
        return sorted(self._groups.values(), key=lambda f: LEVELS.index(f.level))

    def count(self, level: str) -> int:
        """Return how many groups are of a level."""
        return sum(f.level == level for f in self._groups.values())
