"""Both backends against pycocotools by itself, and what the choice between them promises."""

import contextlib
import copy
import gc
import io
import json
import sys

import numpy as np
import pytest
import torch
from coco_samples import samples_of
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tresnet_det.errors import InputError
from tresnet_det.evaluation.coco_metric import CocoTwelveMetric
from tresnet_det.evaluation.report import TWELVE

CLASSES = ('ant', 'bee', 'cat', 'dog', 'eel')
IDS = (9, 2, 30, 4, 17)  # neither sorted nor without gaps
HEIGHT, WIDTH = 240, 320


def corner_points(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + 0.7 * h, x, y + h]


def random_boxes(rng, count):
    """(N, 4) as x, y, width, height, of all three of COCO's sizes."""
    sides = np.exp(rng.uniform(np.log(8), np.log(200), (count, 2)))
    return np.round(np.hstack([rng.uniform(0, 100, (count, 2)), sides]), 1)


def truth_and_rows(image_ids, seed=0):
    """A COCO file's content with crowds, and result rows with equal scores among them.

    Some images have no object, some no detection, one class has neither and one no object.
    """
    rng = np.random.default_rng(seed)
    content = {
        'images': [{'id': i, 'width': WIDTH, 'height': HEIGHT, 'file_name': ''} for i in image_ids],
        'categories': [{'id': i, 'name': n} for i, n in zip(IDS, CLASSES, strict=True)],
        'annotations': [],
    }
    rows = []
    for i, image_id in enumerate(image_ids):
        boxes = random_boxes(rng, 0 if i % 5 == 4 else rng.integers(1, 9))
        classes = rng.integers(0, 3, len(boxes))
        for box, label in zip(boxes, classes, strict=True):
            content['annotations'].append(
                {
                    'id': len(content['annotations']) + 1,
                    'image_id': image_id,
                    'category_id': IDS[label],
                    'bbox': box.tolist(),
                    'area': 0.85 * box[2] * box[3],
                    'iscrowd': int(rng.random() < 0.15),
                    'segmentation': [corner_points(box.tolist())],
                }
            )
        if i % 7 == 6:
            continue
        near = np.repeat(boxes, 3, axis=0)
        near = near + rng.normal(0, 0.05, near.shape) * np.tile(near[:, 2:], 2)
        labels = np.append(np.repeat(classes, 3), rng.integers(0, 4, 20))
        boxes = np.abs(np.vstack([near, random_boxes(rng, 20)]))
        for n, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            low = np.float32(box[:2])
            high = np.float32(low + np.maximum(box[2:], 4))
            rows.append(
                {
                    'image_id': image_id,
                    'category_id': IDS[label],
                    # As a detector's float32 corners give it.
                    'bbox': [*low.tolist(), *(high.astype(float) - low.astype(float)).tolist()],
                    'score': float(np.float32(rng.integers(0, 40 if n < len(near) else 25) / 40)),
                }
            )
    return content, rows


def with_masks(rows):
    """Rows with a mask in place of the box, which COCO's tools need for sizes by masks."""
    result = []
    for row in rows:
        mask = masks.merge(masks.frPyObjects([corner_points(row['bbox'])], HEIGHT, WIDTH))
        mask['counts'] = mask['counts'].decode()
        kept = {key: value for key, value in row.items() if key != 'bbox'}
        result.append({**kept, 'segmentation': mask})
    return result


