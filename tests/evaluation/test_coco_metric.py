"""CocoTwelveMetric by hand: its numbers, rows and files, and what it refuses or explains."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from pycocotools import mask as masks

import tresnet_det.evaluation  # noqa: F401  (registers)
from tresnet_det.errors import InputError
from tresnet_det.evaluation.coco_metric import CocoTwelveMetric

BIG = [100, 100, 200, 200]  # x, y, width, height: large in COCO's sense
ONE = pytest.approx(1, abs=1e-12)  # COCO's precision is tp / (tp + fp + epsilon)


def annotations(tmp_path, boxes, names=('cat', 'dog'), images=1):
    """Write ground truth; boxes are (image, category name, [x, y, w, h])."""
    ids = {name: 10 * i + 7 for i, name in enumerate(names)}  # no id is its own index
    content = {
        'images': [
            {'id': i, 'width': 640, 'height': 480, 'file_name': f'{i}.jpg'} for i in range(images)
        ],
        'categories': [{'id': cat_id, 'name': name} for name, cat_id in ids.items()],
        'annotations': [
            {
                'id': n + 1,
                'image_id': image,
                'category_id': ids[name],
                'bbox': box,
                'area': box[2] * box[3],
                'iscrowd': 0,
                'segmentation': [[box[0], box[1], box[0] + box[2], box[1], box[0] + box[2],
                                  box[1] + box[3], box[0], box[1] + box[3]]],
            }
            for n, (image, name, box) in enumerate(boxes)
        ],
    }  # fmt: skip
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps(content))
    return str(path)


def detected(image, *found, **more):
    """One image's prediction; found are (label, score, [x, y, w, h])."""
    boxes = torch.tensor([box for _, _, box in found], dtype=torch.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances = {
        'bboxes': boxes,
        'scores': torch.tensor([score for _, score, _ in found], dtype=torch.float64),
        'labels': torch.tensor([label for label, _, _ in found], dtype=torch.long),
    }
    return {'img_id': image, 'ori_shape': (480, 640), 'pred_instances': {**instances, **more}}


def evaluate(metric, samples, classes=('cat', 'dog')):
    metric.dataset_meta = {'classes': classes}
    metric.process({}, samples)
    return metric.evaluate(size=len(samples))


BOTH, CAT = ('cat', 'dog'), detected(0, (0, 0.9, BIG))
SHIFTED = r'label \d is .* Give both the same names in the same'


def test_average_precision_is_that_worked_out_by_hand(build, tmp_path):
    other = [350, 100, 200, 200]
    file = annotations(tmp_path, [(0, 'cat', BIG), (0, 'cat', other)])
    found = [(0, 0.9, BIG), (0, 0.8, [0, 0, 50, 50]), (0, 0.7, other)]
    metric = build(ann_file=file)
    metrics = evaluate(metric, [detected(0, *found)])
    # Precision is 1 up to recall 0.5 (51 of the 101 recall points) and 2/3 for the other 50.
    expected = (51 + 50 * 2 / 3) / 101
    assert metrics['coco/bbox_mAP'] == pytest.approx(expected, abs=1e-12)
    assert metrics['coco/bbox_AR@1'] == 0.5
    assert metrics['coco/bbox_AR@10'] == metrics['coco/bbox_AR_l@100'] == 1
    assert len(metrics) == 12


@pytest.mark.parametrize(
    ('truth', 'found', 'key', 'value', 'said'),
    [
        (
            [(0, 'cat', BIG)],
            [(0, 0.9, BIG)],
            'AR_m@100',
            -1,
            'there is no ground truth of small (under 32x32 pixels) or medium',
        ),
        ([], [], 'mAP', -1, 'there is no ground truth at all'),
        ([(0, 'cat', BIG)], [], 'mAP', 0, 'No bbox was detected in any image'),
    ],
    ids=['no such size', 'no ground truth', 'no detection'],
)
def test_what_cannot_be_measured_is_explained(build, tmp_path, log, truth, found, key, value, said):
    metrics = evaluate(build(ann_file=annotations(tmp_path, truth)), [detected(0, *found)])
    assert metrics[f'coco/bbox_{key}'] == value
    assert len(metrics) == 12
    assert said in '\n'.join(log)


def test_per_class_rows_hold_each_class(build, tmp_path):
    file = annotations(tmp_path, [(0, 'cat', BIG), (1, 'cat', BIG)], images=2)
    metric = build(ann_file=file, classwise=True)
    samples = [detected(0, (0, 0.9, BIG), (1, 0.9, BIG)), detected(1)]
    metrics = evaluate(metric, samples)
    half = pytest.approx(51 / 101)
    cat, dog = metric.per_class
    assert cat == {'name': 'cat', 'iou_type': 'bbox', 'AP': half, 'AP50': half, 'AP75': half,
                   'AR100': 0.5, 'num_gt': 2}  # fmt: skip
    assert (dog['name'], dog['AP'], dog['AR100'], dog['num_gt']) == ('dog', None, None, 0)
    assert metrics['coco/cat_precision'] == half
    assert metrics['coco/dog_precision'] == -1
    evaluate(metric, samples)
    assert len(metric.per_class) == 2


@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_last_class_that_the_file_lacks_is_left_out(build, tmp_path, log, kind):
    file = annotations(tmp_path, [(0, 'cat', BIG), (0, 'dog', BIG)])
    mask = masks.encode(np.zeros((480, 640), np.uint8, order='F'))
    whole = np.zeros((480, 640), np.uint8, order='F')
    whole[100:300, 100:300] = 1
    found = [(0, 0.9, BIG), (1, 0.9, BIG), (2, 0.95, BIG)]
    sample = detected(0, *found, masks=[masks.encode(whole), masks.encode(whole), mask])
    metric = build(ann_file=file, metric=kind)
    assert evaluate(metric, [sample], ('cat', 'dog', 'cow'))[f'coco/{kind}_mAP'] == ONE
    assert [(row['name'], row['AP'], row['num_gt']) for row in metric.per_class] == [
        ('cat', ONE, 1), ('dog', ONE, 1), ('cow', None, 0),
    ]  # fmt: skip
    assert any("the file has no category for: 1 of 3, first 'cow'" in line for line in log)


def test_labels_are_numbered_as_mmdetections_dataset_numbers_them(build, tmp_path):
    boxes = [(0, 'cow', BIG), (0, 'dog', [0, 0, 50, 50]), (0, 'cat', [400, 0, 50, 50])]
    file = annotations(tmp_path, boxes, names=('cow', 'cat', 'hen', 'dog'))
    classes = ('cat', 'dog', 'owl')  # the file has others among them and lacks the last
    dataset = DATASETS.build(
        {
            'type': 'CocoDataset',
            'ann_file': file,
            'data_prefix': {'img': ''},
            'metainfo': {'classes': classes},
            'pipeline': [],
        }
    )
    found = [
        (item['bbox_label'], 0.9, [x1, y1, x2 - x1, y2 - y1])
        for item in dataset.get_data_info(0)['instances']
        for x1, y1, x2, y2 in [item['bbox']]
    ]
    metrics = evaluate(build(ann_file=file), [detected(0, *found)], classes)
    assert metrics['coco/bbox_mAP'] == ONE


@pytest.mark.parametrize(
    ('samples', 'classes', 'kind', 'message'),
    [
        ([CAT], ('Cat', 'Dog'), 'bbox', "classes are 'Cat', 'Dog', the file has 'cat', 'dog'"),
        ([CAT], ('cat', 'cow', 'dog'), 'bbox', SHIFTED),
        ([CAT], ('cow', 'cat', 'dog'), 'bbox', SHIFTED),
        ([CAT], ('dog', 'cat'), 'bbox', SHIFTED),
        ([detected(0, (2, 0.9, BIG))], BOTH, 'bbox', 'Label 2 was predicted, .* has 2 classes'),
        ([detected(9, (0, 0.9, BIG))], BOTH, 'bbox', 'not in the metric.s annotation file'),
        ([], BOTH, 'bbox', 'No image was evaluated'),
        ([CAT], BOTH, 'segm', 'predicts no segm'),
    ],
)
def test_predictions_that_do_not_fit_the_file_are_refused(
    build, tmp_path, samples, classes, kind, message
):
    metric = build(ann_file=annotations(tmp_path, [(0, 'cat', BIG)]), metric=kind)
    with pytest.raises(InputError, match=message):
        evaluate(metric, samples, classes)


def test_images_left_out_are_warned_of(build, tmp_path, log):
    file = annotations(tmp_path, [(0, 'cat', BIG)], images=3)
    evaluate(build(ann_file=file), [detected(0, (0, 0.9, BIG))])
    assert any('Only 1 of the 3 images' in line for line in log)


def test_masks_and_boxes_are_evaluated_together(build, tmp_path):
    file = annotations(tmp_path, [(0, 'cat', BIG)])
    left_half = np.zeros((480, 640), dtype=np.uint8, order='F')
    left_half[100:300, 100:200] = 1
    metric = build(ann_file=file, metric=['bbox', 'segm'])
    sample = detected(0, (0, 0.9, BIG), masks=[masks.encode(left_half)])
    metrics = evaluate(metric, [sample])
    assert len(metrics) == 24
    assert metrics['coco/bbox_mAP'] == ONE
    # The half mask has IoU 0.5: right at the first of ten thresholds.
    assert metrics['coco/segm_mAP'] == pytest.approx(0.1, abs=1e-12)
    assert [row['iou_type'] for row in metric.per_class] == ['bbox', 'bbox', 'segm', 'segm']


@pytest.mark.parametrize('annotated', [True, False])
def test_format_only_writes_coco_results_and_no_metrics(build, tmp_path, annotated):
    file = Path(annotations(tmp_path, [(0, 'dog', BIG)]))
    if not annotated:  # a file of images alone, as of COCO's test split
        content = json.loads(file.read_text())
        del content['annotations']
        file.write_text(json.dumps(content))
    prefix = str(tmp_path / 'out' / 'fcos')
    metric = build(ann_file=str(file), format_only=True, outfile_prefix=prefix)
    assert evaluate(metric, [detected(0, (1, 0.5, BIG))]) == {}
    (row,) = json.loads((tmp_path / 'out' / 'fcos.bbox.json').read_text())
    assert row == {'image_id': 0, 'bbox': BIG, 'score': 0.5, 'category_id': 17}


@pytest.mark.parametrize(
    'wrong',
    [
        {'metric': 'proposal'},
        {'proposal_nums': (100, 300, 1000)},
        {'iou_thrs': np.array([0.5, 0.75])},
    ],
)
def test_what_would_change_cocos_definition_is_refused(wrong):
    with pytest.raises(InputError, match='use CocoMetric'):
        CocoTwelveMetric(**wrong)


def test_registered_by_name_it_imports_nothing_heavy_until_it_is_built():
    code = (
        'import sys, tresnet_det.evaluation, tresnet_det.engine; '
        'heavy = {"mmdet.evaluation", "mmdet.datasets", "pycocotools", "matplotlib"} | '
        '{"faster_coco_eval", "plotly"}; '
        'print(sorted(heavy & set(sys.modules))); from mmdet.registry import METRICS; '
        'print(type(METRICS.build({"type": "CocoTwelveMetric"})).__name__)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['[]', 'CocoTwelveMetric']
