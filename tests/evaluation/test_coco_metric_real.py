"""Published metrics, and a detector that repeats the ground truth of real images."""

import json

import pytest
from coco_samples import samples_of

from tresnet_det.evaluation.report import TWELVE

pytestmark = pytest.mark.real

COCO_API = 'eval_fixtures/cocoapi_val2014_100'
BOX_AREA = 'eval_fixtures/objdetmetrics_val2014_100_boxarea/sampled_gts_bbox_area.json'


def run(build, ann_file, rows, kind='bbox'):
    """Metrics and metric object of COCO result rows, through the metric as a test loop calls it."""
    truth = json.loads(ann_file.read_text())
    metric = build(ann_file=str(ann_file), metric=kind)
    metric.dataset_meta = {'classes': [category['name'] for category in truth['categories']]}
    rows = [{'bbox': [0, 0, 0, 0], **row} for row in rows]
    metric.process({}, samples_of(truth, rows, rows if kind == 'segm' else None))
    return metric.evaluate(size=len(truth['images'])), metric


def twelve(metrics, kind='bbox'):
    return [metrics[f'coco/{kind}_{key}'] for key, *_ in TWELVE]


def test_coco_apis_published_metrics(build, real_data):
    folder = real_data / COCO_API
    rows = json.loads((folder / 'instances_val2014_fakebbox100_results.json').read_text())
    metrics, metric = run(build, folder / 'instances_val2014_100.json', rows)
    expected = [
        0.5045806987, 0.6969727247, 0.5729816670, 0.5856257209, 0.5193996948, 0.5013978986,
        0.3868127796, 0.5936795763, 0.5953529829, 0.6398109626, 0.5664205979, 0.5642905983,
    ]  # fmt: skip
    assert twelve(metrics) == pytest.approx(expected, abs=1e-9)
    measured = [row['AP'] for row in metric.per_class if row['AP'] is not None]
    assert sum(measured) / len(measured) == pytest.approx(expected[0], abs=1e-9)
    assert sum(row['num_gt'] for row in metric.per_class) == 839 - 9


def test_coco_apis_published_mask_metric(build, real_data):
    folder = real_data / COCO_API
    rows = json.loads((folder / 'instances_val2014_fakesegm100_results.json').read_text())
    metrics, _ = run(build, folder / 'instances_val2014_100.json', rows, kind='segm')
    assert metrics['coco/segm_mAP'] == pytest.approx(0.3195452759, abs=1e-9)


def test_metrics_by_box_area(build, real_data):
    rows = (real_data / COCO_API / 'instances_val2014_fakebbox100_results.json').read_text()
    metrics, _ = run(build, real_data / BOX_AREA, json.loads(rows))
    expected = [
        0.503647, 0.696973, 0.571667, 0.593252, 0.557991, 0.489363,
        0.386813, 0.593680, 0.595353, 0.654764, 0.603130, 0.553744,
    ]  # fmt: skip
    assert twelve(metrics) == pytest.approx(expected, abs=5e-7)