def judge(file, rows, kind):
    """Twelve metrics, precision and recall of pycocotools by itself."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        run = COCOeval(truth, truth.loadRes(copy.deepcopy(rows)), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def evaluate(metric, samples):
    metric.dataset_meta = {'classes': CLASSES}
    metric.process({}, samples)
    return metric.evaluate(size=len(samples))


@pytest.fixture
def data(tmp_path):
    """Path, content and rows of a small random set."""
    content, rows = truth_and_rows([5 * n for n in range(24, 0, -1)])
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(content))
    return path, content, rows


@pytest.mark.parametrize(
    ('kind', 'more'), [('bbox', {}), ('segm', {}), ('bbox', {'use_mp_eval': True})]
)
def test_metrics_and_rows_are_those_of_pycocotools(build, data, kind, more):
    path, content, rows = data
    segmented = with_masks(rows)
    judged = judge(path, rows if kind == 'bbox' else segmented, kind)
    metric = build(ann_file=str(path), metric=kind, **more)
    metrics = evaluate(metric, samples_of(content, rows, segmented))
    got = [metrics[f'coco/{kind}_{key}'] for key, *_ in TWELVE]
    assert got == pytest.approx(judged.stats.tolist(), abs=1e-9)
    assert 0.1 < got[0] < 0.9
    assert min(got) > 0
    for row in metric.per_class:
        category = IDS[CLASSES.index(row['name'])]
        mine = [a for a in content['annotations'] if a['category_id'] == category]
        assert row['num_gt'] == sum(not a['iscrowd'] for a in mine)  # a crowd is none
        k = judged.params.catIds.index(category)
        precision, recall = judged.eval['precision'][:, :, k, 0, -1], judged.eval['recall']
        if row['num_gt'] == 0:
            assert (row['AP'], row['AP50'], row['AP75'], row['AR100']) == (None,) * 4
            assert (precision == -1).all()
            continue
        expected = [precision.mean(), precision[0].mean(), precision[5].mean()]
        expected.append(recall[:, k, 0, -1].mean())
        got = [row['AP'], row['AP50'], row['AP75'], row['AR100']]
        assert got == pytest.approx(expected, abs=1e-9)
    assert sum(row['num_gt'] > 0 for row in metric.per_class) == 3


@pytest.mark.filterwarnings('ignore:Found annotation id 0')
def test_image_ids_may_be_text_and_an_object_may_have_the_id_zero(build, tmp_path):
    content, rows = truth_and_rows([f'image {n}' for n in range(30)], seed=1)
    for annotation in content['annotations']:
        annotation['id'] -= 1
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(content))
    metrics = evaluate(build(ann_file=str(path)), samples_of(content, rows))
    expected = judge(path, rows, 'bbox').stats.tolist()
    assert list(metrics.values()) == pytest.approx(expected, abs=1e-9)


def test_values_that_are_not_finite_are_left_to_pycocotools(data, log, build, backend):
    path, content, rows = data
    samples = samples_of(content, rows)
    samples[0]['pred_instances']['bboxes'][0, 2] = float('nan')
    samples[1]['pred_instances']['scores'][0] = float('nan')
    metrics = evaluate(build(ann_file=str(path)), samples)
    assert metrics == evaluate(CocoTwelveMetric(str(path), backend='pycocotools'), samples)
    (line, _) = [line for line in log if line.startswith('COCO metrics by')]
    assert line.startswith('COCO metrics by pycocotools')
    assert ('not finite' in line) == (backend != 'pycocotools')


def test_evaluation_writes_no_file_and_changes_no_input(data, build, tmp_path, monkeypatch):
    path, content, rows = data
    monkeypatch.setattr(
        'mmdet.evaluation.metrics.coco_metric.dump', lambda *_: pytest.fail('a file')
    )
    metric = build(ann_file=str(path))
    samples = samples_of(content, rows)
    before = copy.deepcopy(samples)
    evaluate(metric, samples)
    for was, now in zip(before, samples, strict=True):
        for key, value in was['pred_instances'].items():
            assert torch.equal(value, now['pred_instances'][key])
    assert [file.name for file in tmp_path.iterdir()] == ['truth.json']
    assert gc.isenabled()


def test_truth_of_the_samples_is_that_of_a_file(data, build, tmp_path):
    path, content, rows = data
    samples = samples_of(content, rows)
    for annotation in content['annotations']:
        annotation['area'] = annotation['bbox'][2] * annotation['bbox'][3]  # there is no other
    path.write_text(json.dumps(content))
    for sample in samples:
        sample['instances'] = [
            {
                'bbox': [box[0], box[1], box[0] + box[2], box[1] + box[3]],
                'bbox_label': IDS.index(annotation['category_id']),
                'ignore_flag': annotation['iscrowd'],
            }
            for annotation in content['annotations']
            if annotation['image_id'] == sample['img_id']
            for box in [annotation['bbox']]
        ]
    expected = judge(path, rows, 'bbox').stats.tolist()
    metrics = evaluate(build(), samples)
    assert list(metrics.values()) == pytest.approx(expected, abs=1e-6)
    evaluate(build(outfile_prefix=str(tmp_path / 'x')), samples)
    assert (tmp_path / 'x.gt.json').is_file()


def test_more_masks_of_a_class_than_pycocotools_measures_at_once(build, tmp_path):
    content, rows = truth_and_rows([1])
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(content))
    rows = [{**rows[0], 'score': n / 300} for n in range(300)]
    segmented = with_masks(rows)
    metrics = evaluate(
        build(ann_file=str(path), metric='segm'), samples_of(content, rows, segmented)
    )
    expected = judge(path, segmented, 'segm').stats.tolist()
    assert list(metrics.values()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('reason', ['absent', 'too old'])
def test_backend_that_is_not_there_is_named_with_the_command_that_installs_it(reason, monkeypatch):
    if reason == 'absent':
        monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    else:
        pytest.importorskip('faster_coco_eval')
        monkeypatch.setattr('importlib.metadata.version', lambda _: '1.5.7')
    with pytest.raises(InputError, match=r"pip install 'faster-coco-eval>=1\.8\.0'$") as caught:
        CocoTwelveMetric(backend='faster_coco_eval')
    assert '\n' not in str(caught.value)
    assert CocoTwelveMetric().backend == 'pycocotools'


def test_backend_is_chosen_by_its_name_or_the_quick_one_where_it_is_installed():
    with pytest.raises(InputError, match="backend='coco' is not one of auto, faster_coco_eval, py"):
        CocoTwelveMetric(backend='coco')
    pytest.importorskip('faster_coco_eval')
    assert CocoTwelveMetric().backend == 'faster_coco_eval'
    assert CocoTwelveMetric(backend='pycocotools').backend == 'pycocotools'
