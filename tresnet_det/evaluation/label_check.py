"""The labels of a dataset compared with predictions of it: which are wrong, as table and images.

Results do not say which split they are of. It is the one that has their images; of several, since
each COCO file may count from 1, the one that the predictions agree with most. What a number stands
for is in the ``images.json`` that ``test.py`` and ``predict.py`` write next to results, or else in
the split's own COCO file.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, few, shell_path
from ..readers.files import read_json
from ..readers.findings import without
from ..readers.prepare import plan_parts
from ..readers.split import Split
from .detections import Images, Objects, read_results
from .labels import FileNames, Labels, is_of_labels, labels_of
from .matching import match
from .pages import WORST, draw_each, write_csv
from .report import format_table
from .suspects import SURE, SURE_LABEL, Suspect, find_boxes, find_labels

LISTED = 10  # suspects that are printed
AGREEING = 0.1  # of the most confident predictions; fewer are right where results are of other data
BOX = ('left', 'top', 'width', 'height')  # of a prediction, in pixels


@dataclass(frozen=True)
class Part:
    """Images that predictions may be of: those with the numbers ``rows`` of a split.

    ``trained`` says whether a training on the dataset learns from them.
    """

    split: Split
    rows: np.ndarray
    trained: bool


@dataclass(frozen=True)
class LabelCheck:
    """What predictions say against the labels of some images.

    Attributes:
        part: The images.
        results: The file of the predictions.
        suspects: What is probably wrong, the likeliest first.
        rows: A row of a table for each.
        total: Boxes or labels that were looked at, and what they are called.
        draw: Draws the image of one.
        notes: What else is to be known, a line each.
    """

    part: Part
    results: Path
    suspects: list[Suspect]
    rows: list[dict[str, Any]]
    total: tuple[int, str]
    draw: Callable[[Suspect], np.ndarray]
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Return what is printed of it."""
        counts = Counter(suspect.kind for suspect in self.suspects)
        what = ', '.join(f'{kind} {count}' for kind, count in counts.most_common()) or 'none'
        name, (total, unit) = self.part.split.name, self.total
        share = 100 * len(self.suspects) / max(total, 1)
        of = f'{share:.1f} % of {total} {unit} of {name}, by {shell_path(self.results)}'
        lines = [f'probably wrong: {what} ({of})', *self.notes]
        if self.part.trained:
            lines.append(
                f'warning  {name}: is for training, and a model repeats the mistakes that it has '
                'learnt: predict images that it was not trained on, such as one half by a model '
                'of the other'
            )
        if self.rows:
            columns = [key for key in self.rows[0] if key not in (*BOX, 'image')]
            shown = [{key: row[key] for key in columns} for row in self.rows[:LISTED]]
            lines.append(format_table(shown))
        more = len(self.rows) - LISTED
        return lines + [f'... and {more} more; --out-dir DIR has all of them'] * (more > 0)

    def write(self, out: Path) -> tuple[list[Path], list[str]]:
        """Write all as ``suspects.csv``, the likeliest as an image; return both, and failures.

        Of a clean dataset there are none, and no file of an earlier check stays.
        """
        from .draw import save_sheet

        files = [out / 'suspects.csv', out / 'suspects.jpg']
        for file in files:
            file.unlink(missing_ok=True)
        if not self.rows:
            return [], []
        write_csv(files[0], self.rows)
        tiles, failures = draw_each(self.suspects[:WORST], lambda suspect: (self.draw(suspect),))
        if not tiles:
            return files[:1], failures
        title = {'labels that are probably wrong'}
        note = f' of {len(self.rows)}, the likeliest first'
        save_sheet([tile for (tile,) in tiles], files[1], title, note, Counter())
        return files, failures


