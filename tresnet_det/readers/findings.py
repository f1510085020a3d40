"""What is wrong with data, by kind: collected, or the first error raised. A new check begins here.

The tables have each kind's code, how bad it is, what it is and what to do. Below `Findings` is
what is asked of the names of classes: whether they fit the head, a file and the other splits.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..errors import InputError, MissingFileError, few, printable

ERROR, WARNING, NOTE = LEVELS = ('error', 'warning', 'note')

MOST_EXAMPLES = 1000  # of a finding that are kept
LONGEST = 2000  # characters of an example

Named = tuple[str, Path | str, Sequence[str]]  # a split's name, its file, its classes

T = TypeVar('T')
Add = Callable[..., None]  # Findings.add, of one split

# On each line ``CODE: WHAT -> FIX``; a line that is indented continues the one before it.
ERRORS = """
bad-config: settings that do not fit
num-classes: heads with another number of classes than the data
unreadable-annotations: annotation files that cannot be used
missing-file: annotation files that are not found
missing-folder: image folders that are not found
bad-layout: names of classes or paths that cannot be used
no-training-split: datasets without a part for training
images-not-found: annotation files whose images are not found
nothing-to-learn: splits without any usable annotation
missing-image: images that are not in the folder -> complete the folder, or set data_prefix.img
undecodable-image: images that do not decode -> replace the files, or drop the entries
size-differs: images of another size than annotated -> correct width and height; do the boxes fit?
exif-rotated: images that EXIF turns, annotated unturned -> save them turned, or drop the tag
same-name: different images of the same name -> rename one: a name is one image in several classes
missing-key: entries that lack a key -> write it; MMDetection and pycocotools need it (--data
    fills in area, iscrowd, width, height and the id of an annotation)
mixed-ids: ids that are partly numbers and partly text -> number them again, or use --data, which
    does
bad-id: ids that are neither number nor text, or names that are no text -> correct them
bad-image: images whose name is no text, or a side no number above 0 -> correct the entries
duplicate-image-id: image ids that occur more than once -> number again
duplicate-annotation-id: annotation ids that occur more than once -> number again
unknown-image: annotations of an image that is not in the file -> add the image, or drop them
missing-annotation: images whose XML file is not found -> add the file, or take them off the list
corrupt-export: files of a labelling tool, or rows, that cannot be used -> export them again
corrupt-xml: XML files that cannot be used -> export them again
repeated-row: images that are listed again -> remove one of the rows
bad-row: rows of another form than the others -> write each row like the others
bad-label: labels that are none -> write 1, 0 or -1 (unknown), or a class's name
bad-label-row: label rows that are neither a box nor a polygon -> write CLASS X Y WIDTH HEIGHT
pixel-row: label rows with pixels in place of fractions -> divide by the width or height of the
    image
bad-fraction: label rows with a number outside 0 to 1 -> 0 is the left or top, 1 the right or bottom
unknown-class-number: label rows with a class that has no name -> add names: they are counted from 0
duplicate-category: categories with the id or name of another -> give each its own
unknown-category: annotations of a category that does not exist -> add the category, or drop them
unknown-class: data with classes that are not known
no-known-class: files without any of the classes -> set metainfo.classes, or name other data
class-order: files of another order of categories -> give both the same names in the same order
classes-differ: splits of other classes than the training -> give both the same metainfo.classes
single-class: sets with one class, which leaves nothing to tell -> add a folder for each class
long-name: classes with a name of more than 1000 letters, which no checkpoint keeps -> shorten it
missing-class: classes without a category, folder or column -> add it, or set metainfo.classes
empty-class-folder: class folders without an image -> fill them, or set metainfo.classes
bad-crowd: annotations whose iscrowd is neither 0 nor 1 -> write 0, or 1 for a crowd
bad-box: boxes or areas that are no numbers -> write [x, y, width, height]
bad-mask: masks that cannot be used -> correct or remove the segmentation; C code would trust it
bad-object: objects without a name, or four numbers for a box -> write <name>, and <bndbox>
relative-boxes: files with all boxes within [0, 1] -> multiply by the image's width and height
corner-boxes: files whose boxes are [x1, y1, x2, y2] -> write x, y, width and height
"""

WARNINGS = """
outside-folder: images outside the folder of the data -> they are read from there: see that they
    are meant
box-outside: boxes wholly outside their image -> training drops them, evaluation has them missed
overlap: images that are in the training split, too -> take them out of one split
blank-image: images of one colour -> see whether they were exported whole
duplicate-image: images with the pixels of another -> keep one of each, or know why
contradicting-labels: images with the pixels of another class -> decide for one, or use
    MultiLabelDataset
image-listed-twice: images with several entries -> merge the entries, as --data does, and their
    annotations
