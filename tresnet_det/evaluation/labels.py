"""Labels of whole images and a classifier's scores of them, from files, as arrays."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, few, shown
from ..files import check_regular, write_whole
from ..readers.csv import read_rows
from ..readers.data import ONE_LABEL, READERS
from ..readers.files import read_json
from ..readers.findings import Findings
from ..readers.split import NO_CLASS, Source, Split

MOST_SCORES = 10  # of a single-label image that are written
KINDS = {'.csv': 'csv', '.txt': 'list', '.json': 'coco'}


def check_score(where: str, score: Any) -> None:
    """Refuse a score that is no number from 0 to 1, and name the likely mistake."""
    is_number = type(score) in (int, float)
    if not is_number or not 0 <= score <= 1:
        hint = ': in percent, or a logit?' if is_number and abs(score) <= 100 else ''
        raise InputError(f'{where}: score {shown(score)} is not from 0 to 1{hint}')


@dataclass(frozen=True)
class Labels:
    """``N`` images with their labels and scores.

    Attributes:
        files: ``N`` names, relative to the folder of the images.
        classes: Their names.
        truth: ``(N, classes)``, 1 where a class is there, 0 where not, -1 where that is unknown.
        scores: ``(N, classes)`` in [0, 1].
        several: Whether an image may have any number of labels.
        unscored: How many scores the results lack, as those below predict's threshold; they are 0.
    """

    files: tuple[str, ...]
    classes: tuple[str, ...]
    truth: np.ndarray
    scores: np.ndarray
    several: bool
    unscored: int = 0


def read_labels(ann: str | Path, results: str | Path) -> Labels:
    """Read what ``predict.py`` or ``test.py`` wrote of a classifier, and the ground truth.

    Args:
        ann: A folder with one folder of images for each class, or a CSV, TXT or COCO file.
        results: ``results.json`` or ``results.csv``.

    Raises:
        InputError: One of both is none, or they do not belong together.
    """
    ann, results = Path(ann), Path(results)
    kind = 'folders' if ann.is_dir() else KINDS.get(ann.suffix.lower(), '')
    if not kind:
        raise InputError(f'{ann}: give a folder of classes, or a .csv, .txt or .json file')
    folder = ann if ann.is_dir() else ann.parent
    source = Source('ground truth', kind, ann, folder, training=False, several=kind == 'coco')
    split = READERS[kind](source, Findings(strict=True))
    assert split is not None  # only what is optional
    return labels_of(split, np.arange(len(split.files)), results)


def labels_of(split: Split, rows: np.ndarray, results: Path) -> Labels:
    """Read the scores of some images of a split, by their numbers; see :func:`read_labels`."""
    kind, truth, files = split.source.kind, split.matrix()[rows], [split.files[n] for n in rows]
    odd = bool((truth < 0).any() or ((truth > 0).sum(1) != 1).any())
    several = split.source.several or kind == 'coco' or odd
    if kind in ONE_LABEL and not split.source.several:
        numbers, several = split.single_labels()[rows], False
        if (numbers == NO_CLASS).any():
            name = files[int((numbers == NO_CLASS).argmax())]
            raise InputError(f'{split.source.ann_file}: {name}: no label')
    scores = _read_scores(results, files, split.classes)
    empty = np.isnan(scores).all(1)
    if not several and empty.any():
        name = files[int(empty.argmax())]
        raise InputError(f'{results}: {shown(name)} has no class: each image has one at least')
    unscored = int(np.isnan(scores).sum())
    return Labels(tuple(files), split.classes, truth, np.nan_to_num(scores), several, unscored)


class FileNames:
    """Images by their names, to which results or ground truth may have put folders in front.

    Args:
        files: The names.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._number = {name: n for n, name in enumerate(files)}
        self._endings: dict[str, int | None] = {}  # None where several have one
        for name, n in self._number.items():
            for ending in _endings(name):
                self._endings[ending] = None if ending in self._endings else n

    def find(self, name: str) -> int | None:
        """Return the number of an image; None where there is none, or more than one."""
        names = _endings(name)
        known = next((end for end in names if end in self._number), None)
        return self._endings.get(names[0]) if known is None else self._number[known]