def check_labels(splits: Sequence[Split], task: str | None, results: Path) -> LabelCheck:
    """Find labels that are probably wrong.

    Args:
        splits: Of a dataset, as they were read.
        task: What it is for, where a training would hold out images; None where it would not.
        results: What ``test.py``, ``predict.py`` or another model wrote of one of them.

    Raises:
        InputError: It is none, or of none of them.
    """
    first, of_labels = splits[0], is_of_labels(results)
    if of_labels != (first.boxes is None or first.source.several):
        has, wanted = ('labels', 'boxes') if of_labels else ('boxes', 'labels of images')
        raise InputError(
            f'--predictions {results}: has no {wanted}, for which {first.source.ann_file} is read: '
            f'give CONFIG --data FOLDER with the config of the model that predicted these {has}'
        )
    parts = [Part(s, np.arange(len(s.files)), s.source.training) for s in splits]
    if task and [split.name for split in splits] == ['train']:
        with contextlib.suppress(InputError):  # too few to hold one out
            parts.append(Part(*plan_parts({'train': first}, task)['val'], trained=False))
    parts.sort(key=lambda part: part.trained)  # of equally good ones, what is held out
    return (_check_classes if of_labels else _check_boxes)(parts, results)


def _check_classes(parts: Sequence[Part], results: Path) -> LabelCheck:
    fits: list[tuple[float, Part, Labels]] = []
    errors = []
    for part in parts:
        try:
            labels = labels_of(part.split, part.rows, results)
        except InputError as error:
            errors.append(error)
        else:
            there, absent = (labels.scores[labels.truth == value].sum() for value in (1, 0))
            fits.append((there - absent / len(labels.classes), part, labels))
    if not fits:
        raise errors[0]
    _, part, labels = max(fits, key=lambda fit: fit[0])
    suspects = [s for s in find_labels(labels) if s.suspicion >= SURE_LABEL]
    rows = [_row(s, labels.files[s.image], labels.classes) for s in suspects]

    def draw(suspect: Suspect) -> np.ndarray:
        from .draw import VERDICTS, Line, draw_classes, read_image
        from .verdicts import Verdict

        names = np.array(labels.classes)
        there = ', '.join(names[labels.truth[suspect.image] == 1])
        doubted = suspect.labelled if suspect.predicted is None else suspect.predicted
        lines = [Line(labels.files[suspect.image]), Line(f'labelled: {there}')]
        said = f'{suspect.kind}? {names[doubted]}'
        lines.append(Line(said, suspect.score, VERDICTS[Verdict.WRONG]))
        path = part.split.path(int(part.rows[suspect.image]))
        return draw_classes(read_image(path), lines, side=288)

    total, notes = int((labels.truth >= 0).sum()) if labels.several else len(labels.files), []
    if labels.several and labels.unscored:
        text = f'{labels.unscored} scores are not in the results and were taken as 0'
        notes = [f'note: {text}, so that labels seem wrong: test.py writes all of them']
    return LabelCheck(part, results, suspects, rows, (total, 'labels'), draw, notes)


def _check_boxes(parts: Sequence[Part], results: Path) -> LabelCheck:
    content = read_json(results)
    rows = content if isinstance(content, list) else []  # else read_results refuses it
    named = [row.get('image_id') for row in rows if isinstance(row, dict)]
    ids = {id_ for id_ in named if isinstance(id_, int | float | str)}
    numbered = [(part, *_number(part, results)) for part in parts]
    shared = [len(ids.intersection(images.ids)) for _, images, _ in numbered]
    fits = []
    for (part, images, truth), count in zip(numbered, shared, strict=True):
        if count == max(shared):
            found = replace(read_results(results, images, content), masks=None)
            matches = match(images, truth, found)
            right = matches.right[0, 0][matches.order[: len(truth)]]
            agreeing = right.mean() if right.size else 0.0
            fits.append((agreeing, part, images, truth, found, matches))
    agreeing, part, images, truth, found, matches = max(fits, key=lambda fit: fit[0])
    if not len(found):
        raise InputError(f'--predictions {results}: has no predictions')
    if agreeing < AGREEING:
        raise InputError(
            f'--predictions {results}: {100 * agreeing:.0f} % of its most confident predictions '
            f'are right in {part.split.name}: of another dataset, or of a model that has learnt '
            'nothing?'
        )
    suspects = [s for s in find_boxes(truth, found, matches) if s.suspicion >= SURE]
    rows = []
    for s in suspects:
        where = images.names[s.image]
        if s.object is not None:
            where = part.split.name_object(int(truth.row[s.object]))
        box = zip(BOX, found.boxes[s.found].tolist(), strict=True)
        rows.append(_row(s, where, images.classes) | {'image': images.names[s.image], **dict(box)})

    def draw(suspect: Suspect) -> np.ndarray:
        from .draw import draw_sides
        from .verdicts import Objects as Drawn
        from .verdicts import Verdict

        objects = np.arange(len(truth))[truth.of_image(suspect.image)]
        marks = [Verdict.WRONG if g == suspect.object else Verdict.OTHER for g in objects]
        sides = []
        for of, chosen in ((truth, objects), (found, np.array([suspect.found]))):
            boxes = of.boxes[chosen] + np.pad(of.boxes[chosen, :2], ((0, 0), (2, 0)))
            scores = [None] * len(chosen) if of is truth else of.score[chosen].tolist()
            sides.append(Drawn(boxes, of.label[chosen], scores))
        what = f'{suspect.kind}? predicted'
        judged = [('labelled', sides[0], marks), (what, sides[1], [Verdict.PLAIN])]
        path = Path(part.split.folder, images.names[suspect.image])
        return draw_sides(path, judged, images.classes)

    return LabelCheck(part, results, suspects, rows, (len(truth), 'boxes'), draw)


