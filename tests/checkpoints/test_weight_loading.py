"""The one loader: what it takes, what it refuses, and its report."""

import sys

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from safetensors.torch import save_file
from torch import nn

from tresnet_det import TResNet
from tresnet_det.checkpoints import load_backbone_weights, load_weights, read_checkpoint, to_timm
from tresnet_det.checkpoints.load import fit_weights
from tresnet_det.errors import InputError, MissingFileError

ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)


@pytest.fixture(scope='module')
def source():
    """A backbone that is only read."""
    model = TResNet(arch=ARCH)
    for stage in model.stages:
        nn.init.normal_(stage[0].last_norm.weight)
    return model.eval()


def assert_same_weights(model, expected):
    expected = expected.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize('holder', ['detector', 'wrapped', 'classifier', 'safetensors'])
def test_a_backbone_is_found_in_every_kind_of_file(holder, source, tmp_path):
    weights, path = source.state_dict(), tmp_path / 'a.pth'
    if holder == 'safetensors':
        path = tmp_path / 'a.safetensors'
        save_file(weights, path)
    elif holder == 'classifier':
        torch.save(weights | {'head.fc.weight': torch.zeros(3, 512)}, path)
    else:
        prefix = 'module.backbone.' if holder == 'wrapped' else 'backbone.'
        weights = {f'{prefix}{k}': v for k, v in weights.items()}
        torch.save({'state_dict': weights | {'bbox_head.bias': torch.zeros(3)}}, path)
    target = TResNet(arch=ARCH)
    report = load_backbone_weights(target, path)
    assert str(report) == f'{path}: {len(source.state_dict())} tensors loaded'
    assert_same_weights(target, source)


def test_init_cfg_loads_timms_format_and_skips_stages_that_are_not_built(source, tmp_path):
    torch.save(to_timm(source.state_dict()) | {'head.fc.bias': torch.zeros(9)}, tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    target = MODELS.build(dict(type='TResNet', arch=ARCH, out_indices=(1, 2), init_cfg=init_cfg))
    target.eval().init_weights()
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(target(x)[1], source(x)[2], rtol=1e-4, atol=1e-5)


def test_init_cfg_says_what_to_do_and_takes_no_other_field(tmp_path):
    missing = dict(type='Pretrained', checkpoint=str(tmp_path / 'no.pth'))
    with pytest.raises(MissingFileError, match=r'no\.pth.*--from-scratch'):
        TResNet(arch=ARCH, init_cfg=missing).init_weights()
    with pytest.raises(InputError, match='prefix'):
        TResNet(arch=ARCH, init_cfg=dict(missing, prefix='backbone.')).init_weights()
    model = TResNet(arch=ARCH, init_cfg=dict(type='Constant', layer='Conv2d', val=0.25, bias=0.0))
    model.init_weights()  # another type is mmengine's to apply
    assert (model.conv1.conv.weight == 0.25).all()


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (dict(width_factor=0.5), r'width 32, the model depths \(1, 1, 1, 1\) at width 16'),
        (dict(depths=(1, 1, 2, 1)), r'unexpected \(layer3\.1'),
        (dict(depths=(1, 2, 1, 1)), r'file has depths \(1, 2, 1, 1\)'),
    ],
)
def test_a_file_of_another_arch_is_described_and_changes_nothing(change, says, source):
    other = TResNet(arch=ARCH | change).state_dict()
    target = TResNet(arch=ARCH)
    target.load_state_dict(source.state_dict())
    with pytest.raises(InputError, match=says) as caught:
        load_backbone_weights(target, other)
    assert '\n' not in str(caught.value)
    assert_same_weights(target, source)


def test_keys_of_a_file_reach_no_terminal_as_they_are(source):
    weights = source.state_dict() | {'\x1b[31m\n' + 'x' * 10**6: torch.ones(1)}
    with pytest.raises(InputError, match=r'1 unexpected \(\\x1b\[31m\\nx+\)') as caught:
        load_backbone_weights(TResNet(arch=ARCH), weights)
    assert len(str(caught.value)) < 500


