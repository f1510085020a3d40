"""The variants by name, as timm creates its models; timm is the judge."""

import logging

import pytest
import timm
import torch
from safetensors.torch import save_file

from tresnet_det import ImageClassifier
from tresnet_det.backbone import create, tresnet_l, tresnet_m, tresnet_v2_l, tresnet_xl
from tresnet_det.backbone.create import PRETRAINED
from tresnet_det.errors import InputError

CREATE = dict(m=tresnet_m, l=tresnet_l, xl=tresnet_xl, v2_l=tresnet_v2_l)


@torch.no_grad()
@pytest.mark.usefixtures('undrawn')
def test_logits_and_feature_maps_are_timms_to_1e_5(timms_m):  # others: test_weight_formats.py
    theirs = timms_m
    ours = tresnet_m(theirs.state_dict(), num_classes=7).eval()
    x = torch.rand(2, 3, 64, 96)
    expected = theirs(x)
    assert expected.abs().max() > 0.01
    assert (ours(x) - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())
    ours = tresnet_m(theirs.state_dict(), features_only=True).eval()
    expected = theirs.forward_intermediates(x, [1, 2, 3, 4], intermediates_only=True)
    for ours_map, their_map in zip(ours(x), expected, strict=True):
        assert (ours_map - their_map).abs().max() <= 1e-5 * their_map.abs().max()


@torch.no_grad()
@pytest.mark.usefixtures('undrawn')
def test_without_classes_the_pooled_features_are_timms(timms_m):
    x = torch.rand(1, 3, 64, 64)
    expected = timms_m.forward_head(timms_m.forward_features(x), pre_logits=True)
    ours = tresnet_m(timms_m.state_dict(), num_classes=0).eval()
    assert ours(x).shape == (1, ours.num_features) == (1, 2048)
    assert (ours(x) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize('arch', ['m', 'v2_l'])
def test_channels_and_strides_are_timms_and_true(arch):
    chosen = (1, 3)
    with torch.device('meta'):
        theirs = timm.create_model(f'tresnet_{arch}', features_only=True)
        ours = CREATE[arch](features_only=True, out_indices=chosen)
        outputs = ours(torch.rand(1, 3, 64, 128))
    for ask in ('channels', 'reduction'):
        expected = getattr(theirs.feature_info, ask)()
        assert getattr(ours.feature_info, ask)() == [expected[i] for i in chosen]
    assert [y.shape[1] for y in outputs] == ours.feature_info.channels()
    assert [(64 // y.shape[2], 128 // y.shape[3]) for y in outputs] == [(8, 8), (32, 32)]
    modules = dict(ours.named_modules())
    assert [modules[f['module']] for f in ours.feature_info] == [ours.layer2, ours.layer4]


def test_true_means_the_weights_that_timm_loads_by_default():
    for arch, name in PRETRAINED.items():
        tag = timm.get_pretrained_cfg(f'tresnet_{arch}').tag
        assert name == f'timm://tresnet_{arch}.{tag}'


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(
        create,
        'print_log',
        lambda text, level: level == logging.WARNING and lines.append(text),
    )
    return lines


@pytest.mark.usefixtures('undrawn')
def test_the_hub_and_files_give_the_same_weights(timms_m, tmp_path, monkeypatch, warnings):
    save_file(timms_m.state_dict(), tmp_path / 'a.safetensors')
    monkeypatch.setattr(
        'huggingface_hub.hf_hub_download', lambda *args: str(tmp_path / 'a.safetensors')
    )
    expected = tresnet_m(timms_m.state_dict(), num_classes=7).state_dict()
    for source in (True, 'timm://tresnet_m.miil_in1k', tmp_path / 'a.safetensors'):
        loaded = tresnet_m(source, num_classes=7).state_dict()
        assert all(torch.equal(loaded[k], v) for k, v in expected.items())
    assert not warnings
    other = tresnet_m(tmp_path / 'a.safetensors', num_classes=3)
    assert torch.equal(other.backbone.conv1.conv.weight, expected['backbone.conv1.conv.weight'])
    assert other(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    (line,) = warnings
    assert '7 classes, the model has 3' in line


def test_a_trained_classifier_of_this_project_is_taken_with_its_head(tiny_arch, tmp_path, warnings):
    trained = ImageClassifier(
        dict(type='TResNet', arch=tiny_arch, out_indices=(3,)),
        dict(
            type='LinearClsHead',
            in_channels=512,
            num_classes=5,
            loss=dict(type='SoftmaxCrossEntropyLoss'),
        ),
    ).eval()
    torch.save({'state_dict': trained.state_dict(), 'meta': {}}, tmp_path / 'epoch_1.pth')
    ours = create.create_model(tiny_arch, tmp_path / 'epoch_1.pth', num_classes=5).eval()
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours(x), trained(x))
    no_head = trained.state_dict() | {'head.fc.weight': torch.tensor(1.0)}
    create.create_model(tiny_arch, no_head, num_classes=5)
    assert 'has a linear head of 0 classes, the model has 5' in warnings[-1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_classes=-1), 'num_classes must be at least 0'),
        (dict(num_classes=True), 'num_classes must be'),
        (dict(features_only=1), 'features_only must be True or False'),
        (dict(features_only=True, out_indices=(4,)), 'out_indices must be .* from 0 to 3'),
        (dict(features_only=True, out_indices=(1.0,)), 'out_indices must be .* from 0 to 3'),
        (dict(in_chans=0), 'in_channels is 0: give a whole number from 1'),
        (dict(in_chans=1, pretrained=True), r'in_chans=1 .* x\.expand\(-1, 3, -1, -1\)'),
        (dict(pretrained='no.pth'), r'no\.pth: no such checkpoint file'),
        (
            dict(pretrained='timm://tresnet_m.nonsense'),
            r'cannot get timm://tresnet_m\.nonsense .*timm/tresnet_m\.nonsense/resolve/main/model',
        ),
        (dict(pretrained='timm://tresnet_m'), 'timm://tresnet_m has no tag: timm://tresnet_m.'),
        (
            dict(pretrained='timm://tresnet_l.miil_in1k'),
            'weights of tresnet_l, not',
        ),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(options, message, monkeypatch):
    def refuse(*args):
        raise OSError('404\nand more')

    monkeypatch.setattr('huggingface_hub.hf_hub_download', refuse)
    with pytest.raises(InputError, match=message) as caught, torch.device('meta'):
        tresnet_m(**options)
    assert '\n' not in str(caught.value)


@pytest.mark.usefixtures('undrawn')
def test_a_file_of_another_arch_is_refused(timms_m):
    with pytest.raises(InputError, match='of another arch: the file has .*width 64'):
        tresnet_l(timms_m.state_dict())