def _number(part: Part, results: Path) -> tuple[Images, Objects]:
    """Return the images of a part and its boxes by the numbers of the results."""
    split, beside = part.split, results.with_name('images.json')
    file = beside if beside.is_file() else split.source.ann_file
    if file != beside and split.source.kind != 'coco':
        raise InputError(
            f'--predictions {results}: no images.json next to it, which says what its numbers are; '
            'test.py and predict.py write one'
        )
    said, ids = read_json(file), dict[int, Any]()
    names = FileNames([split.files[row] for row in part.rows])
    try:
        for image in said['images']:
            if (place := names.find(image['file_name'])) is not None:
                ids[place] = image['id']
        categories = {category['name']: category['id'] for category in said['categories']}
        {*ids.values(), *categories.values()}  # a list is no id
    except (KeyError, TypeError, AttributeError):
        raise InputError(f'{file}: no COCO file with images and categories') from None
    unknown = without(categories, split.classes)
    if unknown and file == beside:
        raise InputError(
            f'--predictions {results}: is of classes that {split.name} has not: {few(unknown)}; it '
            f'has {few(split.classes, 20)}'
        )
    rows = part.rows[sorted(ids)]
    images = Images(
        tuple(ids[place] for place in sorted(ids)),
        tuple(split.files[row] for row in rows),
        split.sizes[rows],
        tuple(categories.get(name) for name in split.classes),
        split.classes,
        tuple(categories.values()),
    )
    boxes, number = split.boxes, np.full(len(split.files), -1)
    assert boxes is not None  # of results with boxes
    number[rows] = np.arange(len(rows))
    image = number[split.rows]
    chosen = np.flatnonzero((image >= 0) & (split.labels >= 0) & (split.usable | boxes.ignored))
    chosen = chosen[np.argsort(image[chosen], kind='stable')]
    taken, image = boxes.take(chosen), image[chosen]
    area = np.where(np.isnan(taken.areas), taken.xywh[:, 2:].prod(1), taken.areas)
    bounds = np.searchsorted(image, np.arange(len(rows) + 1))
    known = split.labels[chosen], taken.xywh, np.ones(len(chosen)), taken.ignored
    return images, Objects(image, *known, area, chosen, bounds)


def _row(suspect: Suspect, where: str, classes: Sequence[str]) -> dict[str, Any]:
    named = [None if n is None else classes[n] for n in (suspect.labelled, suspect.predicted)]
    row = {'kind': suspect.kind, 'where': where, 'labelled': named[0], 'predicted': named[1]}
    numbers = {'score': suspect.score, 'suspicion': suspect.suspicion}
    return row | numbers | ({} if suspect.iou is None else {'IoU': suspect.iou})
