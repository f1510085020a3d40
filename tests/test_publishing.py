import hashlib
import json

import pytest
import timm
import torch
from safetensors import safe_open
from torch import nn

from tresnet_det import TResNet
from tresnet_det.checkpoints import load_backbone_weights
from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.input_convention import CONVENTION
from tresnet_det.publishing import convert, publish

ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)
META = dict(dataset_meta=dict(classes=('a', 'b')), cfg='model = dict()', input=CONVENTION, epoch=3)


@pytest.fixture
def timm_file(tmp_path):
    model = timm.create_model('tresnet_m', num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.0, 1.0)
    torch.save(model.state_dict(), tmp_path / 'timm.pth')
    return tmp_path / 'timm.pth', model.eval()


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_timms_file_becomes_ours_and_timms_again_with_equal_outputs(timm_file, suffix, tmp_path):
    source, theirs = timm_file
    ours, back = tmp_path / f'ours{suffix}', tmp_path / f'back{suffix}'
    convert(source, ours)
    convert(ours, back, to='timm')
    x = torch.rand(1, 3, 64, 64)
    backbone = TResNet(arch='m').eval()
    assert load_backbone_weights(backbone, ours).source_format == 'ours'
    again = timm.create_model('tresnet_m', num_classes=5, checkpoint_path=str(back)).eval()
    with torch.no_grad():
        expected = theirs.forward_features(x)
        torch.testing.assert_close(backbone(x)[-1], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(again(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_the_input_convention_is_written_beside_the_weights(timm_file, tmp_path):
    convert(timm_file[0], tmp_path / 'a.pth')
    assert torch.load(tmp_path / 'a.pth')['meta'] == {'input': CONVENTION}
    convert(timm_file[0], tmp_path / 'a.safetensors')
    with safe_open(tmp_path / 'a.safetensors', 'pt') as file:
        assert json.loads(file.metadata()['input']) == CONVENTION


def test_a_wrong_ending_or_a_missing_file_leaves_nothing_behind(timm_file, tmp_path):
    with pytest.raises(InputError, match=r'ends in \.pth or \.safetensors'):
        convert(timm_file[0], tmp_path / 'a.bin')
    with pytest.raises(MissingFileError, match=r'no\.pth'):
        convert(tmp_path / 'no.pth', tmp_path / 'a.pth')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['timm.pth']


def test_a_failed_write_keeps_the_file_that_was_there(timm_file, tmp_path, monkeypatch):
    target = tmp_path / 'a.pth'
    target.write_bytes(b'good')

    def full_disk(*arguments):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('torch.save', full_disk)
    with pytest.raises(OSError, match='No space left'):
        convert(timm_file[0], target)
    assert target.read_bytes() == b'good'
    assert not list(tmp_path.glob('*.part'))


@pytest.fixture
def checkpoint(tmp_path):
    averaged, raw = TResNet(arch=ARCH), TResNet(arch=ARCH)
    content = {
        'state_dict': {f'backbone.{k}': v for k, v in averaged.state_dict().items()},
        'ema_state_dict': {f'module.backbone.{k}': v for k, v in raw.state_dict().items()}
        | {'steps': torch.tensor(7)},
        'optimizer': {'state': {0: torch.zeros(1000)}},
        'param_schedulers': [],
        'message_hub': {},
        'meta': META | {'seed': 1},
    }
    torch.save(content, tmp_path / 'epoch_3.pth')
    return tmp_path / 'epoch_3.pth', averaged, raw


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('which', ['averaged', 'raw'])
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


def test_what_only_training_needs_is_gone(checkpoint):
    content = torch.load(publish(checkpoint[0]))
    assert set(content) == {'state_dict', 'meta'}
    assert content['meta'] == META


def test_a_file_without_what_was_asked_for_is_named(checkpoint, tmp_path):
    torch.save({'weights': torch.zeros(1)}, tmp_path / 'other.pth')
    with pytest.raises(InputError, match='no state_dict'):
        publish(tmp_path / 'other.pth')
    torch.save({'state_dict': {'w': torch.zeros(1)}}, tmp_path / 'plain.pth')
    with pytest.raises(InputError, match='no raw weights'):
        publish(tmp_path / 'plain.pth', weights='raw')


def test_unknown_choices_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="to='TIMM' is not one of timm, ours"):
        convert(tmp_path / 'no.pth', tmp_path / 'x.pth', to='TIMM')
    with pytest.raises(InputError, match="weights='ema' is not one of averaged, raw"):
        publish(tmp_path / 'no.pth', weights='ema')
    with pytest.raises(InputError, match=r"suffix='\.onnx' is not one of"):
        publish(tmp_path / 'no.pth', suffix='.onnx')
