"""ImageClassifier: logits, losses, training steps, labels and preprocessing of both tasks."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.optim import OptimWrapper
from torch import nn

from tresnet_det import ImageClassifier
from tresnet_det.checkpoints import load_backbone_weights
from tresnet_det.checkpoints.img_norm import IMG_NORM_CFG, read_img_norm
from tresnet_det.errors import InputError
from tresnet_det.models import ClsDataPreprocessor, ClsDataSample

CLASSES = 5
ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)  # 512 channels at the end
LINEAR = dict(type='LinearClsHead', in_channels=512, num_classes=CLASSES)
SINGLE = dict(LINEAR, loss=dict(type='SoftmaxCrossEntropyLoss', label_smoothing=0.1))
MULTI = dict(LINEAR, loss=dict(type='AsymmetricLoss', reduction='mean'))
DECODER = dict(MULTI, type='MLDecoderHead', embed_dims=64, num_groups=3)
HEADS = {'single': SINGLE, 'multi': MULTI, 'decoder': DECODER}


def classifier(head='single', **kwargs):
    return ImageClassifier(dict(type='TResNet', arch=ARCH), HEADS[head], **kwargs)


def labels_of(head, n):
    if head == 'single':
        return torch.arange(n) % CLASSES
    labels = (torch.arange(n)[:, None] + torch.arange(CLASSES)) % 3 == 0
    return labels.long()


def samples_of(head, n=4):
    return [
        ClsDataSample(gt_label=label, metainfo=dict(img_path=f'{i}.jpg'))
        for i, label in enumerate(labels_of(head, n))
    ]


def batch_of(head, n=4):
    """What a data loader of MMEngine's gives: 8-bit images and their samples."""
    images = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=samples_of(head, n))


@pytest.mark.parametrize('head', HEADS)
def test_logits_loss_and_scores_are_the_heads_of_the_last_feature_map(head):
    model, samples = classifier(head).eval(), samples_of(head)
    x = torch.rand(4, 3, 32, 32)
    logits = model(x)
    assert logits.shape == (4, CLASSES)
    torch.testing.assert_close(logits, model.head(model.backbone(x)))
    loss = model(x, samples, mode='loss')['loss']
    torch.testing.assert_close(loss, model.head.loss_module(logits, labels_of(head, 4)))
    predictions = model(x, samples, mode='predict')
    expected = logits.softmax(1) if head == 'single' else logits.sigmoid()
    torch.testing.assert_close(torch.stack([p.pred_score for p in predictions]), expected)
    for prediction, sample in zip(predictions, samples, strict=True):
        assert prediction.img_path == sample.img_path
        assert torch.equal(prediction.gt_label, sample.gt_label)
        assert 'pred_score' not in sample  # copies
    assert [p.keys() for p in model(x, mode='predict')] == [['pred_score']] * 4
    other = classifier(head).eval()
    other.load_state_dict(model.state_dict())
    for same in (copy.deepcopy(model), other):
        assert torch.equal(same(x), logits)


@pytest.mark.parametrize('amp', [False, True], ids=['float32', 'bfloat16'])
@pytest.mark.parametrize('head', HEADS)
def test_a_training_step_lowers_the_loss(head, amp):
    model, batch = classifier(head).train(), batch_of(head)
    for module in model.head.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.01)
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=amp):
        wrapper = OptimWrapper(optimizer)
        losses = [model.train_step(batch, wrapper)['loss'].item() for _ in range(2)]
    assert losses[1] < losses[0]


def test_any_backbone_of_mmdetections_will_do():
    backbone = dict(type='ResNet', depth=18, base_channels=16, out_indices=(1, 3))
    model = ImageClassifier(backbone, dict(SINGLE, in_channels=128))
    losses = model(torch.rand(2, 3, 32, 32), samples_of('single', 2), mode='loss')
    assert losses['loss'].isfinite()


def test_backbone_weights_load_without_a_warning(caplog):
    model = classifier()
    source = classifier()
    with caplog.at_level('WARNING', logger='mmengine'):
        load_backbone_weights(model, source.backbone.state_dict())
    assert not caplog.records
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(model.eval().extract_feat(x), source.eval().extract_feat(x))


def test_it_is_built_from_mmdets_registry_and_from_modules():
    cfg = dict(type='ImageClassifier', backbone=dict(type='TResNet', arch=ARCH), head=SINGLE)
    before = copy.deepcopy(cfg)
    model = MODELS.build(dict(cfg, data_preprocessor=dict(bgr_to_rgb=True)))
    assert cfg == before
    assert isinstance(model.data_preprocessor, ClsDataPreprocessor)
    assert read_img_norm(model.data_preprocessor) == IMG_NORM_CFG
    other = ImageClassifier(model.backbone, model.head, model.data_preprocessor)
    assert other.backbone is model.backbone


@pytest.mark.parametrize(
    ('head', 'samples', 'message'),
    [
        ('single', None, 'needs data samples with gt_label'),
        ('single', [ClsDataSample(metainfo=dict(img_path='a.jpg'))], 'a.jpg has no gt_label'),
        ('single', [ClsDataSample(gt_label=5)], 'gt_label 5 is no class: .* from 0 to 4'),
        ('single', [ClsDataSample(gt_label=[1, 0, 1, 0, 0])], 'use a multi-label loss'),
        ('multi', [ClsDataSample(gt_label=3)], 'needs 5 values an image'),
        ('multi', [ClsDataSample(gt_label=[1, 0, 2, 0, 0])], 'holds 2'),
        ('multi', [ClsDataSample(gt_label=3), ClsDataSample(gt_label=[1])], 'differ in shape'),
    ],
)
def test_wrong_labels_are_named_in_one_line(head, samples, message):
    with pytest.raises(InputError, match=message) as caught:
        classifier(head)(torch.rand(1, 3, 32, 32), samples, mode='loss')
    assert '\n' not in str(caught.value)


