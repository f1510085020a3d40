"""A detector's results, explained: from its metric to what costs most and what to do next.

All of it is from one set of matches, COCO's at an IoU of 0.5, so that no number disagrees with
another. The operating threshold is the score of the best F1, unless a precision or a recall is
wanted; metrics of COCO are measured without one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import few
from ..readers.files import read_json
from . import measures
from .advice import advise
from .bootstrap import Interval, as_entries, find_intervals, mean_precision
from .detections import Images, Objects, has_masks, read_results, read_truth
from .matching import IOU, IOU_THRS, MAX_DETS, Matches, match
from .pages import DRAWN, SEE_IMAGES, WORST, Section, write_csv, write_report
from .report import (
    COCO,
    COUNTS,
    explain_minus_one,
    format_threshold,
    summarize,
    unlike,
    write_results_json,
)
from .twelve import find_rates, summarize_classes


@dataclass(frozen=True)
class Settings:
    """What is measured, and how thresholds are chosen.

    Attributes:
        iou_thrs: Overlaps over which mAP is the mean.
        max_dets: Detections that count, of a class in an image; of COCO's recalls, AR@100 counts
            these, the others 1 and 10 of them.
        precision: Wanted of the operating thresholds, at least; None for the best F1.
        recall: Likewise; one of both.
    """

    iou_thrs: Sequence[float] = IOU_THRS
    max_dets: int = MAX_DETS
    precision: float | None = None
    recall: float | None = None

    @property
    def ious(self) -> str:
        """The first and the last overlap, as ``0.50:0.95``."""
        return ':'.join(f'{thr:.2f}' for thr in sorted({min(self.iou_thrs), max(self.iou_thrs)}))


class Detections:
    """Results of a detector and all that is measured of them.

    Args:
        images: What was looked at.
        truth: Ground truth.
        found: Detections.
        settings: What is measured.

    Attributes:
        metrics: COCO's twelve by name, such as ``bbox_mAP``.
        per_class: A row for each class.
        threshold: The operating one, None where nothing is right; ``thresholds`` of each class.
        curve: Counts of all classes over the score; ``curves`` of each class.
        matrix: ``(classes + 1, classes + 1)``, the confusion at the operating threshold.
        errors: What is wrong, and what AP50 it costs.
        calibration: Whether scores are shares of right detections.
    """

    def __init__(
        self, images: Images, truth: Objects, found: Objects, settings: Settings | None = None
    ) -> None:
        settings = settings or Settings()
        self.images, self.truth, self.found, self.settings = images, truth, found, settings
        thrs = list(dict.fromkeys([IOU, *settings.iou_thrs]))
        self.used = [thrs.index(thr) for thr in settings.iou_thrs]
        self.matches: Matches = match(images, truth, found, thrs, settings.max_dets)
        count = len(images.classes)
        counts = tuple(min(n, settings.max_dets) for n in COUNTS[:2]) + (settings.max_dets,)
        rates = find_rates(truth, found, self.matches, count, counts)
        near = [int(np.argmin(abs(np.array(thrs) - thr))) for thr in (0.5, 0.75)]
        half = [n for n, thr in zip(near, (0.5, 0.75), strict=True) if abs(thrs[n] - thr) < 1e-9]
        ious = {'0.50:0.95': self.used, '0.50': half[:1], '0.75': half[1:]}
        self.kind = 'bbox' if truth.masks is None else 'segm'
        twelve = summarize(*rates, ious)
        if not half[1:]:
            del twelve['mAP_75']  # not measured
        self.metrics = {f'{self.kind}_{key}': value for key, value in twelve.items()}
        self.per_class = summarize_classes(*rates, ious, images, truth)

        self.points = measures.points(found, self.matches)
        self.objects = measures.count_objects(truth, count)
        wanted = settings.precision, settings.recall
        self.threshold = measures.choose_threshold(self.points, self.objects.sum(), *wanted)
        parts = [measures.of_class(self.points, label) for label in range(count)]
        pairs = list(zip(parts, self.objects, strict=True))
        self.thresholds = [measures.choose_threshold(*pair, *wanted) for pair in pairs]
        self.curve = measures.curve(self.points, self.objects.sum())
        self.curves = [measures.curve(*pair) for pair in pairs]
        self.cut = 1.1 if self.threshold is None else self.threshold
        least = np.full(count, self.cut)
        self.at_cut = measures.curve(self.points, self.objects.sum(), np.array([self.cut]))
        self.matrix = measures.confusion_matrix(truth, found, self.matches, count, least)
        self.errors = measures.find_errors(truth, found, self.matches, count)
        self.calibration = measures.calibration(self.points.score, self.points.right)

    @property
    def headline(self) -> float:
        """The mean average precision; NaN without ground truth."""
        value = self.metrics[f'{self.kind}_mAP']
        return np.nan if value == -1 else value

    def intervals(self, other: 'Detections | None' = None) -> list[Interval]:
        """Return the interval of the headline; with another, that one's and their difference's."""
        measured = [
            mean_precision(d.truth, d.found, d.matches, len(self.images.classes), d.used)
            for d in ([self] if other is None else [other, self])
        ]
        return find_intervals(measured, len(self.images.ids), len(self.found))

    def count_by_image(self) -> np.ndarray:
        """Return right, wrong and missed of each image at the operating threshold, ``(N, 3)``."""
        total = len(self.images.ids)
        shown = self.matches.counts[0, 0] & (self.found.score >= self.cut)
        right = np.bincount(self.found.image[shown & self.matches.right[0, 0]], minlength=total)
        wrong = np.bincount(self.found.image[shown], minlength=total) - right
        objects = np.bincount(self.truth.image[~self.truth.crowd], minlength=total)
        return np.stack([right, wrong, objects - right], 1)

    def confused_pairs(self) -> list[tuple[str, str, int]]:
        """Return what was taken for what in the confusion matrix and how often, most first."""
        counts = self.matrix[:-1, :-1] * ~np.eye(len(self.matrix) - 1, dtype=bool)
        order = np.argsort(-counts, axis=None, kind='stable')[: np.count_nonzero(counts)]
        names = self.images.classes
        pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
        return [(names[a], names[b], int(counts[a, b])) for a, b in pairs]

    def worst_images(self) -> list[dict[str, Any]]:
        """Return a row for each image with a mistake, the worst first.

        ``lost F1`` is what the F1 of all images would gain were this one without mistakes; of equal
        ones the image with the most confident mistake comes first.
        """
        counts = self.count_by_image()
        right, wrong, missed = counts.T
        r, w, m = counts.sum(0)
        before = 2 * r / max(2 * r + w + m, 1)
        gain = 2 * (r + missed) / np.maximum(2 * (r + missed) + w - wrong + m - missed, 1) - before
        mistakes = self.matches.counts[0, 0] & ~self.matches.right[0, 0]
        confident = np.zeros(len(counts))
        np.maximum.at(confident, self.found.image[mistakes], self.found.score[mistakes])
        rows = []
        for n in np.lexsort((-confident, -gain)):
            if wrong[n] or missed[n]:
                row = {'image': self.images.names[n], 'id': self.images.ids[n]}
                row |= dict(zip(('right', 'wrong', 'missed'), counts[n].tolist(), strict=True))
                row |= {'lost F1': float(gain[n]), 'most confident mistake': float(confident[n])}
                rows.append(row)
        return rows


def read_detections(
    ann_file: str | Path,
    results: str | Path,
    classes: Sequence[str] | None = None,
    settings: Settings | None = None,
) -> Detections:
    """Read a results file and its ground truth, and measure it.

    Args:
        ann_file: COCO annotation file.
        results: COCO results file of boxes or masks.
        classes: Those to measure; None for all of the annotation file.
        settings: What is measured.

    Raises:
        InputError: One of the files is none, or they do not belong together.
    """
    rows = read_json(Path(results))
    images, truth = read_truth(ann_file, classes, has_masks(rows))
    found = read_results(results, images, rows)
    del rows  # hundreds of MB
    return Detections(images, truth, found, settings)


def explain(
    result: Detections,
    out: Path,
    title: str,
    image_folder: Path | None = None,
    other: Detections | None = None,
) -> str:
    """Write the report of a detector, and its numbers as CSV and JSON.

    Args:
        result: What was measured.
        out: The folder; it exists.
        title: What was measured.
        image_folder: Of the images; None to draw none.
        other: Results of the same images to compare with.

    Returns:
        The headline, as :func:`~.pages.write_report` returns it.
    """
    intervals = result.intervals(other)
    sections = [Section('What to do next', advise(result), steps=True)]
    by_class = dict(zip(result.images.classes, result.thresholds, strict=True))
    entries = {**as_entries(intervals), 'threshold': result.threshold, 'thresholds': by_class}
    write_results_json(out / 'metrics.json', result.metrics, result.per_class, entries)
    costs, *others = _write_numbers(result, out)
    sections += [costs, _write_worst(result, out, image_folder), *others]
    name, images = f'{result.kind} mAP', len(result.images.ids)
    return write_report(out, title, name, images, intervals, sections)


def _write_numbers(result: Detections, out: Path) -> list[Section]:
    """Write tables and charts; return their sections in the order of the report."""
    from . import charts

    classes = result.images.classes
    names = [*classes, unlike('background', classes)]
    every, confident = (
        result.errors.counts(result.truth, result.matches, result.found.score >= least)
        for least in (-np.inf, result.cut)
    )
    errors: list[dict[str, Any]] = [
        {'error': kind, 'AP50 that it costs': result.errors.cost[kind], 'count': every[kind],
         'from the threshold on': confident[kind]}
        for kind in measures.ERRORS
    ]  # fmt: skip
    errors.sort(key=lambda row: -row['AP50 that it costs'])
    write_csv(out / 'errors.csv', errors)

    charts.write_matrix(out, 'confusion_matrix', result.matrix, names)

    groups = [unlike('all', classes), *classes]
    curves = zip(groups, [result.curve, *result.curves], strict=True)
    write_csv(out / 'curves.csv', [row for name, c in curves for row in c.rows(name)])
    charts.draw_scores(result.curve, result.threshold, out / 'scores.png')
    by_class = measures.precision_at_recalls(result.points, result.objects)
    together = result.points._replace(label=np.zeros_like(result.points.label))
    of_all = measures.precision_at_recalls(together, result.objects.sum(keepdims=True))[0]
    pairs = zip(groups, [of_all, *by_class], strict=True)
    write_csv(out / 'precision_recall.csv', [
        {'class': name, 'recall': r, 'precision': p}
        for name, line in pairs
        for r, p in zip(measures.RECALLS.tolist(), line.tolist(), strict=True)
    ])  # fmt: skip
    charts.draw_precision_recall(of_all, by_class, classes, out / 'precision_recall.png')
    charts.write_calibration(out, result.calibration)
    by_name = _class_rows(result)
    write_csv(out / 'classes.csv', by_name)

    r, w, m = (int(counts[0]) for counts in result.at_cut[1:])
    other = m - int(result.matrix[:-1, -1].sum())
    at = f'At the threshold {format_threshold(result.cut)}: {r} right, {w} wrong, {m} missed'
    at += f' ({other} of these detected as another class).' if other else '.'
    if result.threshold is None:
        at = 'No threshold was found, so no prediction is counted.'
    pairs_text = [f'{a} taken for {b} ({count})' for a, b, count in result.confused_pairs()[:5]]
    matrix_lines = [
        f'{at} Rows are ground truth and sum to the objects, columns are predictions; the last of '
        'each is background: objects that were not detected as any class, and predictions of '
        'nothing, or of an object that another one has.',
        f'Most confused: {"; ".join(pairs_text) or "no two classes"}.',
    ]
    note, settings = explain_minus_one(result.metrics, result.kind), result.settings
    notes = [note] if note else []
    if settings.ious != COCO or settings.max_dets != MAX_DETS:
        notes.append(
            f'Unlike their names, mAP is the mean over IoU {settings.ious}, and '
            f'{settings.max_dets} detections of a class in an image count.'
        )
    twelve = [{'metric': k, 'value': None if v == -1 else v} for k, v in result.metrics.items()]
    return [
        Section('What costs most', [
            'AP50 that a model without this kind of error would gain, after TIDE; the costs do not '
            'add up. Counted are predictions of any score, and those from the threshold on, also '
            'of an object that another prediction has. An object is missed where there is no such '
            'prediction on it, not even a loose box or another class.'],
            errors, bars='AP50 that it costs'),
        Section('Classes, the worst first', _name_absent(result), by_name, bars='AP'),
        Section('Confusion', matrix_lines,
                charts={'confusion_matrix.png': 'Confusion matrix'}),
        Section('Scores and thresholds', [_describe_thresholds(result)],
                charts={'scores.png': 'Precision, recall and F1 over the score threshold',
                        'precision_recall.png': 'Precision over recall at IoU 0.5',
                        'calibration.png': 'How often predictions of a score are right'}),
        Section('The twelve metrics of COCO', notes, twelve),
    ]  # fmt: skip


def _class_rows(result: Detections) -> list[dict[str, Any]]:
    rows = []
    for row, threshold, label in zip(
        result.per_class, result.thresholds, range(len(result.per_class)), strict=True
    ):
        of = measures.of_class(result.points, label)
        least = np.array([1.1 if threshold is None else threshold])
        at = measures.curve(of, result.objects[label], least)
        keys = 'AP', 'AP50', 'AP_s', 'AP_m', 'AP_l'
        row = {'class': row['name'], 'objects': row['num_gt'], **{key: row[key] for key in keys}}
        row['threshold'] = threshold
        known = threshold is not None
        row['precision'] = float(at.precision[0]) if known else None
        row['recall'] = float(at.recall[0]) if known else None
        rows.append(row)
    return sorted(rows, key=lambda row: (row['AP'] is None, row['AP'] or 0))


def _name_absent(result: Detections) -> list[str]:
    absent = [row['name'] for row in result.per_class if not row['num_gt']]
    return [f'Without ground truth, and in no mean: {few(absent)}.'] if absent else []


def _describe_thresholds(result: Detections) -> str:
    if result.threshold is None:
        return 'No threshold reaches this precision or recall, or nothing that was found is right.'
    precision, recall = result.at_cut.precision[0], result.at_cut.recall[0]
    wanted = result.settings
    why = 'the best F1'
    if wanted.precision is not None:
        why = f'the highest recall with a precision of {wanted.precision:g}'
    elif wanted.recall is not None:
        why = f'the highest precision with a recall of {wanted.recall:g}'
    return (
        f'Take predictions from the score {format_threshold(result.threshold)} on: {why}, '
        f'precision {precision:.3f}, recall {recall:.3f}, F1 {result.at_cut.f1[0]:.3f}, on these '
        'very images. Thresholds of the classes are in the table above. mAP is measured without '
        'one.'
    )


def _write_worst(result: Detections, out: Path, image_folder: Path | None) -> Section:
    rows = result.worst_images()
    write_csv(out / 'worst_images.csv', rows)
    lines = [
        'Lost F1: what the F1 of all images would gain, were this one without mistakes. The most '
        'confident mistake is the highest score of a wrong prediction.'
    ]
    listed = rows[:WORST]
    if image_folder is None or not rows:
        lines += [SEE_IMAGES] * bool(rows)
        return Section('Worst images', lines if rows else ['No image has a mistake.'], listed)
    from .worst import draw_worst

    by_score = sorted(rows, key=lambda row: -row['most confident mistake'])
    chosen = rows[: 2 * DRAWN // 3]
    chosen += [row for row in by_score if row not in chosen][: DRAWN - len(chosen)]
    shown = result.images, result.truth, result.found, result.matches, result.cut
    tiles, failures = draw_worst(*shown, chosen, image_folder, out / 'worst_images.jpg')
    if len(chosen) > 2 * DRAWN // 3:
        lines.append(
            f'Drawn are the {2 * DRAWN // 3} with the most lost F1, then those with the most '
            'confident mistakes.'
        )
    sheet = {'worst_images.jpg': 'The worst images, with ground truth and predictions'}
    charts = sheet if tiles else {}
    return Section('Worst images', lines + failures, listed, charts=charts, tiles=tiles)
