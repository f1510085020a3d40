"""Sheets of images with ground truth and predictions, of a detector and of a classifier."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.ops import box_iou

from ..errors import InputError
from .accuracy import check_not_nan
from .draw import (
    BLUE,
    ORANGE,
    PURPLE,
    Line,
    add_caption,
    draw_classes,
    draw_objects,
    join,
    read_image,
    save_sheet,
    tile_side,
)
from .report import shorten

MOST_LINES = 12  # beneath one image


class Verdict(NamedTuple):
    """How what is right and what is wrong are told apart: by a sign and by a colour."""

    sign: str
    colour: str


FOUND = Verdict('\N{CHECK MARK}', BLUE)
WRONG = Verdict('\N{BALLOT X}', ORANGE)
MISSED = Verdict('\N{WHITE CIRCLE}', PURPLE)
UNKNOWN = Verdict('?', '#B8B8B8')  # counts neither for nor against
OTHER = Verdict('', '#D8D8D8')  # of single-label classification: a class below the top one
PLAIN = Verdict('', BLUE)  # without ground truth


LABEL_MEANINGS = {FOUND: 'found', WRONG: 'wrong', MISSED: 'missed', UNKNOWN: 'not known'}
TOP_MEANINGS = {FOUND: 'ground truth', WRONG: 'top-1, but wrong', OTHER: 'other classes'}
TRUTH, PREDICTION = 'ground truth', 'prediction'


class Objects(NamedTuple):
    """The objects of an image, by descending score: boxes ``(N, 4)``, and ``(N,)`` each."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray


def draw_predictions(
    image_paths: Sequence[str | Path],
    predictions: Sequence[Mapping[str, Any]] | None,
    ground_truth: Sequence[Mapping[str, Any]] | None,
    class_names: Sequence[str],
    out_path: str | Path,
    score_thr: float = 0.3,
    iou_thr: float = 0.5,
    limit: int = 12,
    title: str | None = None,
) -> None:
    """Draw a sheet of a detector's images: ground truth at the left, prediction at the right.

    Args:
        image_paths: Image files.
        predictions: One per image: ``bboxes`` (N, 4) as x1 y1 x2 y2 in the image's pixels,
            ``scores`` (N,) in [0, 1] and ``labels`` (N,); a dict or an ``InstanceData``. None
            draws the ground truth alone.
        ground_truth: One per image: ``bboxes`` (M, 4), ``labels`` (M,) and, where there are
            crowds, ``iscrowd`` (M,). None draws the predictions alone.
        class_names: Name of each label.
        out_path: The image file to write; its folder is made.
        score_thr: Predictions with a lower score are not drawn.
        iou_thr: Overlap (intersection over union) from which a prediction is right.
        limit: At most this many images, the first ones.
        title: What the sheet shows; the line below it counts images and objects.

    Raises:
        InputError: No image, one that does not decode, or lists of different lengths.
        MissingFileError: An image does not exist.
    """
    _check_lengths(image_paths, predictions, ground_truth)
    tiles, counts = [], Counter[tuple[str, Verdict]]()
    for n, path in enumerate(image_paths[:limit]):
        image = read_image(path)
        truth = None if ground_truth is None else _read_objects(ground_truth[n])
        found = None if predictions is None else _read_objects(predictions[n], score_thr)
        panels: list[np.ndarray] = []
        for what, objects, verdicts in _judge_objects(truth, found, iou_thr):
            counts.update((what, verdict) for verdict in verdicts)
            names = _name_objects(objects, verdicts, class_names, what is PREDICTION)
            colours = [verdict.colour for verdict in verdicts]
            panel = draw_objects(image, objects.boxes, names, colours, side=tile_side(image))
            panels.append(add_caption(panel, what if panels else f'{Path(path).name}: {what}'))
        tiles.append(join(panels))
    note, legend = _count_images(len(tiles)), []
    if predictions is not None:
        note += f', predictions with a score of {score_thr:g} or more'
    if predictions is not None and ground_truth is not None:
        hits, missed = counts[TRUTH, FOUND], counts[TRUTH, MISSED]
        note += f': {hits} of {hits + missed} objects found, {counts[PREDICTION, WRONG]} wrong'
        legend = [
            (FOUND.colour, f'found (same class, IoU {iou_thr:g} or more)'),
            (MISSED.colour, f'{MISSED.sign} missed object'),
            (WRONG.colour, f'{WRONG.sign} wrong prediction'),
        ]
    if counts[TRUTH, UNKNOWN]:
        legend.append((UNKNOWN.colour, f'{UNKNOWN.sign} crowd (not counted)'))
    save_sheet(tiles, out_path, title or _title(predictions, ground_truth), note, legend)


def _title(predictions: Any, ground_truth: Any) -> str:
    if predictions is None:
        return 'Ground truth'
    return 'Predictions' if ground_truth is None else 'Ground truth and predictions'


