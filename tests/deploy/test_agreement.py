"""Whether two sides' boxes or scores are the same, by numbers worked out by hand."""

import numpy as np
import pytest

from tresnet_det.deploy.agreement import ArrayAgreement, compare

BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 150, 150]], np.float32)
SCORES = np.array([0.9, 0.5, 0.3], np.float32)
LABELS = np.array([1, 0, 2])


def answer(boxes=BOXES, scores=SCORES, labels=LABELS):
    return dict(boxes=np.asarray(boxes), scores=np.asarray(scores), labels=np.asarray(labels))


def boxes_of(found, max_per_img=100):
    return compare([found], [answer()], max_per_img)['boxes']


def test_order_does_not_matter_and_small_differences_are_told():
    shifted = BOXES + np.array([0, 0, 0, 0.05], np.float32)  # a taller box: IoU 10 / 10.05
    order = [2, 0, 1]
    result = boxes_of(answer(shifted[order], SCORES[order] + np.float32(5e-5), LABELS[order]))
    assert result.is_same
    assert result == (3, 0, pytest.approx(10 / 10.05), pytest.approx(5e-5, rel=1e-2))


@pytest.mark.parametrize(
    ('other', 'expected'),
    [
        (answer(boxes=BOXES + [[1], [0], [0]]), (2, 2)),
        (answer(labels=[1, 1, 2]), (2, 2)),
        (answer(scores=[0.9, 0.51, 0.3]), (2, 2)),
        (answer(BOXES[1:], SCORES[1:], LABELS[1:]), (2, 1)),
        (answer(scores=[0.9, np.nan, 0.3]), (2, 2)),
    ],
    ids=['place', 'class', 'score', 'number', 'NaN'],
)
def test_another_place_class_score_or_number_of_boxes_is_a_difference(other, expected):
    result = boxes_of(other)
    assert result[:2] == expected
    assert not result.is_same


def test_the_last_of_a_full_list_may_be_another_of_the_same_score():
    other = answer(boxes=BOXES + [[0], [0], [500]])
    assert boxes_of(other, max_per_img=3).is_same
    assert not boxes_of(answer(scores=[0.9, np.nan, 0.3]), max_per_img=3).is_same
    assert not boxes_of(other, max_per_img=4).is_same


def test_what_an_overlap_at_the_threshold_decides_is_no_difference():
    # In one answer the second is suppressed by the first (IoU 6 / 10), so that the third stays,
    # which the second would suppress (IoU 7 / 9).
    first, second, third = [0, 0, 10, 10], [0, 0, 10, 6.0003], [0, 1, 10, 8]
    one, two = (
        answer(np.array([first, box], float), np.array([0.9, score]), np.array([1, 1]))
        for box, score in ((second, 0.8), (third, 0.7))
    )
    assert compare([one], [two], 9, 0.6)['boxes'][:2] == (1, 0)
    assert compare([two], [one], 9, 0.6)['boxes'][:2] == (1, 0)
    assert compare([one], [two], 9, 0.599)['boxes'][:2] == (1, 2)
    two['labels'][1] = 2  # which a box of another class does not suppress
    assert compare([one], [two], 9, 0.6)['boxes'][:2] == (1, 1)


def test_only_boxes_of_the_other_answer_suppress():
    overlapping = np.array([[0, 0, 10, 10], [0, 0, 10, 6]], float)  # IoU 6 / 10
    both = answer(overlapping, np.array([0.9, 0.8]), np.array([1, 1]))
    nothing = answer(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert compare([both], [nothing], 9, 0.6)['boxes'][:2] == (0, 2)
    same_place = answer(BOXES, np.array([0.9, 0.4, 0.3]), LABELS)
    assert compare([answer()], [same_place], 9, 1.0)['boxes'][:2] == (2, 2)  # without NMS


def test_no_boxes_at_all_agree():
    nothing = answer(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))
    assert compare([nothing], [nothing], 3)['boxes'] == (0, 0, 1, 0)


def test_boxes_without_an_area_agree_where_they_are_the_same():
    flat = answer(boxes=BOXES[:, [0, 1, 2, 1]])
    assert compare([flat], [flat], 9)['boxes'] == (3, 0, 1, 0)
    assert compare([answer(boxes=flat['boxes'] + 1)], [flat], 9)['boxes'][:2] == (0, 6)


def test_images_are_put_together_by_the_worst():
    good, bad = answer(), answer(scores=[0.9, 0.5, 0.1])
    assert compare([good, bad], [good, good], max_per_img=9)['boxes'][:2] == (5, 2)
    expected = [dict(logits=np.array([1.0, -4.0])), dict(logits=np.array([2.0, 0.0]))]
    found = [expected[0], dict(logits=np.array([2.0, 0.003]))]
    total = compare(found, expected, max_per_img=None)['logits']
    assert total == ArrayAgreement(0.003, 4.0)
    assert total.is_same  # 0.003 of 4
    assert not ArrayAgreement(0.005, 4.0).is_same
    found[1] = dict(logits=np.array([2.0, np.nan]))
    assert not compare(found, expected, max_per_img=None)['logits'].is_same
