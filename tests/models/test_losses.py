"""The losses by their formulas in float64, at the edges of half precision, and their labels."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import nn

from tresnet_det import AsymmetricLoss, SingleLabelAsymmetricLoss
from tresnet_det.errors import InputError
from tresnet_det.models import SoftmaxCrossEntropyLoss

HALVES = [torch.float16, torch.bfloat16]


def multi_label_batch(n=6, classes=10, scale=3.0, dtype=torch.float32):
    logits = (torch.randn(n, classes) * scale).to(dtype).requires_grad_()
    return logits, (torch.rand(n, classes) < 0.3).long()


def asl_by_loop(logits, labels, gamma_neg, gamma_pos, clip, weight_of=None):
    """The paper's formula, one label at a time in float64; the weight's logits may be others."""
    total = 0
    weight_logits = logits if weight_of is None else weight_of
    for x, x_weight, y in zip(
        logits.flatten(), weight_logits.flatten(), labels.flatten(), strict=True
    ):
        p, p_weight = 1 / (1 + (-x).exp()), 1 / (1 + (-x_weight).exp())
        if y == 1:
            total = total - (1 - p_weight) ** gamma_pos * p.log()
        elif y == 0 and p > clip:
            total = total - (p_weight - clip) ** gamma_neg * (1 - (p - clip)).log()
    return total


@pytest.mark.parametrize('detach', [True, False])
@pytest.mark.parametrize(
    ('gamma_neg', 'gamma_pos', 'clip'), [(4, 1, 0.05), (0, 0, 0.0), (2, 2, 0.0), (1.5, 0.5, 0.2)]
)
def test_asl_has_the_papers_value_and_gradient(gamma_neg, gamma_pos, clip, detach):
    logits, labels = multi_label_batch()
    loss = AsymmetricLoss(gamma_neg, gamma_pos, clip, detach_focal_weight=detach)(logits, labels)
    loss.backward()

    exact = logits.detach().double().requires_grad_()
    constant = exact.detach() if detach else None
    expected = asl_by_loop(exact, labels, gamma_neg, gamma_pos, clip, weight_of=constant)
    expected.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ('loss', 'labels'),
    [
        *(
            (dict(type='MultiLabelLoss', preset=p, detach_focal_weight=d), [[1, 1, 0, 0, 1]])
            for p in ('bce', 'focal', 'asl')
            for d in (True, False)
        ),
        (dict(type='SoftmaxCrossEntropyLoss', label_smoothing=0.1), [1]),
        (dict(type='SingleLabelAsymmetricLoss'), [1]),
    ],
    ids=str,
)
@pytest.mark.parametrize('dtype', HALVES)
def test_losses_are_finite_at_logits_of_50_in_half_precision(loss, labels, dtype):
    logits = torch.tensor([[50.0, -50.0, 50.0, -50.0, 0.0]], dtype=dtype, requires_grad=True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = MODELS.build(loss)(logits, torch.tensor(labels))
    assert value.dtype == torch.float32
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    'loss',
    [AsymmetricLoss(0.5, 0.5, clip=0.05, detach_focal_weight=False), AsymmetricLoss(clip=1e-8)],
    ids=['power under one', 'shift that float32 cannot show'],
)
@pytest.mark.parametrize('labels', [[1, 0], [0, 1]])
def test_no_gradient_is_infinite_at_certainty(loss, labels):
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss(logits, torch.tensor([labels])).backward()
    assert torch.isfinite(logits.grad).all()


def test_the_logarithm_is_bounded():
    loss = AsymmetricLoss(0, 0, 0)(torch.tensor([[-50.0, 50.0]]), torch.tensor([[1, 0]]))
    assert loss.item() == pytest.approx(-2 * math.log(1e-8), rel=1e-6)


def test_the_focal_preset_has_the_gradient_of_the_focal_loss_where_its_weight_is_not_detached():
    from torchvision.ops import sigmoid_focal_loss

    logits, labels = multi_label_batch()
    loss = MODELS.build(dict(type='MultiLabelLoss', preset='focal', detach_focal_weight=False))
    ours = torch.autograd.grad(loss(logits, labels), logits)[0]
    theirs = sigmoid_focal_loss(logits, labels.float(), alpha=-1, gamma=2, reduction='sum')
    torch.testing.assert_close(ours, torch.autograd.grad(theirs, logits)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ('preset', 'arguments'), [('bce', (0, 0, 0)), ('focal', (2, 2, 0)), ('asl', (4, 1, 0.05))]
)
def test_presets_are_the_authors_ladder(preset, arguments):
    logits, labels = multi_label_batch()
    by_name = MODELS.build(dict(type='MultiLabelLoss', preset=preset, reduction='mean'))
    assert torch.equal(
        by_name(logits, labels), AsymmetricLoss(*arguments, reduction='mean')(logits, labels)
    )


def test_unknown_labels_give_neither_loss_nor_gradient_nor_count():
    logits, labels = multi_label_batch()
    labels[0, :4] = -1
    labels[3] = -1
    known = labels >= 0
    alone = AsymmetricLoss(reduction='sum')(logits[known][None], labels[known][None])
    total = AsymmetricLoss(reduction='sum')(logits, labels)
    torch.testing.assert_close(total, alone)
    mean = AsymmetricLoss(reduction='mean')(logits, labels)
    torch.testing.assert_close(mean, alone / known.sum())
    mean.backward()
    assert (logits.grad[~known] == 0).all()
    assert (logits.grad[labels == 1] != 0).all()


@pytest.mark.parametrize('reduction', ['sum', 'mean', 'batch_mean'])
@pytest.mark.parametrize('shape', [(3, 5), (0, 5)])
def test_nothing_known_is_a_loss_of_zero(reduction, shape):
    logits = torch.randn(shape, requires_grad=True)
    loss = AsymmetricLoss(reduction=reduction)(logits, torch.full(shape, -1))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_reductions_divide_the_sum_by_images_or_by_labels():
    logits, labels = multi_label_batch(n=6, classes=10)
    total, batch_mean, mean = (
        AsymmetricLoss(reduction=r)(logits, labels) for r in ('sum', 'batch_mean', 'mean')
    )
    torch.testing.assert_close(batch_mean, total / 6)
    torch.testing.assert_close(mean, total / 60)


@pytest.mark.parametrize('dtype', [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_labels_may_have_any_type(dtype):
    logits, labels = multi_label_batch()
    loss = AsymmetricLoss()
    assert torch.equal(loss(logits, labels.to(dtype)), loss(logits, labels))


def asl_single_by_loop(logits, labels, gamma_pos, gamma_neg, smoothing):
    total = 0
    n, classes = logits.shape
    for row, label in zip(logits, labels, strict=True):
        p = row.exp() / row.exp().sum()
        for c in range(classes):
            target = smoothing / classes + (1 - smoothing) * (c == label)
            weight = (1 - p[c]) ** gamma_pos if c == label else p[c] ** gamma_neg
            total = total - target * weight * p[c].log()
    return total / n


@pytest.mark.parametrize(('gamma_pos', 'gamma_neg', 'smoothing'), [(0, 4, 0.1), (1, 2, 0.0)])
def test_single_label_asl_has_the_value_and_gradient_of_its_formula(
    gamma_pos, gamma_neg, smoothing
):
    logits, labels = torch.randn(5, 4, requires_grad=True), torch.tensor([0, 3, 1, 1, 2])
    loss = SingleLabelAsymmetricLoss(gamma_pos, gamma_neg, smoothing)(logits, labels)
    loss.backward()
    exact = logits.detach().double().requires_grad_()
    expected = asl_single_by_loop(exact, labels, gamma_pos, gamma_neg, smoothing)
    expected.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing):
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    loss = SoftmaxCrossEntropyLoss(label_smoothing=smoothing)
    expected = nn.CrossEntropyLoss(label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, labels), expected(logits, labels))
    soft = torch.rand(5, 4).softmax(1)
    torch.testing.assert_close(loss(logits, soft), expected(logits, soft))


@pytest.mark.parametrize('loss', [SoftmaxCrossEntropyLoss(0.1), SingleLabelAsymmetricLoss()])
def test_soft_labels_of_one_class_are_that_class(loss):
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    torch.testing.assert_close(loss(logits, F.one_hot(labels, 4).float()), loss(logits, labels))


@pytest.mark.parametrize('kind', [SoftmaxCrossEntropyLoss, SingleLabelAsymmetricLoss])
def test_images_of_unknown_class_give_neither_loss_nor_gradient_nor_count(kind):
    logits = torch.randn(5, 4, requires_grad=True)
    labels = torch.tensor([0, -1, 1, -1, 2])
    soft = F.one_hot(labels.clamp(min=0), 4).float()
    soft[labels == -1] = -1
    for given in (labels, soft):
        logits.grad = None
        loss = kind(label_smoothing=0.1)(logits, given)
        torch.testing.assert_close(loss, kind(label_smoothing=0.1)(logits[::2], labels[::2]))
        total = kind(label_smoothing=0.1, reduction='sum')(logits, given)
        torch.testing.assert_close(total, loss * 3)
        loss.backward()
        assert (logits.grad[1::2] == 0).all()
        assert kind()(logits, torch.full_like(given, -1)) == 0


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(type='AsymmetricLoss', gamma_neg=-1), 'gamma_neg is -1: give a number from 0'),
        (dict(type='AsymmetricLoss', gamma_pos=float('nan')), 'gamma_pos is nan'),
        (dict(type='AsymmetricLoss', clip=1.0), 'clip is 1.0: give a number from 0, below 1'),
        (dict(type='AsymmetricLoss', reduction='none'), "unknown reduction 'none'"),
        (dict(type='MultiLabelLoss', preset='ce'), "unknown preset 'ce'"),
        (dict(type='SoftmaxCrossEntropyLoss', label_smoothing=2), 'label_smoothing is 2'),
        (dict(type='SoftmaxCrossEntropyLoss', reduction='batch_mean'), 'unknown reduction'),
        (dict(type='SingleLabelAsymmetricLoss', gamma_neg=-2), 'gamma_neg is -2'),
    ],
)
def test_wrong_arguments_are_named_in_one_line(cfg, message):
    with pytest.raises(InputError, match=message) as caught:
        MODELS.build(cfg)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('loss', 'labels', 'message'),
    [
        (AsymmetricLoss(), torch.zeros(2, dtype=torch.long), r'of shape \(2, 4\): got \(2,\)'),
        (SoftmaxCrossEntropyLoss(), torch.zeros(2, 4).long(), r'of shape \(2,\): got \(2, 4\)'),
        (SoftmaxCrossEntropyLoss(), torch.zeros(2, 3), r'of shape \(2, 4\): got \(2, 3\)'),
    ],
)
def test_labels_of_another_shape_are_an_error(loss, labels, message):
    with pytest.raises(InputError, match=message):
        loss(torch.randn(2, 4), labels)


@pytest.mark.parametrize(
    ('loss', 'labels', 'message'),
    [
        (AsymmetricLoss(), torch.tensor([[0, 1, 2, 0]]), 'holds 2: it takes 1'),
        (AsymmetricLoss(), torch.tensor([[0, 0.5, 1, 0]]), 'holds 0.5'),
        (AsymmetricLoss(), torch.tensor([[0, 1, 0]]), 'needs 4 values an image'),
        (AsymmetricLoss(), torch.tensor([3]), 'needs 4 values an image'),
        (SoftmaxCrossEntropyLoss(), torch.tensor([0, 4]), 'gt_label 4 is no class: .* 0 to 3'),
        (SoftmaxCrossEntropyLoss(), torch.tensor([-2]), 'gt_label -2 is no class'),
        (SoftmaxCrossEntropyLoss(), torch.tensor([[1.0, 1, 0, 0]]), 'has the sum 2, not 1'),
        (SoftmaxCrossEntropyLoss(), torch.tensor([[1, 0, 0, 0]]), 'must be a class number'),
        (SoftmaxCrossEntropyLoss(), torch.tensor([1.0]), 'must be a class number'),
    ],
)
def test_a_check_names_labels_that_the_loss_does_not_take(loss, labels, message):
    with pytest.raises(InputError, match=message) as caught:
        loss.check_labels(labels, num_classes=4)
    assert '\n' not in str(caught.value)


def test_a_check_passes_labels_that_the_loss_takes():
    AsymmetricLoss().check_labels(torch.tensor([[0, 1, -1, 0]]), 4)
    AsymmetricLoss().check_labels(torch.tensor([[0, 1, 0, 0]]).bool(), 4)
    SoftmaxCrossEntropyLoss().check_labels(torch.tensor([0, 3, -1]), 4)
    SoftmaxCrossEntropyLoss().check_labels(torch.tensor([[0.3, 0.7, 0, 0], [-1] * 4]), 4)
