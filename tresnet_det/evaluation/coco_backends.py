"""COCO's evaluation of detections in memory, by faster-coco-eval or by pycocotools."""

import contextlib
import gc
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval, COCOevalMP
from mmengine.utils import digit_version
from pycocotools import mask as masks_of_coco

from ..errors import InputError
from .report import TWELVE

BACKENDS = ('auto', 'faster_coco_eval', 'pycocotools')
_PACKAGES = {'faster_coco_eval': 'faster-coco-eval', 'pycocotools': 'pycocotools'}
_OLDEST = '1.8.0'  # the oldest faster-coco-eval whose figures were held against pycocotools'
# Positions in COCO's arrays.
_IOUS = {'0.50:0.95': slice(None), '0.50': slice(0, 1), '0.75': slice(5, 6)}
_AREAS = ('all', 'small', 'medium', 'large')
_COUNTS = (1, 10, 100)
_SHAPE = (10, 101, len(_AREAS), len(_COUNTS))  # IoU, recall, area, detections of an image


@dataclass(frozen=True)
class Detections:
    """All detections of one kind, in the order of the images.

    Attributes:
        images: (N,) positions in the sorted image ids.
        categories: (N,) positions in the sorted category ids.
        boxes: (N, 4) as x, y, width, height.
        scores: (N,).
        masks: N run-length codes, or None where boxes are evaluated.
    """

    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    masks: Sequence[dict] | None = None

    def rows(self, chosen: np.ndarray) -> Iterator[dict[str, Any]]:
        """COCO's annotations but for the ids, of the detections at the positions ``chosen``."""
        if self.masks is None:
            key, shapes = 'bbox', self.boxes[chosen].tolist()
            areas = self.boxes[chosen, 2] * self.boxes[chosen, 3]
        else:
            # Without a box: with one there, COCO takes the box's area for the mask's size.
            key, shapes = 'segmentation', [self.masks[i] for i in chosen]
            # One by one: pycocotools 2.0.11 fails on more than 255 at once with numpy 2.
            areas = np.array([masks_of_coco.area(mask) for mask in shapes])
        values = zip(shapes, areas.tolist(), self.scores[chosen].tolist(), strict=True)
        return ({key: shape, 'area': area, 'score': score} for shape, area, score in values)


@dataclass(frozen=True)
class Scores:
    """What an evaluation found; -1 marks what has no ground truth.

    Attributes:
        twelve: COCO's twelve figures in COCO's order.
        precision: (10 IoU, 101 recall, classes, 4 area, 3 detections).
        recall: (10 IoU, classes, 4 area, 3 detections).
    """

    twelve: list[float]
    precision: np.ndarray
    recall: np.ndarray


def choose_backend(name: str) -> str:
    """The backend that a setting means on this machine.

    Args:
        name: ``faster_coco_eval``, ``pycocotools``, or ``auto`` for the quick one where it is
            installed.

    Raises:
        InputError: It is not installed, or no backend has this name.
    """
    if name not in BACKENDS:
        raise InputError(f'backend={name!r} is not one of {", ".join(BACKENDS)}.')
    if name == 'pycocotools' or _has_faster():
        return 'pycocotools' if name == 'pycocotools' else 'faster_coco_eval'
    if name == 'auto':
        return 'pycocotools'
    raise InputError(
        f"backend='faster_coco_eval' needs faster-coco-eval {_OLDEST} or newer, which is not "
        f"there: pip install 'faster-coco-eval>={_OLDEST}'"
    )


def _has_faster() -> bool:
    try:
        import faster_coco_eval  # noqa: F401  (its binaries may not load here)

        return digit_version(metadata.version('faster-coco-eval')) >= digit_version(_OLDEST)
    except (ImportError, metadata.PackageNotFoundError):
        return False


def describe(backend: str) -> str:
    """Name and version of a backend's package."""
    return f'{_PACKAGES[backend]} {metadata.version(_PACKAGES[backend])}'


def suits_faster(detections: Detections) -> bool:
    """Whether the quick backend counts as pycocotools does: not where a value is not finite."""
    return bool(np.isfinite(detections.boxes).all() and np.isfinite(detections.scores).all())


