"""Edges of the box operators; test_ops_compiled holds their answers on ordinary input."""

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms, nms


def iou(a, b, offset=0):
    w = min(a[2], b[2]) - max(a[0], b[0]) + offset
    h = min(a[3], b[3]) - max(a[1], b[1]) + offset
    inter = max(w, 0) * max(h, 0)
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    return inter / (area_a + area_b - inter)


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


def test_offset_changes_which_boxes_overlap():
    # Without the offset they share a third (1/3), with it 6/12: between lies the threshold.
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.4, offset=0)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.4, offset=1)[1].tolist() == [0]


def test_an_overlap_equal_to_the_threshold_is_kept():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]])  # IoU exactly 0.5
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.5)[1].tolist() == [0, 1]


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


def test_soft_nms_in_batched_nms_returns_the_lowered_scores():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 2, 1]])
    scores = torch.tensor([0.8, 0.6, 0.4])
    cfg = {'type': 'soft_nms', 'iou_threshold': 0.3, 'min_score': 0.0}
    dets, keep = batched_nms(boxes, scores, torch.tensor([0, 0, 1]), cfg)
    assert keep.tolist() == [0, 2, 1]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.8, 0.4, 0.3]))
