"""Checks of the classes: against the head, their examples, each other, and another split's."""

import re
from collections import defaultdict
from collections.abc import Sequence

from ..datasets.classification_checks import are_number_names
from ..errors import few
from .findings import Findings
from .part import Part
from .sources import ONE_LABEL, Split

# A class without example is no news where these were found.
EXPLAINS_UNUSED = ('no-known-class', 'duplicate-category', 'nothing-to-learn')


def check_classes(part: Part, num_classes: int | None, findings: Findings) -> None:
    """Hold the classes of a split against the head and their examples.

    Args:
        part: The split.
        num_classes: Of the head; None where it is not known.
        findings: Gets what is wrong.
    """
    split = part.split
    count = len(split.classes)
    fits = (
        count <= num_classes
        if num_classes and are_number_names(split.classes)
        else count == num_classes
    )
    if num_classes is not None and not fits:
        text = f'num_classes is {num_classes}, the data has {count} classes ({few(split.classes)})'
        findings.add(split.name, 'num-classes', [text])
    if not split.source.needs_truth or findings.has(split.name, *EXPLAINS_UNUSED):
        return
    if split.source.kind in ONE_LABEL and count < 2:
        findings.add(split.name, 'single-class', [few(split.classes)])
    counts = part.class_counts()
    if not counts.any() and findings.has_error(split.name):  # as where all rows are bad
        return
    unused = [
        name
        for name, n in zip(split.classes, counts, strict=True)
        if n == 0 and name not in split.absent
    ]
    findings.add(split.name, 'unused-category', unused, repr, count)


def check_similar_names(splits: Sequence[Split], findings: Findings) -> None:
    """Find names that differ by case, spaces, hyphens or underscores alone; each group once."""
    told: set[str] = set()
    for split in splits:
        groups = defaultdict(list)
        for name in split.classes:
            groups[re.sub(r'[\s_-]+', '', name.casefold())].append(name)
        alike = [few(names) for names in groups.values() if len(names) > 1]
        findings.add(split.name, 'similar-classes', [text for text in alike if text not in told])
        told |= set(alike)


def compare_classes(splits: Sequence[Split], findings: Findings) -> None:
    """Hold the classes of all splits against those of the first training split."""
    first = next((split for split in splits if split.source.training), None)
    for split in splits:
        if first is None or split.classes == first.classes or not split.source.needs_truth:
            continue
        if are_number_names(split.classes) and are_number_names(first.classes):
            continue
        more = [name for name in split.classes if name not in set(first.classes)]
        lacks = [name for name in first.classes if name not in set(split.classes)]
        words = [f'{first.name} lacks {few(more)}'] * bool(more)
        words += [f'{split.name} lacks {few(lacks)}'] * bool(lacks)
        text = ', '.join(words) or 'they are in another order'
        findings.add(split.name, 'classes-differ', [text])
