"""Weights between the formats. What every published file must hold is in the weights' own tests."""

import copy
import re
from functools import partial

import pytest
import timm
import torch
from mmdet.registry import MODELS
from mmengine.runner import load_checkpoint
from safetensors.torch import save_file
from torch import nn

from tresnet_det import TResNet
from tresnet_det.checkpoints import load_backbone_weights, to_abn, to_ours, to_timm
from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.layers import InPlaceABN
from tresnet_det.models.norms import iterate_norms

ARCH = dict(depths=(1, 2, 1, 1), width_factor=0.25)


def backbone(norm='InPlaceABN', arch=ARCH):
    model = TResNet(arch=arch, norm_cfg=dict(type=norm)).eval()
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


# As published: the first and the last of each kind of key in the original TResNet-M checkpoint.
OFFICIAL_KEYS = {
    'body.conv1.0.weight': 'conv1.conv.weight',
    'body.conv1.1.running_var': 'conv1.abn.running_var',
    'body.layer1.0.conv1.0.weight': 'layer1.0.conv1.conv.weight',
    'body.layer1.0.conv2.1.bias': 'layer1.0.conv2.abn.bias',
    'body.layer1.0.se.fc1.weight': 'layer1.0.se.fc1.weight',
    'body.layer2.0.conv1.0.0.weight': 'layer2.0.conv1.conv.weight',
    'body.layer2.0.conv1.0.1.weight': 'layer2.0.conv1.abn.weight',
    'body.layer2.0.conv2.0.weight': 'layer2.0.conv2.conv.weight',
    'body.layer2.0.downsample.1.0.weight': 'layer2.0.downsample.1.conv.weight',
    'body.layer2.0.downsample.1.1.running_mean': 'layer2.0.downsample.1.abn.running_mean',
    'body.layer3.0.conv1.0.weight': 'layer3.0.conv1.conv.weight',
    'body.layer3.0.conv2.0.0.weight': 'layer3.0.conv2.conv.weight',
    'body.layer3.0.conv2.0.1.bias': 'layer3.0.conv2.abn.bias',
    'body.layer3.0.conv3.1.weight': 'layer3.0.conv3.abn.weight',
    'body.layer4.0.conv2.0.1.running_mean': 'layer4.0.conv2.abn.running_mean',
    'head.fc.weight': 'head.fc.weight',
}


def to_official(state_dict):
    """The published form of a state dict: ABNs and convolutions numbered in nested sequences."""
    renamed = {}
    for key, value in state_dict.items():
        # The convolution that a blur follows is one level deeper.
        deeper = '0.' if re.match(r'layer2\.0\.conv1|layer[34]\.0\.conv2', key) else ''
        key = re.sub(r'conv(\d)\.conv\.', rf'conv\1.{deeper}0.', key)
        key = re.sub(r'conv(\d)\.abn\.', rf'conv\1.{deeper}1.', key)
        key = re.sub(r'downsample\.(\d)\.conv\.', r'downsample.\1.0.', key)
        key = re.sub(r'downsample\.(\d)\.abn\.', r'downsample.\1.1.', key)
        renamed[f'body.{key}'] = value
    return renamed | {'head.fc.weight': torch.zeros(10, 512), 'head.fc.bias': torch.zeros(10)}


def test_the_published_key_names_are_read():
    weights = {k: torch.zeros(1) for k in OFFICIAL_KEYS} | {
        'body.layer2.0.conv1.1.filt': torch.ones(1)
    }
    name, ours = to_ours({'model': weights})
    assert name == 'official'
    assert list(ours) == list(OFFICIAL_KEYS.values())
    assert set(OFFICIAL_KEYS) <= set(to_official(backbone().state_dict()))


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


class AbnByFormula(nn.Module):
    """An In-Place ABN in evaluation mode, written out: |w| + eps, then the leaky ReLU."""

    def __init__(self, norm):
        super().__init__()
        self.norm, self.eps = norm, 1e-5
        self.slope = norm.activation_param if norm.activation == 'leaky_relu' else 1.0

    def forward(self, x):
        w, b, mean, var = (
            t.view(-1, 1, 1)
            for t in (
                self.norm.weight,
                self.norm.bias,
                self.norm.running_mean,
                self.norm.running_var,
            )
        )
        z = (x - mean) / torch.sqrt(var + self.eps) * (w.abs() + self.eps) + b
        return torch.where(z > 0, z, z * self.slope)