def test_a_missing_tensor_is_an_error_when_strict_and_reported_when_not(source):
    weights = source.state_dict()
    weights.pop('layer4.0.conv3.abn.bias')
    with pytest.raises(InputError, match=r'1 missing \(layer4\.0\.conv3\.abn\.bias\)'):
        load_backbone_weights(TResNet(arch=ARCH), weights)
    report = load_backbone_weights(TResNet(arch=ARCH), weights, strict=False)
    assert report.missing == ('layer4.0.conv3.abn.bias',)
    few = {k: v for k, v in weights.items() if not k.startswith('layer4')}
    with pytest.raises(InputError, match='missing'):  # under 95 %
        load_backbone_weights(TResNet(arch=ARCH), few, strict=False)


def test_another_network_is_named_by_its_first_keys():
    with pytest.raises(InputError, match=r'no TResNet.*begins with 0\.weight'):
        load_backbone_weights(TResNet(arch=ARCH), nn.Sequential(nn.Linear(2, 2)).state_dict())


NAN = float('nan')
NANS = torch.tensor([1.0, NAN])
a_billion, deep = 'x', []
for _ in range(9):
    a_billion = [a_billion] * 10
for _ in range(200):
    deep = [deep]


def of_names(classes):
    return dict(state_dict={}, meta=dict(dataset_meta=dict(classes=classes)))


UNSOUND = {
    'not a checkpoint (a list, not a dict)': [1],
    'not a checkpoint (a str, not a dict)': 'weights',
    'state_dict is [1] (list), not a dict': dict(state_dict=[1]),
    'state_dict is None (NoneType), not a dict': dict(state_dict=None),
    "meta is 'text' (str), not a dict": dict(state_dict={}, meta='text'),
    "meta['dataset_meta'] is 3 (int), not a dict": dict(state_dict={}, meta=dict(dataset_meta=3)),
    "the key 1 of meta['dataset_meta'] is no text": dict(
        state_dict={}, meta=dict(dataset_meta={1: 'a'})
    ),
    "meta['input'] is [1] (list), not a dict": dict(state_dict={}, meta=dict(input=[1])),
    "state_dict['w'] is 1 (int), not a tensor": dict(state_dict=dict(w=1)),
    'the key 0 of a tensor is no text': {0: torch.ones(1)},
    'the key (1, 2) of a tensor is no text': dict(model={(1, 2): torch.ones(1)}),
    "the tensor 'w' is not finite": dict(w=NANS),
    "the tensor 'ema' is not finite": dict(state_dict={}, ema_state_dict=dict(ema=NANS)),
    "the tensor state_dict['c'] is complex": dict(
        state_dict=dict(c=torch.ones(1, dtype=torch.cfloat))
    ),
    'the tensor m is without values': dict(m=torch.ones(2, device='meta')),
    'the tensor s is sparse': dict(s=torch.eye(2).to_sparse()),
    'the tensor q is sparse, quantized': dict(
        q=torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    ),
    "'w' and 'module.w' are both the same tensor": {'w': torch.ones(1), 'module.w': torch.ones(1)},
    "'a.abn.bias' and 'a.bn.bias' are both": {
        k: torch.ones(1) for k in ('a.abn.bias', 'a.bn.bias')
    },
    'the tensor w is of torch.bits8, with which': dict(
        w=torch.empty(2, dtype=torch.uint8).view(torch.bits8)
    ),
    "the tensor 'a.weight' is of True and False": {'a.weight': torch.ones(2) > 0},
    # Of 4 bytes, so that computing with it or copying it asks for 4 TB.
    'the tensor big is of shape (1000000000000,), for which there are 4 bytes': dict(
        big=torch.ones(1).expand(10**12)
    ),
    "the tensor optimizer['state'][0]['a'] is of shape (3, 3), for which there are 12 bytes": dict(
        state_dict={}, optimizer=dict(state={0: dict(a=torch.ones(3).as_strided((3, 3), (0, 1)))})
    ),
    "meta['dataset_meta']['classes'] is 'cat' (str), not a list of at most 100000 names": of_names(
        'cat'
    ),
    "['classes'] is (nan,) (tuple), not a list": of_names((NAN,)),
    "['classes'] is ('xxx": of_names(('x' * 10**6,)),
    "['classes'] is [0, 1, 2, ": of_names(list(range(100_001))),
    "['classes'] is [10": of_names([10**400]),  # more than a float
    "meta['thresholds']['a'] is 1000": dict(meta=dict(thresholds=dict(a=10**400))),
    "meta['thresholds']['a'] is np.float32(0.5) (float32), not a number": dict(
        meta=dict(thresholds=dict(a=np.float32(0.5)))
    ),
    "meta['classes'] is [nan] (list), not a list": dict(state_dict={}, meta=dict(classes=[NAN])),
    'are more than 1000000 values': of_names(a_billion),
    'is nested more than 100 levels deep': dict(state_dict={}, meta=dict(more=deep)),
    "meta['thresholds']['cat'] is nan (float), not a number from 0 to 1": dict(
        state_dict={}, meta=dict(thresholds=dict(cat=NAN))
    ),
}


