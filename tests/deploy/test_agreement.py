import numpy as np

from tresnet_det.deploy.agreement import ArrayAgreement, BoxAgreement, compare

BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 150, 150]], np.float32)
SCORES = np.array([0.9, 0.5, 0.3], np.float32)
LABELS = np.array([1, 0, 2])


def answer(boxes=BOXES, scores=SCORES, labels=LABELS):
    return dict(boxes=np.asarray(boxes), scores=np.asarray(scores), labels=np.asarray(labels))


def test_order_does_not_matter_and_small_differences_are_told():
    shifted = BOXES + np.array([0, 0, 0, 0.05], np.float32)  # a taller box: IoU 10 / 10.05
    order = [2, 0, 1]
    found = answer(shifted[order], SCORES[order] + np.float32(5e-5), LABELS[order])
    result = BoxAgreement.of(found, answer(), max_per_img=100)
    assert result.is_same
    assert (result.same, result.different) == (3, 0)
    assert abs(result.least_iou - 10 / 10.05) < 1e-6
    assert abs(result.score_difference - 5e-5) < 1e-6


def test_another_place_class_score_or_number_of_boxes_is_a_difference():
    moved = BOXES.copy()
    moved[0] += 1
    others = [
        answer(boxes=moved),
        answer(labels=[1, 1, 2]),
        answer(scores=[0.9, 0.51, 0.3]),
    ]
    for other in others:
        result = BoxAgreement.of(other, answer(), max_per_img=100)
        assert (result.same, result.different) == (2, 2)
        assert not result.is_same
    fewer = answer(BOXES[1:], SCORES[1:], LABELS[1:])
    assert BoxAgreement.of(fewer, answer(), max_per_img=100).different == 1


def test_the_last_of_a_full_list_may_be_another_of_the_same_score():
    other = BOXES.copy()
    other[2] += 500
    assert BoxAgreement.of(answer(boxes=other), answer(), max_per_img=3).is_same
    assert not BoxAgreement.of(answer(boxes=other), answer(), max_per_img=4).is_same


def test_no_boxes_at_all_agree():
    nothing = answer(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int))
    assert BoxAgreement.of(nothing, nothing, max_per_img=3) == (0, 0, 1, 0)


def test_photos_are_put_together_by_the_worst():
    good, bad = answer(), answer(scores=[0.9, 0.5, 0.1])
    total = compare([good, bad], [good, good], max_per_img=9)['boxes']
    assert (total.same, total.different) == (5, 2)
    logits = [dict(logits=np.array([1.0, -4.0])), dict(logits=np.array([2.0, 0.0]))]
    found = [dict(logits=np.array([1.0, -4.0])), dict(logits=np.array([2.0, 0.003]))]
    total = compare(found, logits, max_per_img=None)['logits']
    assert total == ArrayAgreement(0.003, 4.0)
    assert total.is_same  # 0.003 of 4
    assert not ArrayAgreement(0.005, 4.0).is_same