def test_a_data_sample_makes_a_tensor_of_its_label():
    assert torch.equal(ClsDataSample(gt_label=3).gt_label, torch.tensor(3))
    sample = ClsDataSample(gt_label=[1, 0, -1], metainfo=dict(img_path='a.jpg'))
    assert torch.equal(sample.gt_label, torch.tensor([1, 0, -1]))
    assert sample.keys() == ['gt_label']
    assert torch.equal(sample.to('cpu').gt_label, sample.gt_label)
    del sample.gt_label
    assert sample.keys() == []
    with pytest.raises(InputError, match="got 'cat'"):
        ClsDataSample(gt_label='cat')


@pytest.mark.parametrize('collate', [pseudo_collate, default_collate])
def test_images_are_normalised_after_their_channels_are_swapped(collate):
    images = torch.randint(256, (2, 3, 4, 6), dtype=torch.uint8)
    data = collate([dict(inputs=p) for p in images])
    mean, std = [10, 20, 30], [50, 60, 70]
    inputs = ClsDataPreprocessor(mean, std, bgr_to_rgb=True)(data)['inputs']
    assert inputs.dtype == torch.float32
    for channel in range(3):
        expected = (images[:, 2 - channel].float() - mean[channel]) / std[channel]
        torch.testing.assert_close(inputs[:, channel], expected)


def test_the_callers_data_is_not_changed():
    batch = batch_of('single')
    batch['inputs'] = [image.float() for image in batch['inputs']]
    before = copy.deepcopy(batch)
    preprocessor = ClsDataPreprocessor(mixup_alpha=1.0, num_classes=CLASSES)
    preprocessor(batch, training=True)
    assert all(torch.equal(a, b) for a, b in zip(batch['inputs'], before['inputs'], strict=True))
    for sample, old in zip(batch['data_samples'], before['data_samples'], strict=True):
        assert torch.equal(sample.gt_label, old.gt_label)


@pytest.mark.parametrize('augment', ['mixup', 'cutmix', 'both'])
def test_mixed_images_have_labels_mixed_by_the_same_share(augment):
    alphas = dict(
        mixup_alpha=1.0 if augment != 'cutmix' else 0.0,
        cutmix_alpha=1.0 if augment != 'mixup' else 0.0,
    )
    preprocessor = ClsDataPreprocessor(num_classes=CLASSES, channels_last=True, **alphas)
    # Images of one value each, 0 / 255 to 3 / 255: their mean tells the share.
    images = [torch.full((3, 8, 8), i, dtype=torch.uint8) for i in range(4)]
    data = preprocessor(dict(inputs=images, data_samples=samples_of('single')), training=True)
    assert data['inputs'].is_contiguous(memory_format=torch.channels_last)
    for image, sample in zip(data['inputs'], data['data_samples'], strict=True):
        assert sample.gt_label.sum().item() == pytest.approx(1)
        expected = (sample.gt_label[:4] * torch.arange(4)).sum() / 255
        torch.testing.assert_close(image.mean(), expected, rtol=1e-4, atol=1e-6)
    loss = classifier(head='single')(
        data['inputs'].repeat(1, 1, 4, 4), data['data_samples'], 'loss'
    )
    assert loss['loss'].isfinite()


def test_nothing_is_mixed_outside_training():
    preprocessor = ClsDataPreprocessor(mixup_alpha=1.0, num_classes=CLASSES)
    batch = batch_of('single')
    data = preprocessor(batch)
    assert torch.equal(data['inputs'], ClsDataPreprocessor()(batch)['inputs'])
    assert data['data_samples'] is batch['data_samples']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(mean=[0, 0]), 'need 3 values each, or 1'),
        (dict(std=[255, 255, 0]), 'std above 0'),
        (dict(mean=[0]), 'need 3 values each, or 1'),
        (dict(mixup_alpha=-1), 'mixup_alpha is -1: give a number from 0'),
        (dict(cutmix_alpha=1), 'need num_classes of the data preprocessor'),
    ],
)
def test_wrong_arguments_are_named_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        ClsDataPreprocessor(**arguments)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('shapes', 'message'),
    [
        ([], 'a batch without images'),
        ([(3, 8, 8), (3, 8, 9)], 'differ in shape.* use batch size 1'),
        ([(1, 8, 8)], r'takes \(N, 3, H, W\), got \(1, 1, 8, 8\)'),
        ([(8, 8)], r'takes \(N, 3, H, W\), got \(1, 8, 8\)'),
    ],
)
def test_images_that_do_not_fit_are_named_in_one_line(shapes, message):
    with pytest.raises(InputError, match=message) as caught:
        ClsDataPreprocessor()(dict(inputs=[torch.zeros(shape) for shape in shapes]))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('label', [[1, 0, 0, 1, 0], -1, CLASSES])
def test_mixup_refuses_other_labels_than_known_single_ones(label):
    preprocessor = ClsDataPreprocessor(mixup_alpha=1.0, num_classes=CLASSES)
    data = dict(inputs=torch.zeros(1, 3, 8, 8), data_samples=[ClsDataSample(gt_label=label)])
    with pytest.raises(InputError, match='need one known class number an image, from 0 to 4'):
        preprocessor(data, training=True)
