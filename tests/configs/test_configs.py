"""Every config builds, and its neck fits its backbone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules

from tresnet_det.engine import config as edit

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DETECTORS = sorted(
    p.relative_to(CONFIGS).as_posix()
    for p in CONFIGS.rglob('*.py')
    if not p.parent.name.startswith('_')
)


DEMO_DATASET = ('type', 'data_root', 'metainfo', 'ann_file', 'data_prefix', 'pipeline')


@pytest.fixture(autouse=True)
def _registered():
    register_all_modules(init_default_scope=True)


@pytest.mark.parametrize('name', DETECTORS)
def test_the_detector_builds_and_its_neck_takes_what_the_backbone_gives(name):
    cfg = edit.load_config(CONFIGS / name)
    edit.use_random_weights(cfg)
    detector = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        features = detector.extract_feat(torch.rand(1, 3, 64, 64))
    assert [f.shape[1:] for f in features] == [(256, 64 // s, 64 // s) for s in (8, 16, 32)] + [
        (256, 1, 1)
    ] * 2
    if cfg.model.backbone.type == 'TResNet':
        assert tuple(cfg.model.neck.in_channels) == detector.backbone.out_channels
        preprocessor = cfg.model.data_preprocessor
        assert preprocessor.mean == [0, 0, 0]
        assert preprocessor.std == [255, 255, 255]
        assert preprocessor.bgr_to_rgb


@pytest.mark.parametrize('name', DETECTORS)
def test_it_imports_the_package_and_decays_no_norm(name):
    cfg = edit.load_config(CONFIGS / name)
    assert 'tresnet_det' in cfg.custom_imports.imports
    assert cfg.optim_wrapper.paramwise_cfg.flat_decay_mult == 0
    # Scaling the learning rate reaches schedulers that are relative to it.
    assert not any('eta_max' in s or 'eta_min' in s for s in cfg.param_scheduler)


@pytest.mark.parametrize('name', ['fcos_tresnet_m.py', 'fcos_tresnet_l.py', 'fcos_tresnet_xl.py'])
def test_coco_configs_start_from_the_published_weights_of_their_arch(name):
    cfg = edit.load_config(CONFIGS / name)
    arch = cfg.model.backbone.arch
    assert cfg.model.backbone.init_cfg.checkpoint == f'timm://tresnet_{arch}.miil_in1k'
    assert cfg.auto_scale_lr.enable


@pytest.mark.parametrize(
    ('twin', 'name'),
    [
        ('fcos_resnet50.py', 'fcos_tresnet_m.py'),
        ('bccd/fcos_resnet50_bccd.py', 'bccd/fcos_tresnet_m_bccd.py'),
    ],
)
def test_the_twin_differs_in_backbone_neck_width_and_input_only(twin, name):
    first, second = (edit.load_config(CONFIGS / n).to_dict() for n in (twin, name))
    for cfg in (first, second):
        del cfg['model']['backbone'], cfg['model']['data_preprocessor']
        del cfg['model']['neck']['in_channels']
    assert first == second


USERS_CONFIG = """
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['tresnet_det'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255]),
    backbone=dict(_delete_=True, type='TResNet', arch=dict(depths=(1, 1, 1, 1), width_factor=0.25)),
    neck=dict(in_channels=[16, 32, 256, 512]),
)
"""

STEP = """
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

cfg = Config.fromfile('users.py')
init_default_scope('mmdet')
from mmengine.optim import build_optim_wrapper
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs

model = MODELS.build(cfg.model)
wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
before = model.backbone.conv1.conv.weight.detach().clone()
data = demo_mm_inputs(2, [[3, 64, 64], [3, 64, 64]], num_classes=80)
losses = model.train_step(data, wrapper)
assert all(torch.isfinite(v).all() for v in losses.values()), losses
assert not torch.equal(before, model.backbone.conv1.conv.weight)
print('stepped')
"""


def test_a_users_config_in_another_folder_builds_on_mmdets_own_and_takes_a_step(tmp_path):
    (tmp_path / 'users.py').write_text(USERS_CONFIG)
    environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', STEP],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith('stepped')


@pytest.mark.parametrize('name', DETECTORS)
def test_the_demo_overlay_fits_every_detector(name):
    cfg = edit.load_config(CONFIGS / name)
    edit.put_over(cfg, edit.load_config(CONFIGS / '_base_' / 'demo_detection.py'))
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = cfg[loader].dataset
        assert set(dataset) == set(DEMO_DATASET) | (
            {'test_mode'} if dataset.get('test_mode') else {'filter_cfg'}
        )
        assert dataset.data_root == 'data/demo/'
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs
    assert cfg.val_evaluator.ann_file == 'data/demo/annotations/instances_val2017.json'


def test_what_the_demo_names_is_registered_for_a_users_config_too():
    code = (
        'import tresnet_det.engine.command_line; from mmdet.registry import METRICS, TRANSFORMS;'
        "print('CocoTwelveMetric' in METRICS, 'LoadImage' in TRANSFORMS)"
    )
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == 'True True', result.stderr