annotation-id-0: annotations with the id 0, which pycocotools skips -> number annotations from 1
small-image: images with a side below filter_cfg.min_size -> training skips them; lower it to have
    them
joined-labels: labels with a separator in them, each taken as one class -> write several labels of
    an image as cat;dog
missing-label-file: images without a label file -> add it, empty where there is no object, as
    training takes it
label-without-image: label files without an image -> add the image, or remove them
shared-label-file: images with the label file of another -> give each a name of its own
folder-no-class: folders that are no class -> they are skipped; set metainfo.classes to have them
similar-classes: class names that differ by case or spacing only -> are they one class?
unused-category: classes without an example -> they are neither learnt nor measured
class-without-category: classes that the file has no category for -> they are neither learnt nor
    measured
category-no-class: annotations of categories that are no class -> they are skipped; set
    metainfo.classes to have them
box-partly-outside: boxes partly outside their image -> they are clipped; see whether they fit
box-without-area: boxes without area, or a side below a pixel -> drop them, as training does
duplicate-box: boxes that occur twice, of one class -> drop one of each (merged twice?)
one-image: splits of one image -> a metric of one image says little; add some
near-copy: images that look like one of the training split -> are they the same, compressed again?
"""

NOTES = """
not-checked: datasets of a type that has no check -> look at their images yourself
left-out: parts that training skips
filled-in: what annotations leave open or say in another way, and how it is read
exif-turned: images that EXIF turns, with fractions for boxes -> see that they are of the image as
    shown
unused-file: files next to the images that nothing names -> annotate them, or let them be
no-annotation: images without an annotation -> background? filter_empty_gt skips them
"""


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        level: ``'error'`` where training would fail or its metrics mislead, ``'warning'`` where
            something is lost or doubtful, ``'note'`` for a fact worth knowing.
        what: What is found, in the plural.
        fix: What to do; empty where each example says all of it itself.
    """

    level: str
    what: str
    fix: str


KINDS = {
    code: Kind(level, *text.partition(' -> ')[::2])
    for level, table in zip(LEVELS, (ERRORS, WARNINGS, NOTES), strict=True)
    for code, text in re.findall(r'(\S+): (.*)', re.sub(r'\n +', ' ', table))
}
NOT_FOUND = ('missing-file', 'missing-folder', 'missing-image', 'missing-annotation')


@dataclass
class Finding:
    """All of one kind in one split.

    Attributes:
        split: The split's name.
        code: A key of ``KINDS``.
        file: Where it was found.
        message: One line: file, what, how many, the first example, the fix. A training's error.
        count: How many there are.
        examples: Where: at most `MOST_EXAMPLES` files, ids or rows.
        total: Among how many; None where that says nothing.
    """

    split: str
    code: str
    file: str
    message: str = ''
    count: int = 0
    examples: list[str] = field(default_factory=list)
    total: int | None = None

    @property
    def kind(self) -> Kind:
        """How bad it is, what it is, what to do."""
        return KINDS[self.code]

    @property
    def level(self) -> str:
        """Its kind's, one of `LEVELS`."""
        return self.kind.level

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        own = asdict(self)
        where = own.pop('examples')
        return {**self.kind._asdict(), **own, 'where': where}

    def compose(self) -> str:
        """Return the message."""
        _, what, fix = self.kind
        if not fix:
            return self.examples[0]
        of = f' of {self.total}' if self.total else ''
        many = f'{self.count}{of}, first ' if of or self.count > 1 else ''
        return (
            f'{printable(self.file)}: {what}: {many}{self.examples[0]}. {fix[0].upper()}{fix[1:]}'
        )


