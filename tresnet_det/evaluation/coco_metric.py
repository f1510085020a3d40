"""COCO's twelve metrics, unrounded, with a per-class table, by faster-coco-eval or pycocotools."""

import contextlib
import gc
import io
import itertools
import logging
import os.path as osp
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval, COCOevalMP
from mmdet.evaluation import CocoMetric
from mmengine.logging import print_log
from mmengine.utils import digit_version
from pycocotools import mask as masks_of_coco

from ..errors import InputError
from ..readers.findings import Findings, compare_categories
from ..readers.masks import find_mask_fault
from .report import format_table, format_twelve, summarize
from .twelve import BY_CLASS, COCO_IOUS

_RATES = ('precision', 'recall')
BACKENDS = {'faster_coco_eval': 'faster-coco-eval', 'pycocotools': 'pycocotools'}
OLDEST = '1.8.0'  # the oldest faster-coco-eval whose metrics were compared with pycocotools'


class CocoTwelveMetric(CocoMetric):
    """COCO's detection metric exactly as COCO defines it.

    MMDetection's ``CocoMetric`` counts up to 1000 detections per image in its recalls, rounds to
    three decimals and returns six metrics. This one keeps COCO's (1, 10, 100) detections and
    returns all twelve unrounded: ``bbox_mAP``, ``bbox_mAP_50``, ``_75``, ``_s``, ``_m``, ``_l``,
    ``bbox_AR@1``, ``@10``, ``@100``, ``bbox_AR_s@100``, ``_m@100``, ``_l@100`` (and the same with
    ``segm``). They are in [0, 1]; -1 means that there is no such ground truth. With no detection
    at all they are 0, so that saving the best checkpoint continues.

    They are computed by faster-coco-eval where it is installed (``pip install -e
    '.[fast]'``) and by pycocotools elsewhere; both agree to 1e-9, and the log says
    which. Predictions go there in memory, not through files.

    Registered as ``CocoTwelveMetric``; the definition is at
    https://cocodataset.org/#detection-eval.

    Args:
        ann_file: COCO annotation file; None takes the ground truth from the data samples.
        metric: ``bbox``, ``segm`` or both.
        backend: ``faster_coco_eval``, ``pycocotools``, or ``auto`` for the faster one where it is
            installed. Predictions that are not finite are always left to pycocotools.
        **kwargs: MMDetection's other arguments (``format_only``, ``outfile_prefix``,
            ``classwise``, ``backend_args``, ``collect_device``, ``prefix``, ``use_mp_eval``,
            ``sort_categories``). ``classwise`` adds ``<class>_precision`` to the metrics; the
            table is there without it. ``use_mp_eval`` is for pycocotools.

    Attributes:
        per_class: After an evaluation, on the main process, a dict for each class and kind of
            overlap: ``name``, ``iou_type``, ``AP``, ``AP50``, ``AP75``, ``AR100`` (None without
            ground truth) and ``num_gt`` (boxes that count: crowds do not).

    Raises:
        InputError: A kind of metric other than ``bbox`` and ``segm``, an argument that would
            change COCO's definition, or a backend that is not installed.
    """

    _coco_api: Any  # set by CocoMetric, like the two below
    cat_ids: Any
    img_ids: Any

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | list[str] = 'bbox',
        backend: str = 'auto',
        **kwargs: Any,
    ) -> None:
        settings = ('proposal_nums', 'iou_thrs', 'metric_items')
        fixed = [key for key in settings if kwargs.pop(key, None) is not None]
        kinds = list(metric) if isinstance(metric, list | tuple) else [metric]
        if fixed or not set(kinds) <= {'bbox', 'segm'}:
            what = f'{fixed[0]} cannot be set' if fixed else f'metric={kinds} is not bbox or segm'
            raise InputError(f'CocoTwelveMetric: {what}; use CocoMetric for other metrics.')
        self.backend = choose_backend(backend)
        super().__init__(ann_file, kinds, proposal_nums=(1, 10, 100), **kwargs)
        self.ann_file = ann_file
        self.per_class: list[dict[str, Any]] = []

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Evaluate what was collected from all processes.

        Args:
            results: Pairs of ground truth and prediction, one per image, as ``process`` makes.

        Returns:
            Twelve metrics for each kind of overlap; empty with ``format_only``.

        Raises:
            InputError: The predictions, the classes or the masks do not fit the annotation file.
        """
        self.per_class = []
        if not results:
            raise InputError('No image was evaluated: the dataset is empty.')
        predictions = [prediction for _, prediction in results]
        self._open_ground_truth([gt for gt, _ in results])
        self._check_predictions(predictions)
        if self.outfile_prefix:
            self.results2json(predictions, self.outfile_prefix)
        if self.format_only:
            print_log(f'Results are saved in {osp.dirname(self.outfile_prefix)}', 'current')
            return {}
        if 'segm' in self.metrics and 'masks' not in predictions[0]:
            raise InputError('The model predicts no segm: remove it from `metric`.')
        scores = np.concatenate([p['scores'] for p in predictions])
        boxes = np.concatenate([p['bboxes'].reshape(-1, 4) for p in predictions])
        finite = np.isfinite(scores).all() and np.isfinite(boxes).all()
        backend = self.backend if finite else 'pycocotools'
        note = '' if backend == self.backend else ', since a box or a score is not finite'
        package = BACKENDS[backend]
        print_log(f'COCO metrics by {package} {metadata.version(package)}{note}', 'current')
        found: dict[str, float] = {}
        for kind in self.metrics:
            found.update(self._evaluate(kind, predictions, backend))
        return found

    def _open_ground_truth(self, gts: Sequence[dict]) -> None:
        """Set the COCO index, the category of each label and the image ids, once."""
        classes = self.dataset_meta['classes']
        with contextlib.redirect_stdout(io.StringIO()):
            if self._coco_api is None:
                self._coco_api = self._truth_of_samples(gts)
        if self.cat_ids is None:
            if self.ann_file is not None:
                names = [category['name'] for category in self._coco_api.dataset['categories']]
                findings = Findings(strict=True)
                add = findings.about('test', self.ann_file)
                compare_categories(names, classes, True, add)
                for warning in findings.warnings():
                    print_log(warning, 'current', logging.WARNING)
            # By the file's order, as MMDetection's datasets number labels; the file may lack the
            # last classes, whose detections then count for nothing.
            found = self._coco_api.get_cat_ids(cat_names=classes)
            self.cat_ids = [*found, *[None] * (len(classes) - len(found))]
        if self.img_ids is None:
            self.img_ids = self._coco_api.get_img_ids()

    def _truth_of_samples(self, gts: Sequence[dict]) -> COCO:
        """The ground truth that came with the images, as MMDetection writes it to a file."""
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or osp.join(folder, 'truth')
            return COCO(self.gt_to_coco_json(gts, prefix))

    def _check_predictions(self, predictions: Sequence[dict]) -> None:
        highest = max(int(p['labels'].max(initial=-1)) for p in predictions)
        if highest >= len(self.cat_ids):
            raise InputError(
                f'Label {highest} was predicted, but the dataset has {len(self.cat_ids)} '
                'classes: set num_classes in the config to the number of classes.'
            )
        seen, known = {p['img_id'] for p in predictions}, set(self.img_ids)
        strange = seen - known
        if strange:
            raise InputError(
                f"{len(strange)} images are not in the metric's annotation file (first id "
                f'{min(strange, key=str)}): give the metric the ann_file of the dataset.'
            )
        if len(seen) < len(known):
            print_log(
                f'Only {len(seen)} of the {len(known)} images in the annotation file were '
                'evaluated; objects in the others count as missed.',
                'current',
                logging.WARNING,
            )

    def _check_masks(self, predictions: Sequence[dict]) -> None:
        """Look at the masks of the file, which no reader may have read, and at those found."""
        api = self._coco_api
        owned = (
            (f'{self.ann_file}: annotation id {a["id"]}', a['image_id'], a.get('segmentation'))
            for a in api.dataset.get('annotations', [])
            if a['image_id'] in api.imgs
        )
        found = (('predictions', p['img_id'], mask) for p in predictions for mask in p['masks'])
        for where, image_id, mask in itertools.chain(owned, found):
            image = api.imgs[image_id]
            fault = find_mask_fault(mask, image['width'], image['height'])
            if fault:
                raise InputError(f'{where}: the mask of an object in image {image_id} {fault}')

    def _evaluate(self, kind: str, predictions: Sequence[dict], backend: str) -> dict[str, float]:
        """Evaluate one kind of overlap, log its tables and keep its rows per class.

        Images and categories get numbers in COCO's order, since faster-coco-eval takes no other
        ids; arrays over the categories have that order, too.
        """
        images = {image_id: n for n, image_id in enumerate(np.unique(self.img_ids).tolist())}
        known = [cat_id for cat_id in self.cat_ids if cat_id is not None]
        columns = {cat_id: n for n, cat_id in enumerate(np.unique(known).tolist())}
        labels = {label: columns.get(cat_id) for label, cat_id in enumerate(self.cat_ids)}
        entries = self._coco_api.imgs
        shared = {
            'images': [{**entries[image_id], 'id': n} for image_id, n in images.items()],
            'categories': [{'id': n} for n in columns.values()],
        }
        if kind == 'segm':
            self._check_masks(predictions)
        truth = _number_truth(self._coco_api, kind, images, columns)
        found = _number_predictions(predictions, kind, images, labels)
        if not found:
            print_log(
                f'No {kind} was detected in any image, so every {kind} metric is 0. Expected '
                'early in a training from scratch; otherwise check the weights and the score '
                'threshold.',
                'current',
                logging.WARNING,
            )
        content = {**shared, 'annotations': truth}, {**shared, 'annotations': found}
        precision, recall = _run(*content, kind, backend, self.use_mp_eval)
        twelve = summarize(precision, recall, COCO_IOUS)
        metrics = {f'{kind}_{key}': value for key, value in twelve.items()}
        counts = Counter(row['category_id'] for row in truth if not row['iscrowd'])
        rows = []
        for label, name in enumerate(self.dataset_meta['classes']):
            k = labels[label]
            row = {'name': name, 'iou_type': kind, **_class_metrics(precision, recall, k)}
            rows.append({**row, 'num_gt': counts[k]})
        self.per_class += rows
        if self.classwise:
            aps = {row['name']: -1.0 if row['AP'] is None else row['AP'] for row in rows}
            metrics |= {f'{name}_precision': ap for name, ap in aps.items()}
        print_log(f'\n{format_table(rows)}\n\n{format_twelve(metrics, kind)}', 'current')
        return metrics


def choose_backend(name: str) -> str:
    """Return the backend that a setting means on this machine.

    Args:
        name: ``faster_coco_eval``, ``pycocotools``, or ``auto`` for the faster one where it is
            installed.

    Raises:
        InputError: It is not installed, or no backend has this name.
    """
    if name not in ('auto', *BACKENDS):
        raise InputError(f'backend={name!r} is not one of auto, {", ".join(BACKENDS)}.')
    if name == 'pycocotools':
        return name
    try:
        import faster_coco_eval  # noqa: F401  (its binaries may not load here)

        if digit_version(metadata.version('faster-coco-eval')) >= digit_version(OLDEST):
            return 'faster_coco_eval'
    except (ImportError, metadata.PackageNotFoundError):
        pass
    if name == 'auto':
        return 'pycocotools'
    raise InputError(
        f"backend='faster_coco_eval' needs faster-coco-eval {OLDEST} or newer, which was not "
        f"found: pip install 'faster-coco-eval>={OLDEST}'"
    )


def _number_truth(
    truth: COCO, kind: str, images: Mapping[Any, int], columns: Mapping[Any, int]
) -> list[dict[str, Any]]:
    """Return copies of the annotations that count, with numbers for ids."""
    rows = []
    for n, listed in enumerate(truth.dataset.get('annotations', []), 1):
        ann = truth.anns[listed['id']]  # as pycocotools finds it, where an id is there twice
        if ann['image_id'] not in images or ann['category_id'] not in columns:
            continue
        row = {
            'id': n if ann['id'] != 0 else 0,  # COCO takes an object of id 0 for never found
            'image_id': images[ann['image_id']],
            'category_id': columns[ann['category_id']],
            'area': ann['area'],
            'iscrowd': int(ann['iscrowd']),
            'bbox': ann['bbox'],
        }
        if kind == 'segm':
            row['segmentation'] = truth.annToRLE(ann)
        rows.append(row)
    return rows


def _number_predictions(
    predictions: Sequence[dict], kind: str, images: Mapping[Any, int], labels: Mapping[int, Any]
) -> list[dict[str, Any]]:
    """Return COCO's annotations of all detections but those of classes that the file lacks."""
    rows: list[dict[str, Any]] = []
    for prediction in predictions:
        scores = prediction['scores']
        # In double precision before the subtraction, as COCO's files hold them.
        boxes = prediction['bboxes'].reshape(-1, 4).astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        areas, shapes = (boxes[:, 2] * boxes[:, 3]).tolist(), boxes.tolist()
        if kind == 'segm':
            # Without a box: with one there, COCO takes the box's area for the mask's size.
            scores = prediction.get('mask_scores', scores)
            shapes = prediction['masks']
            areas = [masks_of_coco.area(mask) for mask in shapes]
        columns = shapes, areas, scores.astype(float).tolist(), prediction['labels'].tolist()
        for shape, area, score, label in zip(*columns, strict=True):
            if labels[int(label)] is not None:
                rows.append(
                    {
                        'id': len(rows) + 1,
                        'image_id': images[prediction['img_id']],
                        'category_id': labels[int(label)],
                        'bbox' if kind == 'bbox' else 'segmentation': shape,
                        'area': area,
                        'score': score,
                    }
                )
    return rows


