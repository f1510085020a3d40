"""AccuracyMetric by hand: top-1 and top-5, equal scores, and what cannot be measured."""

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS

from tresnet_det.errors import InputError
from tresnet_det.evaluation.accuracy import AccuracyMetric


def evaluate(scores, labels, **settings) -> dict:
    metric = METRICS.build(dict(settings, type=AccuracyMetric.__name__))
    samples = [
        dict(pred_score=torch.as_tensor(s), gt_label=torch.as_tensor(t), img_path=f'{i}.jpg')
        for i, (s, t) in enumerate(zip(scores, labels, strict=True))
    ]
    for start in range(0, len(samples), 3):
        metric.process(None, samples[start : start + 3])
    return metric.evaluate(len(samples))


def test_accuracy_by_hand_in_percent():
    scores = np.eye(8)[[0, 1, 2, 3]] + np.arange(8, 0, -1) / 100  # then 0, 1, 2, ... in turn
    # Right; second of all; fifth; sixth.
    metrics = evaluate(scores, [0, 0, 4, 5])
    assert metrics == {'accuracy/top1': 25.0, 'accuracy/top5': 75.0}


def test_each_class_has_its_own():
    metric = AccuracyMetric()
    metric.dataset_meta = dict(classes=('cat', 'dog', 'emu'))
    scores, labels = np.eye(3)[[0, 0, 1, 1]], [0, 0, 0, 1]
    metric.process(None, [
        dict(pred_score=torch.as_tensor(s), gt_label=torch.as_tensor(t), img_path='a.jpg')
        for s, t in zip(scores, labels, strict=True)
    ])  # fmt: skip
    metric.evaluate(4)
    assert metric.per_class == [
        dict(name='cat', top1=pytest.approx(200 / 3), images=3),
        dict(name='dog', top1=100.0, images=1),
    ]


def test_of_equal_scores_the_lower_class_comes_first():
    # A broken model that says the same of all classes is right by chance, not always.
    metrics = evaluate(np.zeros((10, 10)), np.arange(10))
    assert metrics == {'accuracy/top1': 10.0, 'accuracy/top5': 50.0}


def test_five_classes_are_all_in_the_top_five():
    assert evaluate(np.eye(3), [1, 2, 2])['accuracy/top5'] == 100


def test_labels_may_have_one_dimension():
    assert evaluate(np.eye(3), [[0], [1], [0]])['accuracy/top1'] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ('scores', 'labels', 'message'),
    [
        ([[0.5, 0.5], [np.nan, 1.0]], [0, 0], r'1\.jpg: its score of class 0 is NaN'),
        (np.eye(3), [0, 1, 3], r"2\.jpg: its label 3 is none of the model's 3 classes: set num_cl"),
        (np.eye(3), [0, -1, 1], r'1\.jpg: its label -1 is none'),
        (np.eye(3), [[1, 0, 0]] * 3, 'got 3 labels: use MultiLabelMetric'),
        ([], [], 'No image was evaluated'),
    ],
)
def test_what_cannot_be_measured_is_named_in_one_line(scores, labels, message):
    with pytest.raises(InputError, match=message) as caught:
        evaluate(scores, labels)
    assert '\n' not in str(caught.value)
