"""MultiLabelMetric by hand and by scikit-learn: mAP, precision, recall, F1, best thresholds."""

import itertools

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from tresnet_det.errors import InputError
from tresnet_det.evaluation.multilabel import (
    MultiLabelMetric,
    average_precisions,
    best_f1_thresholds,
    precision_recall,
    top_labels,
)

KEYS = ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1')


def draw(images=200, classes=6, levels=None, unknown=0.0, seed=0):
    """Random scores, of few levels where ties are wanted, and labels."""
    rng = np.random.default_rng(seed)
    scores = rng.random((images, classes), np.float32)
    if levels:
        scores = np.floor(scores * levels).astype(np.float32) / levels
    labels = (rng.random(scores.shape) < 0.3).astype(np.int8)
    labels[rng.random(scores.shape) < unknown] = -1
    return scores, labels


def evaluate(scores, labels, classes=None, **settings) -> tuple[dict, MultiLabelMetric]:
    metric = MultiLabelMetric(**settings)
    metric.dataset_meta = dict(classes=classes) if classes else None
    samples = [
        dict(pred_score=torch.tensor(s), gt_label=torch.tensor(t), img_path=f'{i}.jpg')
        for i, (s, t) in enumerate(zip(scores, labels, strict=True))
    ]
    for start in range(0, len(samples), 7):
        metric.process(None, samples[start : start + 7])
    return metric.evaluate(len(samples)), metric


# Four images, four classes; the last is there in no image. Worked out by hand below.
SCORES = [
    [0.9, 0.2, 0.6, 0.1],
    [0.8, 0.3, 0.4, 0.7],
    [0.6, 0.4, 0.1, 0.2],
    [0.3, 0.1, 0.8, 0.6],
]
LABELS = [
    [1, 0, 1, 0],
    [0, 1, 1, 0],
    [1, 1, 0, 0],
    [0, 0, -1, 0],
]


def test_metrics_by_hand():
    metrics, metric = evaluate(SCORES, LABELS, ('cat', 'dog', 'eel', 'fox'))
    assert all(key.startswith('multilabel/') for key in metrics)
    got = {key.removeprefix('multilabel/'): value for key, value in metrics.items()}
    assert set(got) == {'mAP', *KEYS, *(f'{key}_top3' for key in KEYS)}
    # Ranked, class 0 is + - + -: 1/2 * 1 + 1/2 * 2/3; class 1 is + + - -; class 2, of which the
    # fourth image is not known, + + -.
    assert got['mAP'] == pytest.approx((5 / 6 + 1 + 1) / 3)
    # Above 0.5: class 0 in the images 0, 1, 2 with two right; class 1 in none; class 2 in 0
    # (right) and 3 (unknown); class 3 in 1 and 3 (wrong). Precisions 2/3, 0, 1; recalls 1, 0, 1/2.
    cp, cr = (2 / 3 + 0 + 1) / 3, (1 + 0 + 1 / 2) / 3
    op, or_ = 3 / 6, 3 / 6  # six labels are predicted that are known
    assert [got[key] for key in KEYS] == pytest.approx(
        [cp, cr, 2 * cp * cr / (cp + cr), op, or_, 2 * op * or_ / (op + or_)]
    )
    # The best three are all but the classes 3, 1, 2 and 1. Class 0 is in all four images, two
    # right; class 1 in 0 and 2, one right; class 2 in 0 and 1, both right, and 3, unknown; class 3
    # in three, all wrong.
    cp, cr = (2 / 4 + 1 / 2 + 2 / 2) / 3, (1 + 1 / 2 + 1) / 3
    op, or_ = 5 / 11, 5 / 6
    assert [got[f'{key}_top3'] for key in KEYS] == pytest.approx(
        [cp, cr, 2 * cp * cr / (cp + cr), op, or_, 2 * op * or_ / (op + or_)]
    )
    assert metric.per_class[0] == dict(
        name='cat', AP=pytest.approx(5 / 6), positives=2, precision=pytest.approx(2 / 3), recall=1
    )
    assert metric.per_class[3] == dict(name='fox', AP=None, positives=0, precision=0, recall=None)


