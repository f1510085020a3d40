"""Box operators through mmcv's own functions, against loops in Python floats."""

import math

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, bbox_overlaps, nms, nms_match, soft_nms


def iou(a, b, offset=0, over_first=False):
    w = min(a[2], b[2]) - max(a[0], b[0]) + offset
    h = min(a[3], b[3]) - max(a[1], b[1]) + offset
    inter = max(w, 0) * max(h, 0)
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    return inter / (area_a if over_first else area_a + area_b - inter)


def brute_nms(boxes, scores, threshold, offset=0):
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept = []
    for i in order:
        if all(iou(boxes[k], boxes[i], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


def random_boxes(n, seed=0, size=10):
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, size, (n, 2), generator=generator)
    side = torch.randint(1, size, (n, 2), generator=generator)
    scores = torch.randperm(n, generator=generator).float() / n + 0.01
    return torch.cat((low, low + side), 1).float(), scores


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.3, 0.5])
def test_nms_keeps_what_the_loop_keeps(offset, threshold):
    boxes, scores = random_boxes(60)
    expected = brute_nms(boxes.tolist(), scores.tolist(), threshold, offset)
    dets, kept = nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == expected
    assert torch.equal(dets, torch.cat((boxes[expected], scores[expected, None]), 1))


def test_offset_changes_which_boxes_overlap():
    # Without the offset they share a third (1/3), with it 6/12: between lies the threshold.
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.4, offset=0)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.4, offset=1)[1].tolist() == [0]


def test_an_overlap_equal_to_the_threshold_is_kept():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]])  # IoU exactly 0.5
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.5)[1].tolist() == [0, 1]


def test_nms_filters_scores_and_counts():
    boxes, scores = random_boxes(40, seed=1)
    expected = [i for i in brute_nms(boxes.tolist(), scores.tolist(), 0.5) if scores[i] > 0.3]
    assert nms(boxes, scores, 0.5, score_threshold=0.3, max_num=3)[1].tolist() == expected[:3]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_nms_takes_other_dtypes_and_keeps_them(dtype):
    boxes, scores = random_boxes(30)  # small integers: exact in every dtype
    scores = torch.arange(30, 0, -1)[scores.argsort().argsort()] / 32
    expected = brute_nms(boxes.tolist(), scores.tolist(), 0.5, 1)
    dets, kept = nms(boxes.to(dtype), scores.to(dtype), 0.5, offset=1)
    assert (kept.tolist(), dets.dtype) == (expected, dtype)


def test_nms_of_nothing_is_nothing():
    dets, kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


def test_nms_takes_numpy_arrays():
    boxes, scores = random_boxes(20)
    dets, kept = nms(boxes.numpy(), scores.numpy(), 0.5)
    assert isinstance(dets, np.ndarray)
    assert kept.tolist() == brute_nms(boxes.tolist(), scores.tolist(), 0.5)


@pytest.mark.parametrize('class_agnostic', [False, True])
@pytest.mark.parametrize('split_thr', [10000, 10])
def test_batched_nms_keeps_classes_apart(class_agnostic, split_thr):
    boxes, scores = random_boxes(50, seed=2)
    labels = torch.arange(50) % 3
    # Below split_thr mmcv splits by class, whatever class_agnostic says.
    by_class = not class_agnostic or split_thr == 10
    kept = []
    for c in range(3 if by_class else 1):
        members = [i for i in range(50) if labels[i] == c or not by_class]
        local = brute_nms(boxes[members].tolist(), scores[members].tolist(), 0.4)
        kept += [members[i] for i in local]
    expected = sorted(kept, key=lambda i: -scores[i])[:6]
    cfg = {'type': 'nms', 'iou_threshold': 0.4, 'max_num': 6, 'split_thr': split_thr}
    dets, keep = batched_nms(boxes, scores, labels, cfg, class_agnostic=class_agnostic)
    assert keep.tolist() == expected
    assert torch.equal(dets, torch.cat((boxes[expected], scores[expected, None]), 1))


def test_batched_nms_without_a_config_only_sorts():
    boxes, scores = random_boxes(10)
    dets, keep = batched_nms(boxes, scores, torch.zeros(10), None)
    assert keep.tolist() == scores.argsort(descending=True).tolist()
    assert dets.shape == (10, 5)


def brute_soft_nms(boxes, scores, method, threshold, sigma, min_score, offset):
    left = dict(enumerate(scores))
    out = []
    while left:
        best = max(left, key=left.get)
        out.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[best], boxes[i], offset)
            if method == 'gaussian':
                left[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[i] *= 1 - overlap if method == 'linear' else 0
            if left[i] < min_score:
                del left[i]
    return out


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_follows_its_formula(method, offset):
    boxes, scores = random_boxes(30, seed=3)
    args = {'sigma': 0.5, 'min_score': 0.05, 'offset': offset}
    expected = brute_soft_nms(boxes.tolist(), scores.tolist(), method=method, threshold=0.3, **args)
    dets, kept = soft_nms(boxes, scores, iou_threshold=0.3, method=method, **args)
    assert kept.tolist() == [i for i, _ in expected]
    assert torch.equal(dets[:, :4], boxes[kept])
    torch.testing.assert_close(dets[:, 4], torch.tensor([s for _, s in expected]))


def test_soft_nms_in_batched_nms_returns_the_lowered_scores():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 2, 1]])
    scores = torch.tensor([0.8, 0.6, 0.4])
    cfg = {'type': 'soft_nms', 'iou_threshold': 0.3, 'min_score': 0.0}
    dets, keep = batched_nms(boxes, scores, torch.tensor([0, 0, 1]), cfg)
    assert keep.tolist() == [0, 2, 1]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.8, 0.4, 0.3]))


def test_soft_nms_of_nothing_is_nothing():
    dets, kept = soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)


def test_nms_match_groups_boxes_with_the_one_that_drops_them():
    boxes, scores = random_boxes(30, seed=4)
    plain, score = boxes.tolist(), scores.tolist()
    order = sorted(range(30), key=lambda i: -score[i])
    expected = []
    while order:
        kept = order.pop(0)
        joined = [i for i in order if iou(plain[kept], plain[i]) >= 0.4]
        order = [i for i in order if i not in joined]
        expected.append([kept, *joined])
    groups = nms_match(torch.cat((boxes, scores[:, None]), 1), 0.4)
    assert [group.tolist() for group in groups] == expected


@pytest.mark.parametrize('mode', ['iou', 'iof'])
@pytest.mark.parametrize('offset', [0, 1])
def test_bbox_overlaps_are_those_of_the_loop(mode, offset):
    first, second = random_boxes(5)[0], random_boxes(4, seed=1)[0]
    expected = [[iou(a, b, offset, mode == 'iof') for b in second.tolist()] for a in first.tolist()]
    got = bbox_overlaps(first, second, mode=mode, offset=offset)
    torch.testing.assert_close(got, torch.tensor(expected))
    aligned = bbox_overlaps(first[:4], second, mode=mode, aligned=True, offset=offset)
    torch.testing.assert_close(aligned, torch.tensor(expected)[:4].diagonal())