def _endings(name: str) -> list[str]:
    parts = name.replace('\\', '/').split('/')
    return ['/'.join(parts[start:]) for start in range(len(parts))]


def relative(paths: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return images by their names in a folder that all are in, and the folder."""
    folder = os.path.dirname(os.path.commonprefix(paths)) or '.'
    return tuple(os.path.relpath(path, folder) for path in paths), folder


def write_labels(path: Path, labels: Labels) -> None:
    """Write the scores as ``predict.py`` writes them: all, of single labels the highest ones."""
    entries = []
    most = len(labels.classes) if labels.several else MOST_SCORES
    for name, scores in zip(labels.files, labels.scores, strict=True):
        order = np.argsort(-scores, kind='stable')[:most].tolist()
        found = [{'class': labels.classes[n], 'label': n, 'score': float(scores[n])} for n in order]
        entries.append(json.dumps({'file': name, 'predictions': found}))
    write_whole(path, ('[\n' + ',\n'.join(entries) + '\n]\n').encode())


def is_of_labels(results: str | Path) -> bool:
    """Whether a results file is a classifier's: a CSV, or a JSON list of files."""
    path = Path(results)
    if path.suffix.lower() == '.csv':
        return True
    check_regular(path)
    try:
        with path.open('rb') as file:  # the rows of a detector have other keys
            start = file.read(200).lstrip(b'[ \n\r\t{')
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror})') from error
    return start.startswith((b'"file"', b'"predictions"', b'"drawn"'))


def _read_scores(path: Path, files: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the scores, ``(N, classes)``; NaN where there is none."""
    names = FileNames(files)
    label = {name: n for n, name in enumerate(classes)}
    scores = np.full((len(files), len(classes)), np.nan)
    seen, strange = np.zeros(len(files), bool), []
    for where, name, pairs in _rows(path):
        place = names.find(name)
        if place is None:
            strange.append(name)
            continue
        seen[place] = True
        for class_, score in pairs:
            if not isinstance(class_, str) or class_ not in label:
                raise InputError(
                    f'{path}: {where}: the ground truth has no class {shown(class_)}; it has '
                    f'{few(classes)}: results of another dataset?'
                )
            check_score(f'{path}: {where}', score)
            if not np.isnan(scores[place, label[class_]]):
                raise InputError(f'{path}: {where}: {shown(name)} has {class_!r} a second time')
            scores[place, label[class_]] = score
    if strange:
        raise InputError(
            f'{path}: {len(strange)} images are not in the ground truth ({few(strange, 2)}): '
            'results of another dataset?'
        )
    if not seen.all():
        lacking = [name for name, is_there in zip(files, seen, strict=True) if not is_there]
        raise InputError(f'{path}: has nothing of {len(lacking)} images ({few(lacking, 2)})')
    return scores


def _rows(path: Path) -> Iterable[tuple[str, str, list[tuple[Any, Any]]]]:
    """Yield where an entry stands, its file, and its classes with their scores."""
    if path.suffix.lower() == '.csv':
        rows = read_rows(path)
        if next(rows, (0, []))[1] != ['file', 'class', 'score']:
            raise InputError(f'{path}: no results, which begin with the line file,class,score')
        for n, row in rows:
            try:
                name, class_, score = row
                # Of an image without a label both are empty.
                yield f'line {n}', name, [(class_, float(score))] if class_ or score else []
            except ValueError:
                raise InputError(f'{path}: line {n}: {shown(row)} is no file,class,score') from None
        return
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f'{path}: no results, which are a list of images with predictions')
    for n, entry in enumerate(content):
        try:
            pairs = [(found['class'], found['score']) for found in entry['predictions']]
            yield f'entry {n}', str(entry['file']), pairs
        except (KeyError, TypeError):
            raise InputError(
                f'{path}: entry {n} has no file with predictions, each a class and a score'
            ) from None
