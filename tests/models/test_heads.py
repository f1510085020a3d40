"""LinearClsHead: logits, logged losses, and the weights that it takes."""

import pytest
import timm
import torch
from mmengine.model import BaseModel
from torch import nn

from tresnet_det import AsymmetricLoss, LinearClsHead
from tresnet_det.checkpoints import load_head_weights
from tresnet_det.errors import InputError, MissingFileError

SOFTMAX = dict(type='SoftmaxCrossEntropyLoss')


def linear(loss=SOFTMAX, in_channels=16, num_classes=5, **kwargs):
    return LinearClsHead(in_channels, num_classes, loss, **kwargs)


def test_logits_are_those_of_the_mean_over_the_image_in_both_layouts():
    head = linear()
    x = torch.randn(3, 16, 4, 6)
    expected = x.flatten(2).mean(2) @ head.fc.weight.T + head.fc.bias
    torch.testing.assert_close(head(x), expected)
    torch.testing.assert_close(head(x.to(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize('reduction', ['sum', 'batch_mean', 'mean'])
def test_a_multi_label_loss_is_logged_by_its_sum_and_its_mean_whatever_the_reduction(reduction):
    x = torch.randn(2, 16, 4, 4)
    labels = torch.tensor([[1, 0, 1, 0, -1], [0, 0, -1, -1, 1]])
    head = linear(dict(type='AsymmetricLoss', reduction=reduction))
    losses = head.loss(x, labels)
    # Of two images, seven labels are known.
    alone = AsymmetricLoss(reduction='sum')(head(x), labels).item()
    assert losses['sum_of_labels'].item() == pytest.approx(alone)
    assert losses['mean_of_labels'].item() == pytest.approx(alone / 7)
    assert not losses['mean_of_labels'].requires_grad
    total, logged = BaseModel.parse_losses(None, losses)
    assert total.item() == losses['loss'].item()
    assert {'sum_of_labels', 'mean_of_labels'} < set(logged)


def test_dropout_works_in_training_only():
    head, x = linear(dropout=0.5), torch.randn(2, 16, 4, 4)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


def test_timms_classifier_is_read_and_classifies_alike(tmp_path):
    theirs = timm.create_model('tresnet_m', num_classes=7).eval()
    nn.init.normal_(theirs.head.fc.weight)
    head = linear(in_channels=2048, num_classes=7)
    path = tmp_path / 'timm.pth'
    torch.save(theirs.state_dict(), path)
    load_head_weights(head, path)
    x = torch.randn(2, 2048, 3, 3)
    torch.testing.assert_close(head(x), theirs.forward_head(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('nest', ['model', 'state_dict'])
def test_init_cfg_reads_the_head_of_a_checkpoint(tmp_path, nest):
    source, path = linear(), tmp_path / 'asl.pth'
    weights = {f'module.head.{k}': v for k, v in source.state_dict().items()}
    torch.save({nest: dict(weights, other=torch.zeros(1))}, path)
    target = linear(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    target.init_weights()
    assert torch.equal(target.fc.weight, source.fc.weight)
    assert torch.equal(target.fc.bias, source.fc.bias)


def test_a_head_that_does_not_fit_is_named_in_one_line(tmp_path):
    weights = {f'head.{k}': v for k, v in linear().state_dict().items()}
    cases = [
        (
            weights,
            linear(num_classes=6),
            r'fc.weight is \(6, 16\) in the model and \(5, 16\) in the file',
        ),
        ({'body.conv1.0.weight': torch.zeros(1)}, linear(), "no key begins with 'head.'"),
        (
            {'head.fc.weight': torch.zeros(5, 16)},
            linear(),
            r'1 missing \(fc.bias\).*no LinearClsHead with 5 classes',
        ),
        (dict(weights, **{'head.x': torch.zeros(1)}), linear(), r'1 unexpected \(x\)'),
    ]
    for source, head, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            load_head_weights(head, source)
        assert '\n' not in str(caught.value)
    with pytest.raises(MissingFileError):
        load_head_weights(linear(), tmp_path / 'none.pth')
    wrong = linear(init_cfg=dict(type='Pretrained', checkpoint='x.pth', prefix='head'))
    with pytest.raises(InputError, match=r"not \['prefix'\]"):
        wrong.init_weights()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_classes=0), 'num_classes of LinearClsHead must be at least 1, got 0'),
        (dict(in_channels=0), 'in_channels of LinearClsHead must be at least 1'),
        (dict(init_cfg=dict(checkpoint='x.pth')), 'init_cfg must be a dict with a type'),
        (dict(dropout=1.0), 'dropout is 1.0: give a number from 0, below 1'),
        (dict(loss=nn.CrossEntropyLoss()), 'CrossEntropyLoss is no loss for LinearClsHead: use'),
    ],
)
def test_wrong_arguments_are_named_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        linear(**arguments)
    assert '\n' not in str(caught.value)


def test_a_feature_map_of_other_channels_is_an_error():
    with pytest.raises(InputError, match=r'takes \(N, 16, H, W\), the backbone gives \(2, 8, 4, 4'):
        linear()(torch.randn(2, 8, 4, 4))


def test_a_head_of_ones_own_with_other_outputs_than_classes_is_an_error():
    head = LinearClsHead(4, 3, dict(type='AsymmetricLoss'))
    head.num_classes = 5  # as where the linear layer has a number of its own
    with pytest.raises(InputError, match=r'LinearClsHead returns \(2, 3\), .* num_classes is 5'):
        head.loss(torch.rand(2, 4, 1, 1), torch.ones(2, 5))