@pytest.mark.filterwarnings('ignore:Validating sparse tensor')
@pytest.mark.parametrize('says', UNSOUND)
def test_a_sound_pickle_of_unsound_content_is_refused_in_one_line(says, tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(UNSOUND[says], path)
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f'{path}: ')
    assert says in message
    assert '\n' not in message


def test_weights_of_another_kind_of_number_are_refused(source):
    weights = {k: v.long() for k, v in source.state_dict().items()}
    with pytest.raises(InputError, match="'conv1.conv.weight' is of torch.int64, the model has"):
        load_weights(TResNet(arch=ARCH), weights)


def test_half_precision_weights_are_loaded(source):
    target = TResNet(arch=ARCH)
    load_weights(target, {k: v.half() for k, v in source.state_dict().items()})
    assert torch.equal(target.conv1.conv.weight, source.conv1.conv.weight.half().float())


def test_the_classes_are_those_of_the_training_whatever_their_case():
    of = [dict(dataset_meta=dict(CLASSES=['a', 'b'])), dict(CLASSES=('a', 'b')), {}, None]
    of.append(dict(Classes=[NAN]))  # of which nobody knows
    found = [read_checkpoint(dict(state_dict={}, meta=meta)).classes for meta in of]
    assert found == [('a', 'b'), ('a', 'b'), None, None, None]


def test_a_name_of_two_classes_is_told_apart():
    names = ['crane', 'crane (2)', 'crane', 1, '1', 'crane']
    classes = read_checkpoint(of_names(names)).classes
    assert classes == ('crane', 'crane (2)', 'crane (3)', '1', '1 (2)', 'crane (4)')
    assert len({*read_checkpoint(of_names(['a'] * 100_000)).classes}) == 100_000


def fit(own, weights):
    return fit_weights(own, weights, 'a.pth')[0]


def test_another_number_of_classes_is_told_from_another_width():
    def head(classes, width):
        shapes = {
            'cls.weight': (classes, 8, 3, 3),
            'cls.bias': (classes,),
            'gn.weight': (width,),
            'conv.weight': (width, width, 3, 3),
            'conv.bias': (width,),
        }
        return {f'bbox_head.{name}': torch.zeros(shape) for name, shape in shapes.items()}

    report = fit(head(3, 8), head(80, 16))
    assert report.class_count == ('bbox_head.cls.weight', 'bbox_head.cls.bias')
    assert len(report.mismatched) == 5
    assert 'bbox_head.gn.weight is (8,) in the model and (16,) in the file' in str(report)
    assert fit({'head.bias': torch.zeros(3)}, {'head.bias': torch.ones(4)}).class_count == ()


def test_the_hub_is_asked_for_timms_file_and_its_copy_is_read(source, tmp_path, monkeypatch):
    save_file(to_timm(source.state_dict()), tmp_path / 'model.safetensors')
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        return str(tmp_path / file)

    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    report = load_backbone_weights(TResNet(arch=ARCH), 'timm://tresnet_m.miil_in1k')
    assert (report.source, report.source_format) == ('timm://tresnet_m.miil_in1k', 'timm')
    assert asked == [('timm/tresnet_m.miil_in1k', 'model.safetensors')]
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(InputError, match='pip install'):
        load_backbone_weights(TResNet(arch=ARCH), 'timm://tresnet_m.miil_in1k')
