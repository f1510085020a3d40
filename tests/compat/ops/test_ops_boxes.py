"""Edges of the box operators; test_ops_compiled holds their answers on ordinary input."""

import pytest
import torch
from mmcv.ops import nms


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_nms_takes_other_dtypes_and_keeps_them(dtype):
    boxes, scores = random_boxes(30)  # small integers: exact in every dtype
    scores = torch.arange(30, 0, -1)[scores.argsort().argsort()] / 32
    _, expected = nms(boxes, scores, 0.5, offset=1)
    dets, kept = nms(boxes.to(dtype), scores.to(dtype), 0.5, offset=1)
    assert torch.equal(kept, expected)
    assert dets.dtype == dtype


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


def test_nms_of_nothing_is_nothing():
    dets, kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64