def _count_images(number: int) -> str:
    return f'{number} image{"s" * (number > 1)}'


def _check_lengths(paths: Sequence, predictions: Any, truth: Any) -> None:
    if not len(paths) or (predictions is None and truth is None):
        raise InputError('Nothing to draw: give at least one image, and predictions or labels.')
    lengths = [len(part) for part in (paths, predictions, truth) if part is not None]
    if len(set(lengths)) > 1:
        raise InputError(
            'Images, predictions and ground truth must be equally many, but there are '
            f'{", ".join(map(str, lengths))}.'
        )


def _read_objects(item: Mapping[str, Any], score_thr: float = 0.0) -> Objects:
    """Read a dict or an ``InstanceData``; without ``scores``, as in ground truth, they are 1."""
    values: dict[str, Any] = {}
    for key in ('bboxes', 'labels', 'scores', 'iscrowd'):
        value: Any = item[key] if key in item else None  # noqa: SIM401  (InstanceData's get differs)
        values[key] = value.detach().cpu().numpy() if hasattr(value, 'detach') else value
    boxes = np.asarray(values['bboxes'], float).reshape(-1, 4)
    missing = {'scores': np.ones(len(boxes)), 'iscrowd': np.zeros(len(boxes))}
    scores, crowd = (default if values[key] is None else np.asarray(values[key], float)
                     for key, default in missing.items())  # fmt: skip
    order = np.argsort(-scores, kind='stable')
    order = order[scores[order] >= score_thr]
    labels = np.asarray(values['labels'], int)
    return Objects(boxes[order], labels[order], scores[order], crowd[order] > 0)


def _judge_objects(
    truth: Objects | None, found: Objects | None, iou_thr: float
) -> list[tuple[str, Objects, list[Verdict]]]:
    """Return what to draw side by side: a caption, the objects and a verdict on each."""
    if found is None or truth is None:
        what, objects = (PREDICTION, found) if truth is None else (TRUTH, truth)
        assert objects is not None  # checked by the caller
        return [(what, objects, [UNKNOWN if crowd else PLAIN for crowd in objects.crowd])]
    right, taken = match_objects(found, truth, iou_thr)
    judged = [FOUND if hit else MISSED for hit in taken]
    judged = [UNKNOWN if crowd else v for crowd, v in zip(truth.crowd, judged, strict=True)]
    return [
        (TRUTH, truth, judged),
        (PREDICTION, found, [FOUND if hit else WRONG for hit in right]),
    ]


