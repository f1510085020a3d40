"""A classifier's results, explained: single-label and multi-label."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import charts, measures
from .advice import FEWEST
from .bootstrap import Measure, as_entries, find_intervals
from .label_measures import average_precisions, best_f1_thresholds, find_ranks, precision_recall
from .labels import MOST_SCORES, Labels
from .pages import DRAWN, SEE_IMAGES, WORST, Section, draw_each, write_csv, write_report
from .report import unlike, write_results_json
from .verdicts import judge_classes


def explain_labels(
    result: Labels,
    out: Path,
    title: str,
    image_folder: Path | None = None,
    other: Labels | None = None,
) -> str:
    """Write the report of a classifier, and its numbers as CSV and JSON.

    Args:
        result: What was measured.
        out: The folder; it exists.
        title: What was measured.
        image_folder: Of the images; None to draw none.
        other: Results of the same images to compare with.

    Returns:
        The headline, as :func:`~.pages.write_report` returns it.
    """
    name, measure = ('mAP', _mean_precision) if result.several else ('top-1', _top1)
    both = [measure(labels) for labels in ([result] if other is None else [other, result])]
    intervals = find_intervals(both, len(result.files), result.scores.size)
    write: Callable = _write_several if result.several else _write_single
    metrics, per_class, extra, sections = write(result, out, image_folder)
    write_results_json(out / 'metrics.json', metrics, per_class, as_entries(intervals) | extra)
    if result.unscored:
        line = f'{result.unscored} of {result.scores.size} scores are not in the results and were '
        written = 'all of them' if result.several else f'the {MOST_SCORES} highest of an image'
        sections.append(Section('Note', [f'{line}taken as 0: test.py writes {written}.']))
    return write_report(out, title, name, len(result.files), intervals, sections)


def _top1(labels: Labels) -> Measure:
    right = find_ranks(labels.scores, labels.truth.argmax(1)) == 0
    return lambda weights: float(weights @ right / weights.sum())


def _mean_precision(labels: Labels) -> Measure:
    """Return what computes mAP of drawn images; equal scores count as one step."""
    columns = []
    for scores, truth in zip(labels.scores.T, labels.truth.T, strict=True):
        order = np.argsort(-scores, kind='stable')
        order = order[truth[order] >= 0]
        ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True][: len(order)])
        columns.append((order, truth[order] == 1, ends))

    def measure(weights: np.ndarray) -> float:
        values = []
        for order, there, ends in columns:
            of = weights[order]
            hits, taken = np.cumsum(of * there)[ends], np.cumsum(of)[ends]
            if len(hits) and hits[-1]:
                steps = np.diff(hits, prepend=0)
                values.append(float((steps * hits / np.maximum(taken, 1)).sum() / hits[-1]))
        return float(np.mean(values)) if values else np.nan

    return measure


_Written = tuple[dict[str, float], list[dict[str, Any]], dict[str, Any], list[Section]]


def _write_single(result: Labels, out: Path, image_folder: Path | None) -> _Written:
    truth, found = result.truth.argmax(1), result.scores.argmax(1)
    names, count = result.classes, len(result.classes)
    ranks = find_ranks(result.scores, truth)
    metrics = {f'accuracy/top{k}': 100 * float((ranks < k).mean()) for k in (1, 5)}
    matrix = np.zeros((count, count), int)
    np.add.at(matrix, (truth, found), 1)
    rows: list[dict[str, Any]] = []
    for n, name in enumerate(names):
        right, there, taken = int(matrix[n, n]), int(matrix[n].sum()), int(matrix[:, n].sum())
        recall = right / there if there else None
        precision = right / taken if taken else None
        f1 = 2 * right / (there + taken) if there else None
        row = {'class': name, 'images': there, 'recall': recall, 'precision': precision, 'F1': f1}
        rows.append(row)
    write_csv(out / 'classes.csv', rows)
    charts.write_matrix(out, 'confusion_matrix', matrix, names)
    top, wrong = result.scores.max(1), np.flatnonzero(ranks > 0)
    wrong = wrong[np.argsort(-top[wrong], kind='stable')]
    own = result.scores[np.arange(len(truth)), truth]
    if result.unscored:
        own = np.where(own > 0, own, np.nan)  # perhaps below those that were written
    worst = [
        {'image': result.files[n], 'ground truth': names[truth[n]], 'prediction': names[found[n]],
         'score': float(top[n]), 'score of the ground truth': float(own[n])}
        for n in wrong
    ]  # fmt: skip
    write_csv(out / 'worst_images.csv', worst)
    of = measures.Points(found, top, ranks == 0)
    charts.write_calibration(out, measures.calibration(of.score, of.right))
    pairs = _pairs(matrix, names)
    write_csv(out / 'confused_pairs.csv', pairs)
    rows.sort(key=lambda row: (row['F1'] is None, row['F1'] or 0))
    steps = []
    if pairs:
        first = pairs[0]
        share = sum(pair['count'] for pair in pairs[:3]) / max(len(wrong), 1)
        steps.append(
            f"'{first['ground truth']}' is taken for '{first['prediction']}' in {first['count']} "
            f'of {len(wrong)} mistakes, the most frequent pair; the first three are '
            f'{100 * share:.0f} % of them. Add images that tell these classes apart, or merge them.'
        )
        steps.append(
            f'The most confident mistake is {worst[0]["image"]} ({worst[0]["score"]:.2f}): look '
            'at the worst images first, since wrong labels are among them.'
        )
        steps.append(f"The weakest class is '{rows[0]['class']}' (F1 {rows[0]['F1']:.3f}).")
    sections = [
        Section('What to do next', steps or ['No image has a mistake.'], steps=True),
        Section('Most confused', [], pairs[:WORST], bars='count'),
        _draw(result, wrong[:DRAWN], worst[:WORST], image_folder, None),
        Section('Classes, the worst first', [], rows, bars='F1'),
        Section('Confusion', ['Rows are ground truth, columns are predictions.'],
                charts={'confusion_matrix.png': 'Confusion matrix'}),
        Section('Scores', [], charts={'calibration.png': 'How often the top class is right'}),
    ]  # fmt: skip
    per_class = [{'name': row.pop('class'), **row} for row in map(dict, rows)]
    return metrics, per_class, {}, sections


def _write_several(result: Labels, out: Path, image_folder: Path | None) -> _Written:
    scores, truth, names = result.scores, result.truth, result.classes
    precisions = average_precisions(scores, truth)
    thresholds, best = best_f1_thresholds(scores, truth)
    usable = np.where(np.isnan(thresholds), 1.0, thresholds)
    at_half = precision_recall(scores > np.float32(0.5), truth)
    predicted = scores > usable
    at_own = precision_recall(predicted, truth)
    measured = precisions[~np.isnan(precisions)]
    metrics = {'multilabel/mAP': float(measured.mean()) if len(measured) else np.nan}
    metrics |= {f'multilabel/{key}': value for key, value in at_half.metrics.items()}
    metrics |= {f'multilabel/{k}_own_thresholds': v for k, v in at_own.metrics.items()}
    columns = {'AP': precisions, 'images': (truth == 1).sum(0), 'threshold': thresholds,
               'F1': best, 'precision': at_own.precision, 'recall': at_own.recall}  # fmt: skip
    rows = [
        {'class': name}
        | {key: None if np.isnan(v[n]) else v[n].item() for key, v in columns.items()}
        for n, name in enumerate(names)
    ]
    write_csv(out / 'classes.csv', rows)
    image, label = np.nonzero(truth >= 0)
    order = np.argsort(-scores[image, label], kind='stable')
    image, label = image[order], label[order]
    of = measures.Points(label, scores[image, label], truth[image, label] == 1)
    objects = (truth == 1).sum(0)
    overall = measures.curve(of, int(objects.sum()))
    curves = [(unlike('all', names), overall)]
    curves += [(n, measures.curve(measures.of_class(of, k), objects[k]))
               for k, n in enumerate(names)]  # fmt: skip
    write_csv(out / 'curves.csv', [row for name, curve in curves for row in curve.rows(name)])
    found = float(best_f1_thresholds(scores.reshape(-1, 1), truth.reshape(-1, 1))[0][0])
    threshold = None if np.isnan(found) else found
    charts.draw_scores(overall, threshold, out / 'scores.png')
    charts.write_calibration(out, measures.calibration(of.score, of.right))
    missed, wrong = (truth == 1) & ~predicted, (truth == 0) & predicted
    matrix = missed.astype(int).T @ wrong.astype(int)
    axes = 'predicted wrongly', 'missed'
    charts.write_matrix(out, 'mistakes', matrix, names, axes, 'Images with both mistakes')
    pairs = [
        {'missed': row['ground truth'], 'predicted wrongly': row['prediction'],
         'images': row['count']} for row in _pairs(matrix, names)
    ]  # fmt: skip
    write_csv(out / 'mistakes_together.csv', pairs)
    mistakes = missed.sum(1) + wrong.sum(1)
    sure = np.maximum(np.where(wrong, scores, 0).max(1), np.where(missed, 1 - scores, 0).max(1))
    worst, numbers = [], np.lexsort((-sure, -mistakes))[: np.count_nonzero(mistakes)]
    for n in numbers:
        sides = {'missed': missed[n], 'predicted wrongly': wrong[n]}
        words = {key: ', '.join(names[k] for k in np.flatnonzero(v)) for key, v in sides.items()}
        worst.append({'image': result.files[n], 'mistakes': int(mistakes[n]), **words})
    write_csv(out / 'worst_images.csv', worst)
    rows.sort(key=lambda row: (row['AP'] is None, row['AP'] or 0))
    gain = at_own.metrics['OF1'] - at_half.metrics['OF1']
    steps = [
        f'With the thresholds of the table, OF1 is {at_own.metrics["OF1"]:.3f}, and with 0.5 '
        f'{at_half.metrics["OF1"]:.3f} ({gain:+.3f}, on the images that they were chosen on).',
    ]
    if rows[0]['AP'] is not None:
        steps.append(
            f"The weakest class is '{rows[0]['class']}' (AP {rows[0]['AP']:.3f}, "
            f'{rows[0]["images"]} images).'
            + ' So few say little: label more for the test.'
            * (int(rows[0]['images'] or 0) < FEWEST)
        )
    if pairs:
        steps.append(
            f"'{pairs[0]['missed']}' is missed where '{pairs[0]['predicted wrongly']}' is "
            f'predicted wrongly, in {pairs[0]["images"]} images: add images that tell them apart.'
        )
    sections = [
        Section('What to do next', steps, steps=True),
        Section('Classes, the worst first',
                ['A label is predicted above the threshold of its class, that of the best F1; mAP '
                 'is measured without one.'], rows, bars='AP'),
        _draw(result, numbers[:DRAWN], worst[:WORST], image_folder, usable),
        Section('Mistakes that go together', ['Images in which one is missed and the other is '
                'predicted wrongly.'], pairs[:WORST], charts={'mistakes.png': 'Mistakes'}),
        Section('Scores', [], charts={
            'scores.png': 'Precision, recall and F1 over the score threshold',
            'calibration.png': 'How often a label of a score is there'}),
    ]  # fmt: skip
    own = {row['class']: row['threshold'] for row in rows}
    per_class = [{'name': row.pop('class'), **row} for row in map(dict, rows)]
    return metrics, per_class, {'threshold': threshold, 'thresholds': own}, sections


def _pairs(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the pairs of different classes with a count, the most frequent first."""
    counts = matrix * ~np.eye(len(names), dtype=bool)
    pairs = sorted(np.argwhere(counts).tolist(), key=lambda pair: -counts[tuple(pair)])
    return [
        {'ground truth': names[a], 'prediction': names[b], 'count': int(counts[a, b])}
        for a, b in pairs
    ]


def _draw(
    result: Labels,
    numbers: np.ndarray,
    rows: list[dict[str, Any]],
    folder: Path | None,
    thresholds: np.ndarray | None,
) -> Section:
    """Return the worst images as a list, and drawn where their folder is known."""
    if folder is None or not rows:
        note = SEE_IMAGES if rows else 'No image has a mistake.'
        return Section('Worst images', [note], rows)
    from .draw import Line, class_lines, draw_classes, read_image

    def draw(n: int) -> tuple[np.ndarray, str]:
        truth: Any = result.truth[n] if result.several else int(result.truth[n].argmax())
        lines = [] if result.several else [Line(f'ground truth: {result.classes[truth]}')]
        scores = result.scores[n].astype(np.float32)
        judged = judge_classes(scores, truth, result.several, thresholds)
        lines += class_lines(judged, scores, result.classes)
        return draw_classes(read_image(folder / result.files[n]), lines, side=288), result.files[n]

    tiles, failures = draw_each(numbers.tolist(), draw)
    return Section('Worst images', failures, rows, tiles=tiles)
