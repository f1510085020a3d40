"""Weights between the formats, proven by equal outputs; timm is the independent network."""

import copy
import re

import pytest
import timm
import torch
from mmengine.runner import load_checkpoint
from timm.layers import BlurPool2d
from torch import nn

from tresnet_det import TResNet
from tresnet_det.backbone.norms import iterate_norms
from tresnet_det.checkpoints import load_backbone_weights, to_timm
from tresnet_det.checkpoints.formats import to_ours
from tresnet_det.layers import InPlaceABN

ARCH = dict(depths=(1, 2, 1, 1), width_factor=0.25)


def backbone(norm='InPlaceABN', eps=1e-5):
    """A small TResNet with random norms, every third scale negative."""
    model = TResNet(arch=ARCH, norm_cfg=dict(type=norm, eps=eps)).eval()
    with torch.no_grad():
        for module in iterate_norms(model):
            nn.init.uniform_(module.weight, 0.3, 1.2)
            module.weight[::3] *= -1
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    return model


@torch.no_grad()
def assert_same_outputs(first, second, tolerance=1e-5):
    x = torch.rand(1, 3, 64, 64)
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
    weights = {k: torch.zeros(1) for k in OFFICIAL_KEYS}
    name, ours = to_ours(weights | {'body.layer2.0.conv1.1.filt': torch.ones(1)})
    assert (name, list(ours)) == ('official', list(OFFICIAL_KEYS.values()))
    assert set(OFFICIAL_KEYS) <= set(to_official(backbone().state_dict()))


class AbnByFormula(nn.Module):
    """An In-Place ABN in evaluation mode, written out: |w| + eps, then the leaky ReLU."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm
        self.slope = norm.activation_param if norm.activation == 'leaky_relu' else 1.0

    def forward(self, x):
        norm = self.norm
        tensors = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        w, b, mean, var = (t.view(-1, 1, 1) for t in tensors)
        z = (x - mean) / torch.sqrt(var + 1e-5) * (w.abs() + 1e-5) + b
        return torch.where(z > 0, z, z * self.slope)


@pytest.mark.parametrize('norm', ['InPlaceABN', 'BN'])
def test_the_official_format_gives_the_outputs_of_its_formula_and_a_raw_copy_would_not(norm):
    source = backbone()
    by_formula = copy.deepcopy(source)
    for module in list(by_formula.modules()):
        if isinstance(getattr(module, 'abn', None), InPlaceABN):
            module.abn = AbnByFormula(module.abn)
    target = backbone(norm)
    report = load_backbone_weights(target, {'model': to_official(source.state_dict())})
    assert report.source_format == 'official'
    assert_same_outputs(target, by_formula)
    raw = backbone('BN')
    weights = {k.replace('.abn.', '.bn.'): v for k, v in source.state_dict().items()}
    raw.load_state_dict(weights, strict=False)
    x = torch.rand(1, 3, 64, 64)
    expected = by_formula(x)[-1]
    assert (raw(x)[-1] - expected).abs().max() > 0.1 * expected.abs().max()


@pytest.mark.parametrize(
    ('given', 'built', 'eps'),
    [('InPlaceABN', 'BN', 1e-5), ('BN', 'InPlaceABN', 1e-5), ('BN', 'InPlaceABN', 1e-2)],
)
def test_a_network_loads_weights_of_the_other_norm_by_any_loader(given, built, eps, tmp_path):
    source = backbone(given, eps)
    state_dict = source.state_dict()
    before = copy.deepcopy(state_dict)
    target = backbone(built, eps)
    target.load_state_dict(state_dict)
    assert_same_outputs(target, source)
    assert state_dict.keys() == before.keys()
    assert all(torch.equal(state_dict[k], before[k]) for k in before)
    torch.save({'state_dict': state_dict, 'meta': {}}, tmp_path / 'a.pth')
    target = backbone(built, eps)
    load_checkpoint(target, str(tmp_path / 'a.pth'), strict=True)
    assert_same_outputs(target, source)


def test_a_network_converted_to_batch_norm_trains_with_the_same_gradients():
    source, target = backbone().double().train(), backbone('BN').double().train()
    target.load_state_dict(source.state_dict())
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    for model in (source, target):
        sum((y * y).mean() for y in model(x)).backward()
    signs = {n: m.weight.sign() for n, m in source.named_modules() if isinstance(m, InPlaceABN)}
    theirs = {k.replace('.bn.', '.abn.'): p.grad for k, p in target.named_parameters()}
    for name, parameter in source.named_parameters():
        expected = theirs[name]
        if name.endswith('abn.weight'):  # d|w| = sign(w) dw
            expected = expected * signs[name.removesuffix('.weight')]
        assert (parameter.grad - expected).norm() / expected.norm() < 1e-8, name


def timms_network(arch, state_dict):
    """timm's TResNet with these weights, built without drawing others first."""
    with torch.device('meta'):
        model = timm.create_model(f'tresnet_{arch}', num_classes=7).eval()
    for module in model.modules():
        if isinstance(module, BlurPool2d):  # its filter is in no state dict
            module.filt = BlurPool2d(module.channels, module.filt_size, module.stride).filt
    model.load_state_dict(state_dict, assign=True)
    return model


def random_weights(arch):
    """Weights as timm saves them, scales of both signs."""
    with torch.device('meta'):
        shapes = timm.create_model(f'tresnet_{arch}', num_classes=7).state_dict()
    weights = {}
    for key, value in shapes.items():
        if value.dim() > 1:
            weights[key] = torch.randn(value.shape) * (2 / value[0].numel()) ** 0.5
        elif key.endswith('bn.weight'):
            weights[key] = torch.empty(value.shape).uniform_(-1, 1)
        elif key.endswith('running_var'):
            weights[key] = torch.empty(value.shape).uniform_(0.5, 2)
        else:
            weights[key] = torch.randn(value.shape) * 0.1 if value.dim() else torch.tensor(0)
    return weights


@torch.no_grad()
@pytest.mark.parametrize(
    'arch', ['m', *(pytest.param(a, marks=pytest.mark.slow) for a in ('l', 'xl', 'v2_l'))]
)
@pytest.mark.parametrize('norm', ['InPlaceABN', 'BN'])
def test_feature_maps_are_timms_with_its_weights_and_with_ours(arch, norm, monkeypatch):
    for draw in ('kaiming_uniform_', 'kaiming_normal_'):  # the weights are loaded
        monkeypatch.setattr(nn.init, draw, lambda tensor, *args, **kwargs: tensor)
    weights = random_weights(arch)
    ours = TResNet(arch=arch, norm_cfg=dict(type=norm)).eval()
    assert load_backbone_weights(ours, weights).source_format == 'timm'
    x = torch.rand(1, 3, 64, 64)
    feature_maps = ours(x)
    head = {k: weights[k] for k in ('head.fc.weight', 'head.fc.bias')}
    for state_dict in (weights, to_timm(ours.state_dict() | head)):
        theirs = timms_network(arch, state_dict)
        expected = theirs.forward_intermediates(x, [1, 2, 3, 4], intermediates_only=True)
        for y, reference in zip(feature_maps, expected, strict=True):
            assert (y - reference).abs().max() <= 1e-4 * reference.abs().max()