def match_objects(
    found: Objects, truth: Objects, iou_thr: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Match predictions with ground-truth objects of their class, as COCO's evaluation does.

    The best score takes an object first, each object is taken once, and crowds are not taken.

    Returns:
        Whether each prediction is right, ``(N,)``, and whether each object is found, ``(M,)``.
    """
    right, taken = np.zeros(len(found.boxes), bool), np.zeros(len(truth.boxes), bool)
    overlap = box_iou(torch.from_numpy(found.boxes), torch.from_numpy(truth.boxes)).numpy()
    fits = (overlap >= iou_thr) & (found.labels[:, None] == truth.labels) & ~truth.crowd
    for n in range(len(right)):
        free = fits[n] & ~taken
        if free.any():
            right[n] = taken[np.where(free, overlap[n], -1).argmax()] = True
    return right, taken


def _name_objects(
    objects: Objects, verdicts: Sequence[Verdict], class_names: Sequence[str], with_score: bool
) -> list[str]:
    names = []
    for label, score, verdict in zip(objects.labels, objects.scores, verdicts, strict=True):
        name = class_names[label] if 0 <= label < len(class_names) else f'label {label}'
        sign = '' if verdict is FOUND else f'{verdict.sign} '.lstrip()
        names.append(f'{sign}{shorten(name)}' + f' {score:.2f}' * with_score)
    return names


def draw_classifications(
    image_paths: Sequence[str | Path],
    scores: np.ndarray | None,
    labels: np.ndarray | None,
    class_names: Sequence[str],
    out_path: str | Path,
    multi_label: bool,
    threshold: float = 0.5,
    top: int = 3,
    limit: int = 24,
    title: str | None = None,
) -> None:
    """Draw a sheet of images with the classes that a classifier gives them.

    Each class has a sign, a score and a bar as long as the score. For single-label data, the
    top classes stand below the ground truth; with several, the predicted labels and those that
    are missed.

    Args:
        image_paths: Image files.
        scores: ``(N, classes)`` in [0, 1]; None, for single-label data, draws the ground truth
            alone.
        labels: Class numbers, ``(N,)``; with ``multi_label``, ``(N, classes)`` with 1 for there, 0
            for not there and -1 for unknown. None draws the predictions alone.
        class_names: Name of each class.
        out_path: The image file to write; its folder is made.
        multi_label: Whether an image has any number of labels.
        threshold: With ``multi_label``, a label is predicted above it, as in `MultiLabelMetric`.
        top: Without it, this many of the top classes are listed.
        limit: At most this many images, the first ones.
        title: What the sheet shows; the line below it counts images and what is right.

    Raises:
        InputError: No image or one that does not decode, a score is NaN, or the arguments do not
            fit together.
        MissingFileError: An image does not exist.
    """
    scores = None if scores is None else np.asarray(scores, np.float32)
    labels = None if labels is None else np.asarray(labels)
    _check_lengths(image_paths, scores, labels)
    _check_classes(scores, labels, class_names, multi_label)
    tiles, counts, right = [], Counter[Verdict](), 0
    for n, path in enumerate(image_paths[:limit]):
        truth = None if labels is None else labels[n]
        lines = []
        if truth is not None and not multi_label:
            lines.append(Line(f'ground truth: {class_names[truth]}'))
        if scores is not None:
            judged = (judge_labels(scores[n], truth, threshold) if multi_label
                      else judge_top(scores[n], truth, top))  # fmt: skip
            right += bool(judged) and judged[0][0] is FOUND
            for verdict, label in judged:
                counts[verdict] += 1
                text = f'{verdict.sign} {class_names[label]}'.strip()
                lines.append(Line(text, float(scores[n, label]), verdict.colour))
        image = read_image(path)
        tile = draw_classes(image, lines, min(len(lines), MOST_LINES), tile_side(image))
        tiles.append(add_caption(tile, Path(path).name))
    note, legend = _count_images(len(tiles)), []
    compared = scores is not None and labels is not None
    meanings = LABEL_MEANINGS if multi_label else TOP_MEANINGS
    if multi_label:
        words = [f'{counts[v]} {LABEL_MEANINGS[v]}' for v in (FOUND, WRONG, MISSED)]
        note += f', labels predicted above a score of {threshold:g}: '
        note += ', '.join(words) if compared else f'{counts.total()}'
    elif compared:
        note += f': {right} right'
    if compared:
        seen = {verdict: text for verdict, text in meanings.items() if counts[verdict]}
        legend = [(v.colour, f'{v.sign} {text}'.strip()) for v, text in seen.items()]
    save_sheet(tiles, out_path, title or _title(scores, labels), note, legend)


def judge_top(
    scores: np.ndarray, label: int | None = None, top: int = 3
) -> list[tuple[Verdict, int]]:
    """Judge the top classes of a single-label image; of equal scores, the lower number first.

    Args:
        scores: ``(classes,)``.
        label: The true class; None where it is not known.
        top: How many.
    """
    judged = []
    for rank, number in enumerate(np.argsort(-scores, kind='stable')[:top].tolist()):
        first = PLAIN if label is None else WRONG
        judged.append((FOUND if number == label else OTHER if rank else first, number))
    return judged


def judge_labels(
    scores: np.ndarray, truth: np.ndarray | None = None, threshold: float = 0.5
) -> list[tuple[Verdict, int]]:
    """Judge the predicted labels of an image, then the missed ones, each by descending score.

    Args:
        scores: ``(classes,)`` of float32.
        truth: ``(classes,)`` with 1 for there, 0 for not there, -1 for unknown; None without
            ground truth.
        threshold: A label is predicted above it, as in ``MultiLabelMetric``.
    """
    predicted, missed = [], []
    # In the precision of the scores: 0.3 in float32 is above 0.3.
    is_predicted = scores > np.float32(threshold)
    for number in np.argsort(-scores, kind='stable').tolist():
        if is_predicted[number]:
            verdict = PLAIN if truth is None else {1: FOUND, 0: WRONG, -1: UNKNOWN}[truth[number]]
            predicted.append((verdict, number))
        elif truth is not None and truth[number] == 1:
            missed.append((MISSED, number))
    return predicted + missed


def _check_classes(
    scores: np.ndarray | None, labels: np.ndarray | None, names: Sequence, multi_label: bool
) -> None:
    if scores is not None:
        if scores.shape[1:] != (len(names),):
            raise InputError(
                f'scores must be (images, classes), here ({len(scores)}, {len(names)}), and are '
                f'{scores.shape}.'
            )
        check_not_nan(scores)
    if labels is None:
        return
    shape = labels.shape[:1] + (len(names),) * multi_label
    if labels.shape != shape:
        raise InputError(
            f'labels must be {shape} with multi_label={multi_label}, and are {labels.shape}.'
        )
    allowed = [1, 0, -1] if multi_label else range(len(names))
    bad = labels[~np.isin(labels, allowed)]
    if len(bad):
        why = 'not 1, 0 or -1' if multi_label else f'none of the {len(names)} classes'
        raise InputError(f'The label {bad[0]} is {why}.')