@pytest.mark.parametrize('levels', [None, 5, 1])
@pytest.mark.parametrize('unknown', [0.0, 0.3])
def test_average_precision_is_scikit_learns(levels, unknown):
    scores, labels = draw(levels=levels, unknown=unknown)
    for column, ours in enumerate(average_precisions(scores, labels)):
        known = labels[:, column] >= 0
        theirs = average_precision_score(labels[known, column], scores[known, column])
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_an_infinite_score_is_a_score():
    scores = np.array([[np.inf], [np.inf], [0.0], [-np.inf]])
    labels = np.array([[1], [0], [1], [0]])
    assert average_precisions(scores, labels) == pytest.approx([1 / 2 * 1 / 2 + 1 / 2 * 2 / 3])


def test_metrics_are_scikit_learns():
    scores, labels = draw()
    metrics, _ = evaluate(scores, labels, threshold=0.7)
    for predicted, suffix in ((scores > np.float32(0.7), ''), (top_labels(scores), '_top3')):
        settings = dict(y_true=labels, y_pred=predicted, zero_division=0)
        for kind, average in (('C', 'macro'), ('O', 'micro')):
            got = [metrics[f'multilabel/{kind}{key}{suffix}'] for key in ('P', 'R')]
            want = [f(**settings, average=average) for f in (precision_score, recall_score)]
            assert got == pytest.approx(want)
        # CF1 is the F1 of the means, not the mean of the classes' F1s, which is another number.
        cp, cr = metrics[f'multilabel/CP{suffix}'], metrics[f'multilabel/CR{suffix}']
        cf1 = metrics[f'multilabel/CF1{suffix}']
        assert cf1 == pytest.approx(2 * cp * cr / (cp + cr))
        assert abs(cf1 - f1_score(**settings, average='macro')) > 1e-6
        of1 = metrics[f'multilabel/OF1{suffix}']
        assert of1 == pytest.approx(f1_score(**settings, average='micro'))


def test_a_score_at_the_threshold_is_not_predicted():
    scores = np.array([[0.3], [0.3000001]], np.float32)
    metrics, _ = evaluate(scores, [[1], [1]], threshold=0.3)
    assert metrics['multilabel/CR'] == 0.5


def test_top_three_ignores_the_threshold_and_takes_the_first_of_equals():
    scores = np.array([[0.1, 0.1, 0.1, 0.1], [0.0, 0.3, 0.2, 0.1], [0.9, 0.8, 0.7, 0.6]])
    assert top_labels(scores).astype(int).tolist() == [[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 0]]
    assert top_labels(scores[:, :2]).all()


def test_nothing_predicted_or_nothing_there_is_zero():
    nothing = np.zeros((2, 2), bool)
    for predicted, labels in ((nothing, np.ones((2, 2))), (~nothing, np.zeros((2, 2)))):
        assert set(precision_recall(predicted, labels).metrics.values()) == {0.0}


@pytest.mark.parametrize(('levels', 'seed'), [(None, 0), (4, 1), (4, 2), (1, 3)])
def test_best_thresholds_by_brute_force(levels, seed):
    scores, labels = draw(25, 4, levels, unknown=0.2, seed=seed)
    thresholds, f1 = best_f1_thresholds(scores, labels)
    for column in range(4):
        known = labels[:, column] >= 0
        values, truth = scores[known, column].astype(float), labels[known, column]
        candidates = [-1.0, *np.unique(values)]
        best = max(f1_score(truth, values > t, zero_division=0) for t in candidates)
        assert f1[column] == pytest.approx(best)
        got = f1_score(truth, values > thresholds[column], zero_division=0)
        assert got == pytest.approx(best)
        rounded = scores[known, column] > np.float32(thresholds[column])  # as torch compares them
        assert f1_score(truth, rounded, zero_division=0) == pytest.approx(best)
        # Half-way between scores: it makes no difference whether one asks for more or for as much.
        assert not (values == thresholds[column]).any()