class Findings:
    """Findings, grouped by split and kind.

    Args:
        strict: Whether to raise the first error in place of adding it.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self._groups: dict[tuple[str, str], Finding] = {}

    def about(self, split: str, file: str | Path) -> Add:
        """Return `add` for a split and its file."""
        return functools.partial(self.add, split, file)

    def add(
        self,
        split: str,
        file: str | Path,
        code: str,
        rows: Iterable[T],
        name: Callable[[T], object] = str,
        total: int | None = None,
    ) -> None:
        """Add what was found.

        Args:
            split: The split's name.
            file: Where it was found.
            code: A key of ``KINDS``.
            rows: One for each fault, of any type; nothing is added where there is none.
            name: Says of a row where it is. It is only asked for the examples that are kept.
            total: Among how many.

        Raises:
            InputError: It is an error, and the findings are strict: its message, or the row
                itself where that is such an exception.
        """
        rows = list(rows)
        if not rows:
            return
        group = self._groups.setdefault((split, code), Finding(split, code, str(file)))
        group.count += len(rows)
        group.total = total
        room = MOST_EXAMPLES - len(group.examples)
        for row in rows[: max(room, 0)]:
            text = str(name(row))
            # An error's lines are joined; in a name, a line feed is part of it.
            text = ' '.join(text.splitlines()) if isinstance(row, Exception) else text
            group.examples.append(printable(text)[:LONGEST])
        group.message = group.message or group.compose()
        if self.strict and group.level == ERROR:
            missing = code in NOT_FOUND or isinstance(rows[0], MissingFileError)
            raise (MissingFileError if missing else InputError)(group.message)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._groups.values())

    def has(self, split: str, *codes: str) -> bool:
        """Whether any of these kinds was found in a split."""
        return any((split, code) in self._groups for code in codes)

    def has_error(self, split: str) -> bool:
        """Whether an error was found in a split."""
        return any(f.split == split and f.level == ERROR for f in self)

    def sorted(self) -> list[Finding]:
        """Return the findings: errors first, by split in the order of their coming."""
        return sorted(self, key=lambda f: LEVELS.index(f.level))

    def count(self, level: str) -> int:
        """Return how many groups are of a level."""
        return sum(f.level == level for f in self)

    def warnings(self) -> list[str]:
        """Return the lines that a training prints: all but notes, and images without objects."""
        lines = [e for f in self if f.code == 'filled-in' for e in f.examples]
        return lines + [f.message for f in self if f.level != NOTE or f.code == 'no-annotation']


def is_text(value: object) -> bool:
    """Whether a value is text that can be written into another file."""
    return isinstance(value, str) and not any('\ud800' <= c <= '\udfff' for c in value)


def suggest(name: str, known: Sequence[str]) -> str:
    """Say which of the known names may have been meant, or what they are."""
    folded = {key.casefold(): key for key in known}
    close = get_close_matches(name.casefold(), folded)
    return f'did you mean {folded[close[0]]!r}?' if close else f'known are {few(known)}'


def are_number_names(classes: Sequence[str]) -> bool:
    """Whether the classes are the numbers of a label list, which has no names."""
    return list(classes) == [str(number) for number in range(len(classes))]


def compare_classes(
    splits: Sequence[Named], first: Named | None, num_classes: int | None, findings: Findings
) -> None:
    """Compare the classes of splits with the head's number, and with those of the first one.

    Args:
        splits: Those that matter.
        first: The first training split.
        num_classes: Of the head; None where it is not known.
        findings: Gets what does not fit.
    """
    for name, file, classes in splits:
        count, numbered = len(classes), are_number_names(classes)
        # A label list of numbers need not reach the last class.
        fits = count == num_classes or (count < (num_classes or 0) and numbered)
        if num_classes is not None and not fits:
            text = (
                f'{name}: num_classes of the head is {num_classes}, the data has {count} classes '
                f'({few(classes)}): set num_classes={count}, or metainfo.classes of the dataset to '
                'the right names'
            )
            findings.add(name, file, 'num-classes', [text])
        if first is None or tuple(classes) == tuple(first[2]):
            continue
        if not (numbered and are_number_names(first[2])):
            pairs = ((first[0], classes, first[2]), (name, first[2], classes))
            lacks = [(who, without(some, own)) for who, some, own in pairs]
            words = [f'{who} lacks {few(lost)}' for who, lost in lacks if lost]
            text = ', '.join(words) or 'they are in another order'
            findings.add(name, file, 'classes-differ', [text])


def without(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the names that are not among the known ones, in their order."""
    known = set(known)
    return [name for name in names if name not in known]


def compare_categories(
    names: Sequence[str], classes: Sequence[str], detection: bool, add: Add
) -> None:
    """Compare the names of a file's categories with the classes.

    MMDetection numbers the labels by the *file's* order of those categories that are in
    ``classes``; where that order is another one, labels and names part without a word.

    Args:
        names: In the order of the file.
        classes: In the order of the labels.
        detection: Whether MMDetection numbers them, and not `MultiLabelDataset` by name.
        add: Gets what does not fit.
    """
    missing, others = without(classes, names), set(without(names, classes))
    found = [name for name in names if name not in others]
    if not found:
        add('no-known-class', [f'the classes are {few(classes)}, the file has {few(names)}'])
    elif not detection:
        add('missing-class', missing, lambda name: f'{name!r}: {suggest(name, names)}')
    else:
        lacks = f' (the file lacks {few(missing)})' if missing else ''
        wrong = [
            f'label {i} is {a!r} by the file, {b!r} by metainfo.classes{lacks}'
            for i, (a, b) in enumerate(zip(found, classes, strict=False))
            if a != b
        ]
        add('class-order', wrong[:1])
        add('class-without-category', missing, repr, len(classes))
