"""COCO's twelve figures, unrounded, with a per-class table."""

import contextlib
import io
import logging
import os.path as osp
import tempfile
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval, COCOevalMP
from mmdet.evaluation import CocoMetric
from mmengine.fileio import load
from mmengine.logging import print_log

from ..datasets.coco_content import check_categories
from ..errors import InputError
from .report import TWELVE, format_table, format_twelve


class CocoTwelveMetric(CocoMetric):
    """COCO's detection metric exactly as COCO defines it.

    MMDetection's ``CocoMetric`` counts up to 1000 detections a picture in its recalls, rounds to
    three decimals and returns six figures. This one keeps COCO's (1, 10, 100) detections and
    returns all twelve figures unrounded: ``bbox_mAP``, ``bbox_mAP_50``, ``_75``, ``_s``, ``_m``,
    ``_l``, ``bbox_AR@1``, ``@10``, ``@100``, ``bbox_AR_s@100``, ``_m@100``, ``_l@100`` (and the
    same with ``segm``). They lie in [0, 1]; -1 means that there is no such ground truth. With no
    detection at all they are 0, so that saving the best checkpoint goes on.

    Registered as ``CocoTwelveMetric``; the definition is at
    https://cocodataset.org/#detection-eval.

    Args:
        ann_file: COCO annotation file; None takes the ground truth from the data samples.
        metric: ``bbox``, ``segm`` or both.
        **kwargs: MMDetection's other arguments (``format_only``, ``outfile_prefix``,
            ``classwise``, ``backend_args``, ``collect_device``, ``prefix``, ``use_mp_eval``,
            ``sort_categories``). ``classwise`` adds ``<class>_precision`` to the figures; the
            table is there without it.

    Attributes:
        per_class: After an evaluation, on the main process, a dict for each class and kind of
            overlap: ``name``, ``iou_type``, ``AP``, ``AP50``, ``AP75``, ``AR100`` (None without
            ground truth) and ``num_gt`` (boxes that count: crowds do not).

    Raises:
        InputError: A kind of metric other than ``bbox`` and ``segm``, or an argument that would
            change COCO's definition.
    """

    def __init__(
        self, ann_file: str | None = None, metric: str | list[str] = 'bbox', **kwargs
    ) -> None:
        settings = ('proposal_nums', 'iou_thrs', 'metric_items')
        fixed = [key for key in settings if kwargs.pop(key, None) is not None]
        kinds = list(metric) if isinstance(metric, list | tuple) else [metric]
        if fixed or not set(kinds) <= {'bbox', 'segm'}:
            what = f'{fixed[0]} cannot be set' if fixed else f'metric={kinds} is not bbox or segm'
            raise InputError(f'CocoTwelveMetric: {what}; use CocoMetric for other figures.')
        super().__init__(ann_file, kinds, proposal_nums=(1, 10, 100), **kwargs)
        self.ann_file = ann_file
        self.per_class: list[dict[str, Any]] = []

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Evaluate what was collected from all processes.

        Args:
            results: Pairs of ground truth and prediction, one a picture, as ``process`` makes.

        Returns:
            Twelve figures for each kind of overlap; empty with ``format_only``.

        Raises:
            InputError: The predictions or the classes do not belong to the annotation file.
        """
        self.per_class = []
        if not results:
            raise InputError('No picture was evaluated: the dataset is empty.')
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or osp.join(folder, 'results')
            self._open_ground_truth([gt for gt, _ in results], prefix)
            predictions = [prediction for _, prediction in results]
            self._check_predictions(predictions)
            files = self.results2json(predictions, prefix)
            if self.format_only:
                print_log(f'Results are saved in {osp.dirname(prefix)}', 'current')
                return {}
            figures: dict[str, float] = {}
            for kind in self.metrics:
                if kind not in files:
                    raise InputError(f'The model predicts no {kind}: leave it out of `metric`.')
                figures.update(self._evaluate(kind, load(files[kind])))
        return figures

    def _open_ground_truth(self, gts: Sequence[dict], prefix: str) -> None:
        """Set the COCO index, the category of each label and the picture ids, once."""
        classes = self.dataset_meta['classes']
        with contextlib.redirect_stdout(io.StringIO()):
            if self._coco_api is None:
                self._coco_api = COCO(self.gt_to_coco_json(gts, prefix))
        if self.cat_ids is None:
            if self.ann_file is not None:
                content = {'annotations': [], **self._coco_api.dataset}  # test-dev has none
                for warning in check_categories(self.ann_file, content, list(classes)):
                    print_log(warning, 'current', logging.WARNING)
            # By the file's order, as MMDetection's datasets number labels; the file may lack the
            # last classes, whose detections then count for nothing.
            found = self._coco_api.get_cat_ids(cat_names=classes)
            self.cat_ids = [*found, *[None] * (len(classes) - len(found))]
        if self.img_ids is None:
            self.img_ids = self._coco_api.get_img_ids()

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
                f"{len(strange)} pictures are not in the metric's annotation file (first id "
                f'{min(strange, key=str)}): give the metric the ann_file of the dataset.'
            )
        if len(seen) < len(known):
            print_log(
                f'Only {len(seen)} of the {len(known)} pictures in the annotation file were '
                'evaluated; objects in the others count as missed.',
                'current',
                logging.WARNING,
            )

    def _evaluate(self, kind: str, detections: list[dict]) -> dict[str, float]:
        if kind == 'segm':
            for detection in detections:
                # With a box there, COCO takes the box's area for the mask's size.
                detection.pop('bbox', None)
        if not detections:
            print_log(
                f'No {kind} was detected in any picture, so every {kind} figure is 0. Expected '
                'early in a training from scratch; otherwise check the weights and the score '
                'threshold.',
                'current',
                logging.WARNING,
            )
        scores = self._run_coco_eval(kind, detections)
        figures = {
            f'{kind}_{key}': float(value)
            for (key, *_), value in zip(TWELVE, scores.stats, strict=True)
        }
        rows = self._per_class_rows(kind, scores)
        self.per_class += rows
        if self.classwise:
            figures |= {
                f'{r["name"]}_precision': -1.0 if r['AP'] is None else r['AP'] for r in rows
            }
        print_log(f'\n{format_table(rows)}\n\n{format_twelve(figures, kind)}', 'current')
        return figures

    def _run_coco_eval(self, kind: str, detections: list[dict]) -> COCOeval:
        # pycocotools prints its progress; our tables go to the log, where they stay.
        with contextlib.redirect_stdout(io.StringIO()):
            found = self._coco_api.loadRes(detections) if detections else self._no_detections()
            scores = (COCOevalMP if self.use_mp_eval else COCOeval)(self._coco_api, found, kind)
            scores.params.catIds = [cat_id for cat_id in self.cat_ids if cat_id is not None]
            scores.params.imgIds = self.img_ids
            scores.evaluate()
            scores.accumulate()
            scores.summarize()
        return scores

    def _no_detections(self) -> COCO:
        """An empty result set, which pycocotools cannot load (it looks at the first one)."""
        empty = COCO()
        empty.dataset = {
            'images': self._coco_api.dataset['images'],
            'categories': self._coco_api.dataset['categories'],
            'annotations': [],
        }
        empty.createIndex()
        return empty

    def _per_class_rows(self, kind: str, scores: COCOeval) -> list[dict[str, Any]]:
        precision = scores.eval['precision']  # (IoU 10, recall 101, class, area 4, detections 3)
        recall = scores.eval['recall']  # (IoU 10, class, area 4, detections 3)
        column = {cat_id: k for k, cat_id in enumerate(scores.params.catIds)}
        boxes = [ann for ann in self._coco_api.anns.values() if not ann.get('iscrowd', 0)]
        counts = Counter(ann['category_id'] for ann in boxes)
        rows = []
        for name, cat_id in zip(self.dataset_meta['classes'], self.cat_ids, strict=True):
            k = column.get(cat_id)
            whole = None if k is None else precision[:, :, k, 0, -1]
            rows.append(
                {
                    'name': name,
                    'iou_type': kind,
                    'AP': None if k is None else _mean(whole),
                    'AP50': None if k is None else _mean(whole[0]),
                    'AP75': None if k is None else _mean(whole[5]),
                    'AR100': None if k is None else _mean(recall[:, k, 0, -1]),
                    'num_gt': counts[cat_id],
                }
            )
        return rows


def _mean(values: np.ndarray) -> float | None:
    """Mean of what was measured; COCO marks the rest with -1."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else None