def test_best_thresholds_are_in_the_table_on_demand():
    _, metric = evaluate(SCORES, LABELS, best_thresholds=True)
    rows = metric.per_class
    assert [row['name'] for row in rows] == ['0', '1', '2', '3']
    # Class 0: three taken give 4/5, as many as two of the four; class 1 and 2 are separable.
    assert rows[0]['best_F1'] == pytest.approx(4 / 5)
    assert rows[0]['best_threshold'] == pytest.approx((0.6 + 0.3) / 2)
    assert rows[1]['best_threshold'] == pytest.approx((0.3 + 0.2) / 2)
    assert rows[2]['best_threshold'] == pytest.approx((0.4 + 0.1) / 2)
    assert rows[3]['best_threshold'] is None


def test_the_log_has_the_table_and_lists_what_was_not_measured(log):
    evaluate(SCORES, LABELS, ('cat', 'dog', 'eel', 'fox'))
    table = next(line for line in log if 'positives' in line).strip().splitlines()
    assert table[0].split() == ['name', 'AP', 'positives', 'precision', 'recall']
    assert table[2].split() == ['cat', '0.8333', '2', '0.6667', '1.0000']
    assert table[5].split() == ['fox', '-', '0', '0.0000', '-']
    assert any('1 of 4 classes are there in no image' in t and "'fox'" in t for t in log)


def broken(row: int, column: int, score=None, label=None) -> tuple[list, list]:
    scores, labels = np.array(SCORES), np.array(LABELS, float)
    if score is not None:
        scores[row, column] = score
    if label is not None:
        labels[row, column] = label
    return scores.tolist(), labels.tolist()


@pytest.mark.parametrize(
    ('scores', 'labels', 'message'),
    [
        (*broken(2, 1, score=np.nan), r'2\.jpg: its score of class 1 is NaN \(NaN in 1 of 4'),
        (*broken(3, 0, label=0.5), r'3\.jpg: its label of class 0 is 0\.5; it must be 1, 0 or -1'),
        (SCORES, [[1, 0]] * 4, r'gives 4 scores and gt_label has the shape \(2,\): set num_class'),
        (SCORES, [1] * 4, r'shape \(\): .*AccuracyMetric'),
        (SCORES, [[0, 0, -1, 0]] * 4, 'No label is there in any of 4 images'),
    ],
)
def test_what_cannot_be_measured_is_named_in_one_line(scores, labels, message):
    with pytest.raises(InputError, match=message) as caught:
        evaluate(scores, labels)
    assert '\n' not in str(caught.value)


def test_names_must_be_as_many_as_scores():
    with pytest.raises(InputError, match='dataset has 2 classes and the model 4'):
        evaluate(SCORES, LABELS, ('cat', 'dog'))
    with pytest.raises(InputError, match='No image was evaluated'):
        MultiLabelMetric().compute_metrics([])


def test_nan_is_refused_by_the_functions_too():
    scores, labels = (np.array(part) for part in broken(1, 2, score=np.nan))
    for function in (average_precisions, best_f1_thresholds):
        with pytest.raises(InputError, match='image 1: its score of class 2 is NaN'):
            function(scores, labels)


def test_half_precision_scores_and_float_labels_are_taken():
    metric = METRICS.build(dict(type='MultiLabelMetric', prefix='val'))
    metric.process(None, [dict(pred_score=torch.tensor(s, dtype=torch.bfloat16, requires_grad=True),
                               gt_label=torch.tensor(t, dtype=torch.float32))
                          for s, t in zip(SCORES, LABELS, strict=True)])  # fmt: skip
    assert metric.evaluate(4)['val/mAP'] == pytest.approx((5 / 6 + 1 + 1) / 3)


def test_what_a_loader_pads_for_several_processes_does_not_count():
    samples = [dict(pred_score=torch.tensor(s), gt_label=torch.tensor(t))
               for s, t in zip(SCORES, LABELS, strict=True)]  # fmt: skip
    metric = MultiLabelMetric()
    for sample in itertools.chain(samples, samples[:1]):
        metric.process(None, [sample])
    assert metric.evaluate(4) == evaluate(SCORES, LABELS)[0]
