"""Weights between formats and for publication: equal outputs, a name with the hash."""

import hashlib
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tresnet_det import TResNet
from tresnet_det.checkpoints import load_backbone_weights, read_checkpoint, to_timm
from tresnet_det.checkpoints.img_norm import IMG_NORM_CFG
from tresnet_det.checkpoints.publish import convert, publish
from tresnet_det.errors import InputError, MissingFileError

ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)
META = dict(
    dataset_meta=dict(classes=('a', 'b')), cfg='model = dict()', input=IMG_NORM_CFG, epoch=3
)


@pytest.fixture
def timm_file(tmp_path):
    weights = to_timm(TResNet(arch=ARCH).state_dict())
    for key, value in weights.items():
        if key.endswith('bn.weight'):
            value.uniform_(-1, 1)
    torch.save(weights, tmp_path / 'timm.pth')
    return tmp_path / 'timm.pth'


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_timms_file_becomes_ours_and_timms_again_with_equal_outputs(timm_file, suffix, tmp_path):
    ours, back = tmp_path / f'ours{suffix}', tmp_path / f'back{suffix}'
    assert convert(timm_file, ours) == len(TResNet(arch=ARCH).state_dict())
    convert(ours, back, to='timm')
    outputs = []
    for path, source_format in ((timm_file, 'timm'), (ours, 'ours'), (back, 'timm')):
        model = TResNet(arch=ARCH).eval()
        assert load_backbone_weights(model, path).source_format == source_format
        outputs.append(model(torch.full((1, 3, 64, 64), 0.5))[-1])
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=1e-4, atol=1e-5)
    if suffix == '.pth':
        assert torch.load(ours)['meta'] == {'input': IMG_NORM_CFG}
        return
    with safe_open(ours, 'pt') as file:
        assert json.loads(file.metadata()['input']) == IMG_NORM_CFG


def test_what_cannot_be_converted_leaves_nothing_behind(timm_file, tmp_path):
    with pytest.raises(InputError, match=r'ends in \.pth or \.safetensors'):
        convert(timm_file, tmp_path / 'a.bin')
    with pytest.raises(MissingFileError, match=r'no\.pth'):
        convert(tmp_path / 'no.pth', tmp_path / 'a.pth')
    good = torch.load(timm_file)
    for value, says in (
        (torch.ones(3), r"norm 'conv1\.bn\.weight' is \(3,\), its convolution \(16, 48, 3, 3\)"),
        (
            torch.ones(16, dtype=torch.int64),
            r"'conv1\.bn\.weight' is of torch\.int64, not of a float",
        ),
    ):
        torch.save(good | {'body.conv1.bn.weight': value}, timm_file)
        with pytest.raises(InputError, match=says):
            convert(timm_file, tmp_path / 'a.pth')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['timm.pth']


@pytest.fixture
def checkpoint(tmp_path):
    averaged, raw = TResNet(arch=ARCH), TResNet(arch=ARCH)
    content = {
        'state_dict': {f'backbone.{k}': v for k, v in averaged.state_dict().items()},
        'ema_state_dict': {f'module.backbone.{k}': v for k, v in raw.state_dict().items()}
        | {'steps': torch.tensor(7)},
        'optimizer': {'state': {0: torch.zeros(1000)}},
        'message_hub': {},
        'meta': META | {'seed': 1},
    }
    torch.save(content, tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth', averaged, raw


@pytest.mark.parametrize(('which', 'suffix'), [('averaged', '.pth'), ('raw', '.safetensors')])
def test_published_weights_are_those_asked_for_and_named_by_their_hash(
    checkpoint, which, suffix, tmp_path
):
    source, averaged, raw = checkpoint
    path = publish(source, tmp_path / 'out', which, suffix)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'epoch_3-{digest[:8]}{suffix}'
    assert list((tmp_path / 'out').iterdir()) == [path]
    loaded = TResNet(arch=ARCH)
    load_backbone_weights(loaded, path)
    expected = (averaged if which == 'averaged' else raw).state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in loaded.state_dict().items())
    if suffix == '.pth':  # what only training needs is gone
        content = torch.load(path)
        assert set(content) == {'state_dict', 'meta'}
        assert content['meta'] == META
    assert json.dumps(read_checkpoint(path).meta, sort_keys=True) == json.dumps(
        META, sort_keys=True
    )


@pytest.mark.parametrize(
    'metadata', [None, dict(format='pt'), dict(epoch='the third', cfg='[' * 10**5)]
)
def test_metadata_that_others_wrote_changes_nothing(metadata, tmp_path):
    save_file(dict(w=torch.ones(2)), tmp_path / 'w.safetensors', metadata)
    assert read_checkpoint(tmp_path / 'w.safetensors').content.keys() == {'w'}


def test_metadata_of_a_published_file_is_checked(tmp_path):
    save_file(dict(w=torch.ones(2)), tmp_path / 'w.safetensors', dict(thresholds='{"a": 1e999}'))
    with pytest.raises(InputError, match=r"w\.safetensors: .*'thresholds'.*'a'.* inf"):
        read_checkpoint(tmp_path / 'w.safetensors')


def test_a_file_without_what_was_asked_for_and_unknown_choices_are_named(tmp_path):
    torch.save({'weights': torch.zeros(1)}, tmp_path / 'other.pth')
    torch.save({'state_dict': {'w': torch.zeros(1)}}, tmp_path / 'plain.pth')
    odd = {'state_dict': {'w': torch.zeros(1)}, 'meta': {'cfg': b'x'}}
    torch.save(odd, tmp_path / 'odd.pth')
    for call, says in (
        (lambda: publish(tmp_path / 'other.pth'), 'no state_dict'),
        (lambda: publish(tmp_path / 'plain.pth', weights='raw'), 'no raw weights'),
        (lambda: publish(tmp_path / 'odd.pth'), r"odd\.pth: meta\['cfg'\] holds no plain values"),
        (
            lambda: publish(tmp_path / 'no.pth', weights='ema'),
            "weights='ema' is not one of averaged",
        ),
        (lambda: publish('no.pth', suffix='.onnx'), r"suffix='\.onnx' is not one of"),
        (lambda: convert('no.pth', 'x.pth', to='TIMM'), "to='TIMM' is not one of timm, ours"),
    ):
        with pytest.raises(InputError, match=says):
            call()
