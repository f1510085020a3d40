"""Weights between the formats. What every published file must hold is in the weights' own tests."""

import re

import pytest
import timm
import torch
from mmdet.registry import MODELS
from torch import nn

from tresnet_det import TResNet
from tresnet_det.checkpoints import load_backbone_weights, to_timm
from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.models.conv_norm import iterate_norms

ARCH = dict(depths=(1, 2, 1, 1), width_factor=0.25)


def backbone(norm='InPlaceABN', **kwargs):
    model = TResNet(arch=ARCH, norm_cfg=dict(type=norm), **kwargs).eval()
    for module in iterate_norms(model):
        nn.init.uniform_(module.weight, 0.3, 1.2)
        nn.init.normal_(module.bias, std=0.2)
        module.running_mean.normal_(std=0.3)
        module.running_var.uniform_(0.5, 2)
    return model


def flip_some_weights(model):
    with torch.no_grad():
        for module in iterate_norms(model):
            module.weight[::3] *= -1
    return model


def assert_same_outputs(first, second, tolerance=1e-5):
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(first(x), second(x), strict=True):
            assert b.abs().max() > 0.1
            assert (a - b).abs().max() <= tolerance * b.abs().max()


def to_official(state_dict):
    """The published key names: ABNs and convolutions numbered in nested sequences."""
    renamed = {}
    for key, value in state_dict.items():
        has_blur = re.match(r'layer[23]\.0\.conv1|layer[34]\.0\.conv2', key) and (
            # the strided convolution of a block is followed by the blur, one level deeper
            ('layer2' in key and 'conv1' in key) or ('layer2' not in key and 'conv2' in key)
        )
        deeper = '0.' if has_blur else ''
        key = re.sub(r'conv(\d)\.conv\.', rf'conv\1.{deeper}0.', key)
        key = re.sub(r'conv(\d)\.abn\.', rf'conv\1.{deeper}1.', key)
        key = re.sub(r'downsample\.(\d)\.conv\.', r'downsample.\1.0.', key)
        key = re.sub(r'downsample\.(\d)\.abn\.', r'downsample.\1.1.', key)
        renamed[f'body.{key}'] = value
    return renamed | {'head.fc.weight': torch.zeros(10, 512), 'head.fc.bias': torch.zeros(10)}


def test_an_abn_checkpoint_gives_a_batch_norm_network_the_same_outputs():
    source = flip_some_weights(backbone())
    target = backbone('BN')
    target.load_state_dict(source.state_dict())
    assert_same_outputs(target, source)


def test_a_batch_norm_checkpoint_with_negative_scales_gives_an_abn_network_the_same_outputs():
    source = flip_some_weights(backbone('BN'))
    target = backbone()
    target.load_state_dict(source.state_dict())
    assert_same_outputs(target, source)


@pytest.mark.parametrize('eps', [1e-5, 1e-2])
def test_the_conversion_is_that_of_the_norms_own_eps(eps):
    source = TResNet(arch=ARCH, norm_cfg=dict(type='BN', eps=eps)).eval()
    target = TResNet(arch=ARCH, norm_cfg=dict(type='InPlaceABN', eps=eps)).eval()
    for module in iterate_norms(source):
        nn.init.uniform_(module.weight, 0.3, 1.2)
    target.load_state_dict(source.state_dict())
    assert_same_outputs(target, source)


def test_a_classifier_beside_the_backbone_is_passed_over():
    source = backbone()
    weights = source.state_dict() | {'head.fc.weight': torch.zeros(3, 512)}
    target = backbone()
    load_backbone_weights(target, weights)
    assert_same_outputs(target, source, tolerance=0)
    assert [k for k in to_timm(weights) if 'head' in k] == ['head.fc.weight']


def test_loading_does_not_change_the_callers_state_dict():
    state_dict = flip_some_weights(backbone('BN')).state_dict()
    before = {k: v.clone() for k, v in state_dict.items()}
    backbone().load_state_dict(state_dict)
    assert state_dict.keys() == before.keys()
    assert all(torch.equal(state_dict[k], before[k]) for k in before)


def test_the_official_format_loads_with_its_absolute_scales():
    source = flip_some_weights(backbone())
    official = to_official(source.state_dict())
    assert 'body.layer2.0.conv1.0.1.weight' in official
    assert 'body.layer3.0.conv2.0.0.weight' in official
    for norm in ('InPlaceABN', 'BN'):
        target = backbone(norm)
        report = load_backbone_weights(target, {'model': official})
        assert report.source_format == 'official'
        assert_same_outputs(target, source)


