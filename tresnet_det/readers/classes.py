"""Names of classes: what they must be, and whether they fit the head and the other splits."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from ..errors import few
from .findings import Findings

Named = tuple[str, Path | str, Sequence[str]]  # a split's name, its file, its classes


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
