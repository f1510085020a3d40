"""Focal losses against the formula in float64 with autograd."""

import pytest
import torch
from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss

TARGET = torch.tensor([0, 2, 1, 3, 2])  # 3 is background, for three classes
WEIGHT = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)


def logits(dtype=torch.float64):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    return x.to(dtype).requires_grad_()


def sigmoid_formula(x, gamma, alpha, weight=None):
    rows = []
    for n, t in enumerate(TARGET.tolist()):
        p = 1 / (1 + torch.exp(-x[n]))
        loss = -(1 - alpha) * p**gamma * torch.log(1 - p)
        if t < 3:
            positive = -alpha * (1 - p[t]) ** gamma * torch.log(p[t])
            loss = torch.cat((loss[:t], positive[None], loss[t + 1 :]))
            loss = loss * (1 if weight is None else weight[t])
        rows.append(loss)
    return torch.stack(rows)


@pytest.mark.parametrize('weight', [None, WEIGHT])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
@pytest.mark.parametrize('gamma', [2.0, 0.0])
def test_sigmoid_focal_loss_and_gradient_follow_the_formula(weight, reduction, gamma):
    x, y = logits(), logits()
    got = sigmoid_focal_loss(x, TARGET, gamma, 0.25, weight, reduction)
    expected = sigmoid_formula(y, gamma, 0.25, weight)
    if reduction != 'none':
        expected = expected.sum() / (5 if reduction == 'mean' else 1)
    torch.testing.assert_close(got, expected)
    upstream = torch.randn_like(got)
    got.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_sigmoid_focal_loss_keeps_its_dtype(dtype):
    x = logits(dtype)
    loss = sigmoid_focal_loss(x, TARGET, 2.0, 0.25, None, 'none')
    expected = sigmoid_formula(x.detach().double(), 2.0, 0.25)
    torch.testing.assert_close(loss, expected.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6)
    loss.sum().backward()
    assert x.grad.dtype == dtype


def test_extreme_logits_stay_finite():
    x = torch.tensor([[-300.0, 300.0, 0.0]]).requires_grad_()
    loss = sigmoid_focal_loss(x, torch.tensor([0]), 2.0, 0.25, None, 'none')
    loss.sum().backward()
    torch.testing.assert_close(loss[0, :2], torch.tensor([0.25 * 300, 0.75 * 300]))
    torch.testing.assert_close(x.grad[0, :2], torch.tensor([-0.25, 0.75]))


def test_no_rows_give_no_loss():
    loss = sigmoid_focal_loss(torch.zeros(0, 3), TARGET[:0], 2.0, 0.25, None, 'sum')
    assert loss == 0


@pytest.mark.parametrize('weight', [None, WEIGHT])
@pytest.mark.parametrize('gamma', [2.0, 0.5, 0.0])
def test_softmax_focal_loss_and_gradient_follow_the_formula(weight, gamma):
    target = torch.tensor([0, 2, 1, -1, 2])  # a negative target has no loss
    x, y = logits(), logits()
    got = softmax_focal_loss(x, target, gamma, 0.25, weight, 'sum')
    rows = [0, 1, 2, 4]
    p = y.softmax(1)[rows, target[rows]]
    factor = 1 if weight is None else weight[target[rows]]
    expected = (-0.25 * (1 - p) ** gamma * p.log() * factor).sum()
    torch.testing.assert_close(got, expected)
    got.backward()
    expected.backward()
    torch.testing.assert_close(x.grad, y.grad)
