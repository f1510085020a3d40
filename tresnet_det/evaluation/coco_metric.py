"""COCO's twelve figures, unrounded, with a per-class table."""

import contextlib
import io
import logging
import os.path as osp
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval, COCOevalMP
from mmdet.evaluation import CocoMetric
from mmengine.fileio import load
from mmengine.logging import print_log

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
        fixed = [k for k in ('proposal_nums', 'iou_thrs', 'metric_items') if kwargs.pop(k, None)]
        kinds = list(metric) if isinstance(metric, list | tuple) else [metric]
        if fixed or not set(kinds) <= {'bbox', 'segm'}:
            what = f'{fixed[0]} cannot be set' if fixed else f'metric={kinds} is not bbox or segm'
            raise InputError(f'CocoTwelveMetric: {what}; use CocoMetric for other figures.')
        super().__init__(ann_file, kinds, proposal_nums=(1, 10, 100), **kwargs)
        self.per_class: list[dict[str, Any]] = []

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Evaluate what was collected from all processes.

        Args:
            results: Pairs of ground truth and prediction, one a picture, as ``process`` makes.

        Returns:
            Twelve figures for each kind of overlap; empty with ``format_only``.

        Raises:
            InputError: The predictions do not belong to the annotation file.
        """
        self.per_class = []
        if not results:
            raise InputError('No picture was evaluated: the dataset is empty.')
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or osp.join(folder, 'results')
            self._open_ground_truth([gt for gt, _ in results], prefix)
            predictions = [prediction for _, prediction in results]
            self._check_images(predictions)
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

    def results2json(self, results: Sequence[dict], outfile_prefix: str) -> dict[str, str]:
        """Write the predictions as COCO result files, less those whose class the file lacks.

        Args:
            results: Predictions, one dict a picture, with ``bboxes`` (N, 4) as x1 y1 x2 y2 in
                pixels, ``scores`` (N,), ``labels`` (N,) and perhaps ``masks``.
            outfile_prefix: Path and beginning of the files' names.

        Returns:
            File names by ``bbox``, ``proposal`` and, where masks are predicted, ``segm``.

        Raises:
            InputError: A label has no class.
        """
        known = np.array([cat_id is not None for cat_id in self.cat_ids], dtype=bool)
        kept, dropped = [], 0
        for result in results:
            labels = np.asarray(result['labels'], dtype=int)
            if labels.size and labels.max() >= len(known):
                raise InputError(
                    f'Label {labels.max()} was predicted, but the dataset has {len(known)} '
                    'classes: set num_classes in the config to the number of classes.'
                )
            keep = known[labels]
            dropped += int((~keep).sum())
            kept.append(result if keep.all() else _select(result, keep))
        if dropped:
            print_log(
                f'{dropped} detections of classes without a category are left out.', 'current'
            )
        return super().results2json(kept, outfile_prefix)

    def _open_ground_truth(self, gts: Sequence[dict], prefix: str) -> None:
        """Set the COCO index, the category of each label and the picture ids, once."""
        with contextlib.redirect_stdout(io.StringIO()):
            if self._coco_api is None:
                self._coco_api = COCO(self.gt_to_coco_json(gts, prefix))
        if self.cat_ids is None:
            self.cat_ids = _categories_of_labels(self._coco_api, self.dataset_meta['classes'])
        if self.img_ids is None:
            self.img_ids = self._coco_api.get_img_ids()

    def _check_images(self, predictions: Sequence[dict]) -> None:
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
        names = self.dataset_meta['classes']
        rows = []
        for label, cat_id in enumerate(self.cat_ids):
            k = column.get(cat_id)
            whole = None if k is None else precision[:, :, k, 0, -1]
            rows.append(
                {
                    'name': names[label] if k is None else self._coco_api.cats[cat_id]['name'],
                    'iou_type': kind,
                    'AP': None if k is None else _mean(whole),
                    'AP50': None if k is None else _mean(whole[0]),
                    'AP75': None if k is None else _mean(whole[5]),
                    'AR100': None if k is None else _mean(recall[:, k, 0, -1]),
                    'num_gt': 0 if k is None else self._count(cat_id),
                }
            )
        return rows

    def _count(self, cat_id: int) -> int:
        ids = self._coco_api.getAnnIds(imgIds=self.img_ids, catIds=[cat_id])
        return sum(not ann.get('iscrowd', 0) for ann in self._coco_api.loadAnns(ids))


def _mean(values: np.ndarray) -> float | None:
    """Mean of what was measured; COCO marks the rest with -1."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else None


def _select(result: dict, keep: np.ndarray) -> dict:
    """One picture's prediction with only the detections where ``keep`` (N,) is true."""
    chosen = dict(result)
    for key in ('bboxes', 'scores', 'labels', 'mask_scores'):
        if key in result:
            chosen[key] = np.asarray(result[key])[keep]
    if 'masks' in result:
        chosen['masks'] = [mask for mask, kept in zip(result['masks'], keep, strict=True) if kept]
    return chosen


def _categories_of_labels(coco: COCO, classes: Sequence[str]) -> list[int | None]:
    """Category id of each label, None where the annotation file has no such category.

    MMDetection numbers labels by the order of the *file*. Where the file has all classes, so
    does this. Where it lacks some, counting the file's would shift every later label, so that
    labels are then matched by name.
    """
    in_file = {category['name']: cat_id for cat_id, category in coco.cats.items()}
    missing = [name for name in classes if name not in in_file]
    if len(missing) == len(classes):
        raise InputError(
            f"None of the dataset's classes ({_first(classes)}) is in the annotation file, which "
            f'has {_first(list(in_file))}: set metainfo classes to the names in the file.'
        )
    if missing:
        print_log(
            f'{len(missing)} of {len(classes)} classes are not in the annotation file and count '
            f'for nothing: {_first(missing)}.',
            'current',
            logging.WARNING,
        )
        return [in_file.get(name) for name in classes]
    cat_ids = coco.get_cat_ids(cat_names=list(classes))
    if [coco.cats[cat_id]['name'] for cat_id in cat_ids] != list(classes):
        print_log(
            'The dataset lists its classes in another order than the annotation file. '
            'MMDetection numbers labels by the file: figures are right, but predictions would '
            'be shown under wrong names. List the classes in the order of the file.',
            'current',
            logging.WARNING,
        )
    return cat_ids


def _first(names: Sequence[str], count: int = 5) -> str:
    more = f', ... ({len(names)} in all)' if len(names) > count else ''
    return ', '.join(map(str, names[:count])) + more