def test_to_timm_loads_strictly_into_timms_model_and_gives_its_outputs():
    source = flip_some_weights(TResNet(arch='m').eval())
    model = timm.create_model('tresnet_m', num_classes=0).eval()
    model.load_state_dict(to_timm(source.state_dict()))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.forward_features(x), source(x)[-1], rtol=1e-4, atol=1e-5)


def test_a_detectors_own_checkpoint_loads_into_a_bare_backbone(tmp_path):
    source = backbone()
    path = tmp_path / 'detector.pth'
    weights = {f'backbone.{k}': v for k, v in source.state_dict().items()}
    torch.save({'state_dict': weights | {'bbox_head.conv_cls.bias': torch.zeros(3)}}, path)
    target = backbone()
    report = load_backbone_weights(target, path)
    assert report.source_format == 'ours'
    assert_same_outputs(target, source, tolerance=0)


def test_init_cfg_loads_timms_format_and_leaves_out_stages_that_are_not_built(tmp_path):
    source = backbone('BN')
    path = tmp_path / 'timm.pth'
    torch.save(to_timm(source.state_dict()) | {'head.fc.bias': torch.zeros(9)}, path)
    target = MODELS.build(
        dict(
            type='TResNet',
            arch=ARCH,
            out_indices=(1, 2),
            init_cfg=dict(type='Pretrained', checkpoint=str(path)),
        )
    ).eval()
    target.init_weights()
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(target(x)[1], source(x)[2], rtol=1e-4, atol=1e-5)


def test_init_cfg_says_the_ways_on_and_takes_no_other_field(tmp_path):
    missing = dict(type='Pretrained', checkpoint=str(tmp_path / 'no.pth'))
    with pytest.raises(MissingFileError, match=r'no\.pth.*--from-scratch'):
        TResNet(arch=ARCH, init_cfg=missing).init_weights()
    with pytest.raises(InputError, match='prefix'):
        TResNet(arch=ARCH, init_cfg=dict(missing, prefix='backbone.')).init_weights()


def test_another_init_cfg_is_mmengines_to_apply():
    model = TResNet(arch=ARCH, init_cfg=dict(type='Constant', layer='Conv2d', val=0.25, bias=0.0))
    model.init_weights()
    assert (model.conv1.conv.weight == 0.25).all()


def test_a_file_of_another_arch_is_described_beside_the_model():
    wider = TResNet(arch=dict(ARCH, width_factor=0.5))
    with pytest.raises(InputError, match=r'width 32.* the model depths \(1, 2, 1, 1\) at width 16'):
        load_backbone_weights(backbone(), wider.state_dict())


def test_a_deeper_file_is_refused_though_every_tensor_of_the_model_is_there():
    deeper = TResNet(arch=dict(ARCH, depths=(1, 2, 2, 1)))
    with pytest.raises(InputError, match=r'unexpected: layer3\.1'):
        load_backbone_weights(backbone(), deeper.state_dict())


def test_a_missing_tensor_is_an_error_when_strict_and_reported_when_not():
    weights = backbone().state_dict()
    del weights['layer4.0.conv3.abn.bias']
    with pytest.raises(InputError, match=r'1 missing.*layer4\.0\.conv3\.abn\.bias'):
        load_backbone_weights(backbone(), weights)
    report = load_backbone_weights(backbone(), weights, strict=False)
    assert report.missing == ('layer4.0.conv3.abn.bias',)


def test_too_few_tensors_are_an_error_even_when_not_strict():
    weights = {k: v for k, v in backbone().state_dict().items() if not k.startswith('layer4')}
    with pytest.raises(InputError, match='missing'):
        load_backbone_weights(backbone(), weights, strict=False)


def test_something_else_is_named_for_what_it_begins_with():
    with pytest.raises(InputError, match=r'no TResNet.*0\.weight'):
        load_backbone_weights(backbone(), nn.Sequential(nn.Linear(2, 2)).state_dict())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r'no\.pth'):
        load_backbone_weights(backbone(), tmp_path / 'no.pth')


def test_the_hub_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'huggingface_hub', None)
    with pytest.raises(InputError, match='pip install'):
        load_backbone_weights(backbone(), 'timm://tresnet_m.miil_in1k')
