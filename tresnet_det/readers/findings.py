"""What is wrong with data: a list that collects it by split and kind, or raises the first error."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError, MissingFileError
from .kinds import ERROR, KINDS, LEVELS, NOT_FOUND, NOTE, TAKEN

MOST_EXAMPLES = 1000  # of a finding that are kept
LONGEST = 2000  # characters of an example

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

        def add(
            code: str,
            rows: Iterable[Any],
            name: Callable[[Any], object] = str,
            total: int | None = None,
        ) -> None:
            self.add(split, file, code, rows, name, total)

        return add

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
