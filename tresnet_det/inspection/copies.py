"""Images that are there twice: in a split, or in one to learn from and one to measure on."""

import os
from collections.abc import Sequence

import numpy as np

from ..readers.data import ONE_LABEL
from ..readers.findings import Findings
from .part import Part
from .scan import find_like, find_same


def find_copies(part: Part, findings: Findings) -> None:
    """Find images of a split with the same pixels in different files.

    Args:
        part: The split.
        findings: Gets them, those apart whose one label is another.
    """
    split, digests = part.split, np.where(part.scan.blank, 0, part.scan.digests)
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    first = first[inverse]
    again = ((digests != 0) & (first != np.arange(len(first)))).nonzero()[0]
    again = np.array([i for i in again if split.files[i] != split.files[first[i]]], np.int64)
    contradicts = np.zeros(len(again), bool)
    if split.source.kind in ONE_LABEL and not split.source.several:
        label_of = split.single_labels()
        contradicts = label_of[again] != label_of[first[again]]
    for code, rows in (
        ('duplicate-image', again[~contradicts]),
        ('contradicting-labels', again[contradicts]),
    ):
        findings.add(
            split.name,
            split.source.ann_file,
            code,
            rows,
            lambda i: f'{split.files[i]} = {split.files[first[i]]}',
            len(split.files),
        )


def find_overlap(part: Part, others: Sequence[Part], findings: Findings) -> None:
    """Find the images of a split that are in training splits, too, or look like one of these.

    An image that was not read is compared by its file.

    Args:
        part: A split to measure on.
        others: The training splits.
        findings: Gets them.
    """
    if not others:
        return
    split, scan = part.split, part.scan
    files = [(other.split, row) for other in others for row in range(len(other.split.files))]
    digests = np.concatenate([other.scan.digests for other in others])
    same = find_same(np.where(scan.blank, 0, scan.digests), digests)
    unread = ((same < 0) & (scan.digests == 0)).nonzero()[0]
    if len(unread):
        row_of = {os.path.abspath(other.path(row)): i for i, (other, row) in enumerate(files)}
        same[unread] = [row_of.get(os.path.abspath(split.path(i)), -1) for i in unread]
    like = find_like(scan.thumbs, np.concatenate([other.scan.thumbs for other in others]))
    like[same >= 0] = -1

    def add(code: str, found: np.ndarray) -> None:
        def describe(row: int) -> str:
            other, place = files[found[row]]
            return f'{split.files[row]} = {other.files[place]} of {other.name}'

        rows = np.flatnonzero(found >= 0).tolist()
        findings.add(split.name, split.source.ann_file, code, rows, describe, len(split.files))

    add('overlap', same)
    add('near-copy', like)
