"""What a training begins with: --resume, load_from, --pretrained or init_cfg."""

import pytest
import torch
from mmengine.config import Config

from tresnet_det.engine import building
from tresnet_det.errors import InputError


@pytest.fixture
def cfg(tmp_path):
    init_cfg = dict(type='Pretrained', checkpoint='timm://a')
    backbone = dict(type='TResNet', init_cfg=init_cfg)
    return Config(dict(model=dict(type='FCOS', backbone=backbone), work_dir=str(tmp_path)))


@pytest.fixture
def lines(monkeypatch):
    said = []
    monkeypatch.setattr(building, 'print_log', lambda message, **kwargs: said.append(message))
    return said


def test_load_from_wins_over_init_cfg_and_says_so(cfg, lines):
    cfg.load_from = 'whole.pth'
    building.choose_weights(cfg, None, None)
    assert cfg.model.backbone.init_cfg is None
    assert lines == ['load_from: TResNet: whole.pth instead of timm://a']


def test_resume_wins_over_pretrained_where_there_is_a_checkpoint(cfg, lines, tmp_path):
    building.choose_weights(cfg, 'auto', 'timm://a')  # none yet
    assert cfg.model.backbone.init_cfg.checkpoint == 'timm://a'
    assert lines == [
        f'--resume: no checkpoint in {tmp_path} yet, starting from the beginning',
        '--pretrained: the backbone starts from timm://a',
    ]
    lines.clear()
    torch.save(dict(state_dict={}, meta=dict(iter=1)), tmp_path / 'iter_1.pth')
    kept = building.choose_weights(cfg, str(tmp_path / 'iter_1.pth'), 'timm://a')
    assert cfg.model.backbone.init_cfg is None
    assert kept['model'].backbone.init_cfg.checkpoint == 'timm://a'
    assert (kept['load_from'], kept['resume']) == (None, None)
    assert lines == [f'--resume: TResNet: {tmp_path}/iter_1.pth instead of timm://a']


def test_pretrained_and_load_from_together_are_refused(cfg):
    cfg.load_from = 'whole.pth'
    with pytest.raises(InputError, match=r'--pretrained timm://a: load_from=whole\.pth has'):
        building.choose_weights(cfg, None, 'timm://a')


def test_a_model_of_another_task_is_loaded_whole_into_any_backbone(cfg, lines, tmp_path):
    checkpoint = str(tmp_path / 'classifier.pth')
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.ones(1)}), checkpoint)
    cfg.model.backbone = dict(
        type='ResNet', init_cfg=dict(type='Pretrained', checkpoint=checkpoint)
    )  # whose own loading knows no prefix, and passes over what it does not find
    building.choose_weights(cfg, None, checkpoint)
    assert cfg.load_from == checkpoint
    assert cfg.model.backbone.init_cfg is None
    assert cfg.custom_hooks == [dict(type='CheckpointGuardHook')]  # refuses another network's
    cfg.load_from = None
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
    torch.save(dict(state_dict={}, meta=dict(iter=1)), tmp_path / 'iter_1.pth')
    kept = building.choose_weights(cfg, str(tmp_path / 'iter_1.pth'), checkpoint)
    assert cfg.load_from == str(tmp_path / 'iter_1.pth')
    assert kept['load_from'] == checkpoint  # of the training that is resumed
    assert kept['model'].backbone.init_cfg is None