def _run(
    truth: dict, found: dict, kind: str, backend: str, processes: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate the content of two COCO files.

    Returns:
        Average precision (10 IoU, classes, 4 area) and recall (10 IoU, classes, 4 area, 3
        detections); NaN marks what has no ground truth.
    """
    index: Any = COCO
    evaluator: Any = COCOevalMP if processes else COCOeval
    if backend == 'faster_coco_eval':
        import faster_coco_eval

        index, evaluator = faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster
    was_on = gc.isenabled()
    gc.disable()  # its search for cycles would go through half a million dicts over and over
    try:
        # Both print their progress; our tables go to the log, where they stay.
        with contextlib.redirect_stdout(io.StringIO()):
            pair = []
            for content in (truth, found):
                pair.append(index())  # not by loadRes, which looks at the first of perhaps none
                pair[-1].dataset = content
                pair[-1].createIndex()
            run = evaluator(*pair, kind)
            run.evaluate()
            run.accumulate()
    finally:
        if was_on:
            gc.enable()
    precision, recall = (np.where(run.eval[k] > -1, run.eval[k], np.nan) for k in _RATES)
    return precision[..., -1].mean(1), recall


def _class_metrics(
    precision: np.ndarray, recall: np.ndarray, column: int | None
) -> dict[str, float | None]:
    if column is None:  # the annotation file lacks the class
        return dict.fromkeys(BY_CLASS)
    part = slice(column, column + 1)
    found = summarize(precision[:, part], recall[:, part], COCO_IOUS)
    return {name: None if found[key] == -1 else found[key] for name, key in BY_CLASS.items()}
