"""COCO's twelve figures, unrounded, with a per-class table."""

import contextlib
import io
import logging
import os.path as osp
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmengine.logging import print_log

from ..errors import InputError
from ..readers.coco import compare_categories
from ..readers.findings import Findings
from .coco_backends import (
    Detections,
    Scores,
    choose_backend,
    describe,
    evaluate,
    mean_of_measured,
    suits_faster,
)
from .report import TWELVE, format_table, format_twelve


class CocoTwelveMetric(CocoMetric):
    """COCO's detection metric exactly as COCO defines it.

    MMDetection's ``CocoMetric`` counts up to 1000 detections an image in its recalls, rounds to
    three decimals and returns six figures. This one keeps COCO's (1, 10, 100) detections and
    returns all twelve figures unrounded: ``bbox_mAP``, ``bbox_mAP_50``, ``_75``, ``_s``, ``_m``,
    ``_l``, ``bbox_AR@1``, ``@10``, ``@100``, ``bbox_AR_s@100``, ``_m@100``, ``_l@100`` (and the
    same with ``segm``). They lie in [0, 1]; -1 means that there is no such ground truth. With no
    detection at all they are 0, so that saving the best checkpoint goes on.

    The figures come from faster-coco-eval where it is installed (``pip install
    'tresnet_det[fast]'``) and from pycocotools elsewhere; they are the same to 1e-9, and the log
    says which. Predictions go there in memory, not through files.

    Registered as ``CocoTwelveMetric``; the definition is at
    https://cocodataset.org/#detection-eval.

    Args:
        ann_file: COCO annotation file; None takes the ground truth from the data samples.
        metric: ``bbox``, ``segm`` or both.
        backend: ``faster_coco_eval``, ``pycocotools``, or ``auto`` for the quick one where it is
            installed. Predictions that are not finite are always left to pycocotools.
        **kwargs: MMDetection's other arguments (``format_only``, ``outfile_prefix``,
            ``classwise``, ``backend_args``, ``collect_device``, ``prefix``, ``use_mp_eval``,
            ``sort_categories``). ``classwise`` adds ``<class>_precision`` to the figures; the
            table is there without it. ``use_mp_eval`` is for pycocotools; the quick backend
            needs no processes.

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
            raise InputError(f'CocoTwelveMetric: {what}; use CocoMetric for other figures.')
        self.backend = choose_backend(backend)
        super().__init__(ann_file, kinds, proposal_nums=(1, 10, 100), **kwargs)
        self.ann_file = ann_file
        self.per_class: list[dict[str, Any]] = []

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Evaluate what was collected from all processes.

        Args:
            results: Pairs of ground truth and prediction, one an image, as ``process`` makes.

        Returns:
            Twelve figures for each kind of overlap; empty with ``format_only``.

        Raises:
            InputError: The predictions or the classes do not belong to the annotation file.
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
            raise InputError('The model predicts no segm: leave it out of `metric`.')
        found = {kind: self._gather(predictions, kind) for kind in self.metrics}
        fits = all(suits_faster(detections) for detections in found.values())
        backend = self.backend if fits else 'pycocotools'
        note = '' if backend == self.backend else ', since a box or a score is not finite'
        print_log(f'COCO figures by {describe(backend)}{note}', 'current')
        figures: dict[str, float] = {}
        for kind, detections in found.items():
            figures.update(self._evaluate(kind, detections, backend))
        return figures

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
        if self.outfile_prefix:
            return COCO(self.gt_to_coco_json(gts, self.outfile_prefix))
        truth = COCO()
        truth.dataset = {
            'images': [
                {'id': gt['img_id'], 'width': gt['width'], 'height': gt['height']} for gt in gts
            ],
            'categories': [
                {'id': i, 'name': name} for i, name in enumerate(self.dataset_meta['classes'])
            ],
            'annotations': [_annotation(gt['img_id'], row) for gt in gts for row in gt['anns']],
        }
        for n, annotation in enumerate(truth.dataset['annotations'], 1):
            annotation['id'] = n
        truth.createIndex()
        return truth

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

    def _gather(self, predictions: Sequence[dict], kind: str) -> Detections:
        """All predictions of a kind as arrays, without those of classes that the file lacks."""
        images = {image_id: i for i, image_id in enumerate(self._sorted_images())}
        columns = {category_id: k for k, category_id in enumerate(self._sorted_categories())}
        column = np.array([columns.get(cat_id, -1) for cat_id in self.cat_ids])
        scores = [p.get('mask_scores', p['scores']) if kind == 'segm' else p['scores']
                  for p in predictions]  # fmt: skip
        counts = [len(p['labels']) for p in predictions]
        categories = column[np.concatenate([p['labels'] for p in predictions]).astype(int)]
        known = np.flatnonzero(categories >= 0)
        # In double precision before the subtraction, as COCO's files hold them.
        boxes = np.concatenate([p['bboxes'].reshape(-1, 4) for p in predictions]).astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        masks = None
        if kind == 'segm':
            masks = [mask for p in predictions for mask in p['masks']]
            masks = [masks[i] for i in known]
        return Detections(
            np.repeat([images[p['img_id']] for p in predictions], counts)[known],
            categories[known],
            boxes[known],
            np.concatenate(scores).astype(float)[known],
            masks,
        )

    def _sorted_images(self) -> list:
        return np.unique(self.img_ids).tolist()

    def _sorted_categories(self) -> list:
        return np.unique([cat_id for cat_id in self.cat_ids if cat_id is not None]).tolist()

    def _evaluate(self, kind: str, detections: Detections, backend: str) -> dict[str, float]:
        if not len(detections.scores):
            print_log(
                f'No {kind} was detected in any image, so every {kind} figure is 0. Expected '
                'early in a training from scratch; otherwise check the weights and the score '
                'threshold.',
                'current',
                logging.WARNING,
            )
        scores = evaluate(
            self._coco_api,
            detections,
            kind,
            self._sorted_images(),
            self._sorted_categories(),
            backend,
            self.use_mp_eval,
        )
        figures = {
            f'{kind}_{key}': value for (key, *_), value in zip(TWELVE, scores.twelve, strict=True)
        }
        rows = self._per_class_rows(kind, scores)
        self.per_class += rows
        if self.classwise:
            figures |= {
                f'{r["name"]}_precision': -1.0 if r['AP'] is None else r['AP'] for r in rows
            }
        print_log(f'\n{format_table(rows)}\n\n{format_twelve(figures, kind)}', 'current')
        return figures

    def _per_class_rows(self, kind: str, scores: Scores) -> list[dict[str, Any]]:
        precision, recall = scores.precision, scores.recall
        column = {cat_id: k for k, cat_id in enumerate(self._sorted_categories())}
        boxes = [ann for ann in self._coco_api.anns.values() if not ann.get('iscrowd', 0)]
        counts = Counter(ann['category_id'] for ann in boxes)
        rows = []
        for name, cat_id in zip(self.dataset_meta['classes'], self.cat_ids, strict=True):
            k = column.get(cat_id)
            whole: Any = None if k is None else precision[:, :, k, 0, -1]
            rows.append(
                {
                    'name': name,
                    'iou_type': kind,
                    'AP': None if k is None else mean_of_measured(whole),
                    'AP50': None if k is None else mean_of_measured(whole[0]),
                    'AP75': None if k is None else mean_of_measured(whole[5]),
                    'AR100': None if k is None else mean_of_measured(recall[:, k, 0, -1]),
                    'num_gt': counts[cat_id],
                }
            )
        return rows


def _annotation(image_id: Any, instance: dict) -> dict[str, Any]:
    """COCO's annotation, but for the id, of an instance as MMDetection's datasets hold it."""
    x1, y1, x2, y2 = (float(side) for side in instance['bbox'])
    annotation = {
        'image_id': image_id,
        'category_id': int(instance['bbox_label']),
        'bbox': [x1, y1, x2 - x1, y2 - y1],
        'area': (x2 - x1) * (y2 - y1),
        'iscrowd': int(instance.get('ignore_flag', 0)),
    }
    if instance.get('mask') is not None:
        annotation['segmentation'] = instance['mask']
    return annotation
