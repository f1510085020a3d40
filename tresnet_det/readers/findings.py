"""What is wrong with data: collected by split and kind, or the first error raised.

What names of classes must be, and whether they fit the head, a file and the other splits, is
checked here, too.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError, MissingFileError, few
from .kinds import ERROR, KINDS, LEVELS, NOT_FOUND, NOTE, TAKEN

MOST_EXAMPLES = 1000  # of a finding that are kept
LONGEST = 2000  # characters of an example

Named = tuple[str, Path | str, Sequence[str]]  # a split's name, its file, its classes

T = TypeVar('T')


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
    def level(self) -> str:
        """Its kind's, one of `LEVELS`."""
        return KINDS[self.code].level

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        kind = KINDS[self.code]
        own = {key: getattr(self, key) for key in ('split', 'count', 'total', 'file', 'message')}
        fixed = dict(level=kind.level, code=self.code, what=kind.what, fix=kind.fix)
        return {**fixed, **own, 'where': self.examples}

    def compose(self) -> str:
        """Return the message."""
        kind = KINDS[self.code]
        if not kind.fix:
            return self.examples[0]
        of = f' of {self.total}' if self.total else ''
        many = f'{self.count}{of}, first ' if of or self.count > 1 else ''
        fix = kind.fix[0].upper() + kind.fix[1:]
        return f'{self.file}: {kind.what}: {many}{self.examples[0]}. {fix}'


Add = Callable[..., None]  # as Findings.add, of one split


class Findings:
    """Findings, grouped by split and kind.

    Args:
        strict: Whether to raise the first error in place of adding it, but for those that are
            `TAKEN`.
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
        group.examples += [
            ' '.join(str(name(row)).splitlines())[:LONGEST] for row in rows[: max(room, 0)]
        ]
        group.message = group.message or group.compose()
        if self.strict and group.level == ERROR and code not in TAKEN:
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
        return [f.message for f in self if f.level != NOTE or f.code == 'no-annotation']


def is_text(value: object) -> bool:
    """Whether a value is text that can be written into another file."""
    return isinstance(value, str) and not any('\ud800' <= c <= '\udfff' for c in value)


def suggest(name: str, known: Sequence[str]) -> str:
    """Say which of the known names may have been meant, or what they are."""
    folded = {key.casefold(): key for key in known}
    close = get_close_matches(name.casefold(), folded)
    return f'did you mean {folded[close[0]]!r}?' if close else f'known are {few(known)}'


def find_unknown(file: Path, names: Sequence[str], known: Sequence[str], by: str) -> list[str]:
    """Return a line where data has classes that are not known.

    Args:
        file: Of the data.
        names: Its classes.
        known: Those that are known.
        by: Who knows them; empty where others may occur.
    """
    unknown = [name for name in names if name not in set(known)]
    if not by or not unknown:
        return []
    return [
        f'{file}: has the classes {few(unknown)}, which {by} does not know; it knows {few(known)}'
    ]


def are_number_names(classes: Sequence[str]) -> bool:
    """Whether the classes are the numbers of a label list, which has no names."""
    return list(classes) == [str(number) for number in range(len(classes))]


def check_num_classes(splits: Sequence[Named], num_classes: int | None, findings: Findings) -> None:
    """Compare the number of classes with the head's.

    Args:
        splits: Those that matter.
        num_classes: Of the head; None where it is not known.
        findings: Gets what does not fit.
    """
    for name, file, classes in splits:
        count = len(classes)
        # A label list of numbers need not reach the last class.
        fits = count == num_classes or (count < (num_classes or 0) and are_number_names(classes))
        if num_classes is not None and not fits:
            text = (
                f'{name}: num_classes of the head is {num_classes}, the data has {count} classes '
                f'({few(classes)}): set num_classes={count}, or metainfo.classes of the dataset to '
                'the right names'
            )
            findings.add(name, file, 'num-classes', [text])


def compare_classes(splits: Sequence[Named], first: Named | None, findings: Findings) -> None:
    """Compare the classes of splits with those of the first training split."""
    for name, file, classes in splits:
        if first is None or tuple(classes) == tuple(first[2]):
            continue
        if are_number_names(classes) and are_number_names(first[2]):
            continue
        more = [c for c in classes if c not in set(first[2])]
        lacks = [c for c in first[2] if c not in set(classes)]
        words = [f'{first[0]} lacks {few(more)}'] * bool(more)
        words += [f'{name} lacks {few(lacks)}'] * bool(lacks)
        text = ', '.join(words) or 'they are in another order'
        findings.add(name, file, 'classes-differ', [text])


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
    found = [name for name in names if name in set(classes)]
    missing = [name for name in classes if name not in set(names)]
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