def by_formula(model):
    """A copy whose norms are computed by the formula above."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        if isinstance(getattr(module, 'abn', None), InPlaceABN):
            module.abn = AbnByFormula(module.abn)
    return model


@pytest.mark.parametrize('norm', ['InPlaceABN', 'BN'])
def test_the_official_format_gives_the_outputs_of_its_formula_and_a_raw_copy_would_not(norm):
    source = flip_some_weights(backbone())
    target = backbone(norm)
    report = load_backbone_weights(target, {'model': to_official(source.state_dict())})
    assert report.source_format == 'official'
    assert_same_outputs(target, by_formula(source))
    raw = backbone('BN')
    raw.load_state_dict(
        {k.replace('.abn.', '.bn.'): v for k, v in source.state_dict().items()}, strict=False
    )
    x = torch.rand(1, 3, 64, 64)
    expected = by_formula(source)(x)[-1]
    assert (raw(x)[-1] - expected).abs().max() > 0.1 * expected.abs().max()


def test_a_network_converted_to_batch_norm_trains_with_the_same_gradients():
    source = flip_some_weights(backbone()).train()
    target = backbone('BN').train()
    target.load_state_dict(source.state_dict())
    x = torch.rand(4, 3, 64, 64)
    for model in (source, target):
        sum((y * y).mean() for y in model(x)).backward()
    signs = {n: m.weight.sign() for n, m in source.named_modules() if isinstance(m, InPlaceABN)}
    theirs = {k.replace('.bn.', '.abn.'): p.grad for k, p in target.named_parameters()}
    for name, parameter in source.named_parameters():
        expected = theirs[name]
        if name.endswith('abn.weight'):  # d|w| = sign(w) dw
            expected = expected * signs[name.removesuffix('.weight')]
        error = (parameter.grad - expected).norm() / expected.norm()
        assert error < 1e-4, name


@pytest.mark.parametrize(
    'arch', ['m', *(pytest.param(a, marks=pytest.mark.slow) for a in ('l', 'xl', 'v2_l'))]
)
def test_to_timm_and_back_keeps_outputs_and_a_second_round_is_bit_exact(arch):
    model = flip_some_weights(backbone(arch=arch))
    head = {
        'head.fc.weight': torch.randn(7, model.out_channels[-1]),
        'head.fc.bias': torch.randn(7),
    }
    first = to_timm(model.state_dict() | head)
    name, back = to_ours(first)
    assert name == 'timm'
    back = to_abn(back)
    for key in head:
        assert torch.equal(back[key], head[key])
    for key, value in model.state_dict().items():
        if key.endswith('abn.weight'):
            scale, again = value.abs() + 1e-5, back[key].abs() + 1e-5
            ulp = torch.nextafter(scale, scale + 1) - scale
            assert ((scale - again).abs() <= ulp).all(), key
        else:
            assert torch.equal(back[key], value), key
    copied = TResNet(arch=arch).eval()
    load_backbone_weights(copied, back)
    assert_same_outputs(copied, model, tolerance=1e-6)
    second = to_abn(to_ours(to_timm(back))[1])
    assert second.keys() == back.keys()
    assert all(torch.equal(second[k], back[k]) for k in back)

    theirs = timm.create_model(f'tresnet_{arch}', num_classes=7).eval()
    theirs.load_state_dict(first)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        pooled = model(x)[-1].mean((2, 3))
        logits = pooled @ head['head.fc.weight'].T + head['head.fc.bias']
        expected = theirs(x)
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()


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


class WritesFile:
    """What a hostile pickle does when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def write_bad_file(kind, folder):
    path = folder / 'weights.pth'
    if kind == 'truncated':
        torch.save(backbone().state_dict(), path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == 'code':
        torch.save({'state_dict': WritesFile(folder / 'written')}, path)
    elif kind == 'another arch':
        torch.save(TResNet(arch=dict(ARCH, width_factor=0.5)).state_dict(), path)
    elif kind == 'another network':
        torch.save(nn.Conv2d(3, 3, 1).state_dict(), path)
    else:
        path.write_text('<html>403 Forbidden</html>')
    return path


@pytest.mark.parametrize(
    ('kind', 'reason'),
    [
        ('truncated', 'truncated'),
        ('code', 'refused: it needs'),
        ('another arch', 'of another arch'),
        ('another network', 'no TResNet'),
        ('a web page', 'not a checkpoint'),
    ],
)
@pytest.mark.parametrize('route', ['load_backbone_weights', 'init_cfg'])
def test_a_bad_file_is_refused_in_one_line_and_nothing_runs(kind, reason, route, tmp_path):
    path = write_bad_file(kind, tmp_path)
    model = backbone()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    load = (
        model.init_weights if route == 'init_cfg' else partial(load_backbone_weights, model, path)
    )
    with pytest.raises(InputError, match=reason) as caught:
        load()
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'written').exists()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(('given', 'built'), [('InPlaceABN', 'BN'), ('BN', 'InPlaceABN')])
@pytest.mark.parametrize('strict', [True, False])
def test_mmengines_own_loading_converts_the_norms(given, built, strict, tmp_path):
    source = flip_some_weights(backbone(given))
    torch.save({'state_dict': source.state_dict(), 'meta': {}}, tmp_path / 'a.pth')
    target = backbone(built)
    load_checkpoint(target, str(tmp_path / 'a.pth'), strict=strict)
    assert_same_outputs(target, source)


def test_safetensors_are_read(tmp_path):
    source = backbone()
    save_file(to_timm(source.state_dict()), tmp_path / 'model.safetensors')
    target = backbone()
    assert load_backbone_weights(target, tmp_path / 'model.safetensors').source_format == 'timm'
    assert_same_outputs(target, source)


def test_the_hub_is_asked_for_timms_file_and_its_copy_is_read(tmp_path, monkeypatch):
    source = backbone()
    save_file(to_timm(source.state_dict()), tmp_path / 'model.safetensors')
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        return str(tmp_path / file)

    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    load_backbone_weights(backbone(), 'timm://tresnet_m.miil_in1k')
    assert asked == [('timm/tresnet_m.miil_in1k', 'model.safetensors')]


def test_the_hub_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'huggingface_hub', None)
    with pytest.raises(InputError, match='pip install'):
        load_backbone_weights(backbone(), 'timm://tresnet_m.miil_in1k')