def evaluate(
    truth: COCO,
    detections: Detections,
    kind: str,
    image_ids: Sequence,
    category_ids: Sequence,
    backend: str = 'pycocotools',
    processes: bool = False,
) -> Scores:
    """COCO's figures of detections.

    Args:
        truth: The ground truth.
        detections: What was found.
        kind: ``bbox`` or ``segm``.
        image_ids: The images that count, sorted.
        category_ids: The categories that count, sorted.
        backend: ``faster_coco_eval`` or ``pycocotools``; the figures are the same to 1e-9.
        processes: Let pycocotools share the classes among processes, as MMDetection does.
    """
    with _collector_at_rest():
        if backend == 'faster_coco_eval':
            return _by_faster(truth, detections, kind, image_ids, category_ids)
        evaluator = COCOevalMP if processes else COCOeval
        return _by_pycocotools(truth, detections, kind, image_ids, category_ids, evaluator)


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Hold Python's search for cycles: it would go through half a million dicts over and over."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _by_pycocotools(
    truth: COCO,
    detections: Detections,
    kind: str,
    image_ids: Sequence,
    category_ids: Sequence,
    evaluator: type[COCOeval],
) -> Scores:
    images = [image_ids[i] for i in detections.images.tolist()]
    categories = [category_ids[i] for i in detections.categories.tolist()]
    annotations = [
        {'id': n, 'image_id': image, 'category_id': category, **row}
        for n, (image, category, row) in enumerate(
            zip(images, categories, detections.rows(np.arange(len(images))), strict=True), 1
        )
    ]
    # pycocotools prints its progress; our tables go to the log, where they stay.
    with contextlib.redirect_stdout(io.StringIO()):
        # Not by its loadRes, which looks at the first detection of perhaps none.
        found = COCO()
        found.dataset = {
            'images': truth.dataset['images'],
            'categories': truth.dataset['categories'],
            'annotations': annotations,
        }
        found.createIndex()
        run = evaluator(truth, found, kind)
        run.params.imgIds, run.params.catIds = list(image_ids), list(category_ids)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return Scores([float(x) for x in run.stats], run.eval['precision'], run.eval['recall'])


def _by_faster(
    truth: COCO,
    detections: Detections,
    kind: str,
    image_ids: Sequence,
    category_ids: Sequence,
) -> Scores:
    """One class at a time, on the images where it is or was found.

    The library goes through every image for each class, but most images have few of the
    classes: this way it is twice as quick and holds the dicts of one class only. Images and
    categories get numbers, since the library takes no other ids.
    """
    wanted = _truth_by_category(truth, kind, image_ids, category_ids)
    order = np.argsort(detections.categories, kind='stable')
    bounds = np.searchsorted(detections.categories[order], np.arange(len(category_ids) + 1))
    ious, recalls, areas, counts = _SHAPE
    precision = np.full((ious, recalls, len(category_ids), areas, counts), -1.0)
    recall = np.full((ious, len(category_ids), areas, counts), -1.0)
    for k, rows in wanted.items():
        chosen = order[bounds[k] : bounds[k + 1]]
        images = detections.images[chosen]
        found = [
            {'id': n, 'image_id': image, 'category_id': 1, **row}
            for n, (image, row) in enumerate(
                zip(images.tolist(), detections.rows(chosen), strict=True), 1
            )
        ]
        seen = np.union1d(images, [row['image_id'] for row in rows]).tolist()
        # The sizes, which a file may lack, are for masks.
        entries = [{**truth.imgs[image_ids[i]], 'id': i} for i in seen]
        arrays = _run_faster(kind, entries, rows, found)
        precision[:, :, k], recall[:, k] = arrays['precision'][:, :, 0], arrays['recall'][:, 0]
    return Scores(summarize(precision, recall), precision, recall)


def _truth_by_category(
    truth: COCO, kind: str, image_ids: Sequence, category_ids: Sequence
) -> dict[int, list[dict[str, Any]]]:
    """Copies of the annotations that count, with numbers for ids, by position of the category."""
    images = {image_id: i for i, image_id in enumerate(image_ids)}
    categories = {category_id: k for k, category_id in enumerate(category_ids)}
    wanted = defaultdict(list)
    for n, listed in enumerate(truth.dataset.get('annotations', []), 1):
        ann = truth.anns[listed['id']]  # as pycocotools finds it, where an id is there twice
        image, k = images.get(ann['image_id']), categories.get(ann['category_id'])
        if image is None or k is None:
            continue
        row = {
            'id': n if ann['id'] != 0 else 0,  # COCO takes an object of id 0 for never found
            'image_id': image,
            'category_id': 1,
            'area': ann['area'],
            'iscrowd': int(ann['iscrowd']),
            'bbox': ann['bbox'],
        }
        if kind == 'segm':
            row['segmentation'] = truth.annToRLE(ann)
        wanted[k].append(row)
    return wanted


def _run_faster(
    kind: str, images: list[dict], truth: list[dict], found: list[dict]
) -> dict[str, np.ndarray]:
    from faster_coco_eval import COCO as Index  # noqa: N811  (a second COCO)
    from faster_coco_eval import COCOeval_faster

    common = {'images': images, 'categories': [{'id': 1, 'name': 'one'}]}
    run = COCOeval_faster(
        Index({**common, 'annotations': truth}),
        Index({**common, 'annotations': found}),
        kind,
        print_function=_say_nothing,
    )
    run.evaluate()
    run.accumulate()
    return run.eval


def _say_nothing(*_: Any) -> None:
    """Take the library's report of its progress."""


def summarize(precision: np.ndarray, recall: np.ndarray) -> list[float]:
    """COCO's twelve figures, means of what was measured; -1 where nothing was.

    Args:
        precision: As in :class:`Scores`.
        recall: As in :class:`Scores`.
    """
    figures = []
    for _, kind, iou, area, count in TWELVE:
        values = precision if kind == 'AP' else recall
        chosen = values[_IOUS[iou], ..., _AREAS.index(area), _COUNTS.index(count)]
        mean = mean_of_measured(chosen)
        figures.append(-1.0 if mean is None else mean)
    return figures


def mean_of_measured(values: np.ndarray) -> float | None:
    """Mean of what was measured; COCO marks the rest with -1."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else None
