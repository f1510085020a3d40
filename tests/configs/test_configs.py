"""Every config builds, and its neck fits its backbone."""

import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.optim.scheduler import (
    CosineAnnealingLR,
    CosineAnnealingMomentum,
    LinearLR,
    LinearMomentum,
)
from mmengine.registry import OPTIMIZERS
from mmengine.runner import Runner
from parsed_configs import CONFIGS, load

from tresnet_det.checkpoints.img_norm import IMG_NORM_CFG, read_img_norm
from tresnet_det.datasets import build_transforms
from tresnet_det.engine import ResumableEpochTrainLoop
from tresnet_det.engine import config as edit
from tresnet_det.tasks import find_task

ALL = sorted(
    p.relative_to(CONFIGS).as_posix()
    for p in CONFIGS.rglob('*.py')
    if not p.parent.name.startswith('_') and p.parent.name != 'reuse'  # test_reuse.py
)
CLASSIFIERS = [name for name in ALL if not find_task(load(name)).detects]
DETECTORS = [name for name in ALL if name not in CLASSIFIERS]
MULTI_LABEL = [name for name in CLASSIFIERS if name.startswith(('multilabel_', 'ml_decoder_'))]

DEMO_DATASET = ('type', 'data_root', 'metainfo', 'ann_file', 'data_prefix', 'pipeline')


@pytest.fixture(autouse=True)
def _registered():
    register_all_modules(init_default_scope=True)


@pytest.mark.parametrize('name', DETECTORS)
def test_the_detector_builds_and_its_neck_takes_what_the_backbone_gives(name):
    cfg = load(name)
    edit.use_random_weights(cfg)
    with torch.device('meta'), torch.no_grad():
        detector = MODELS.build(cfg.model).eval()
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


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_the_classifier_builds_and_its_head_takes_what_the_backbone_gives(name):
    cfg = load(name)
    edit.use_random_weights(cfg)
    if cfg.model.head.num_classes is None:  # counted by the tools
        cfg.model.head.num_classes = 3
    with torch.device('meta'), torch.no_grad():
        model = MODELS.build(cfg.model).eval()
        assert model(torch.rand(1, 3, 64, 64)).shape == (1, cfg.model.head.num_classes)
    if cfg.model.backbone.type == 'TResNet':
        # The datasets read RGB: nothing is swapped.
        assert read_img_norm(MODELS.build(cfg.model.data_preprocessor)) == IMG_NORM_CFG
    assert model.head.multi_label == (name in MULTI_LABEL)


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_a_classifiers_loaders_and_metric_are_those_of_its_task(name):
    cfg = load(name)
    several = name in MULTI_LABEL
    assert cfg.val_evaluator.type == ('MultiLabelMetric' if several else 'AccuracyMetric')
    best = 'multilabel/mAP' if several else 'accuracy/top1'
    assert cfg.default_hooks.checkpoint.save_best == best
    for loader in edit.LOADERS:
        dataset = cfg[loader].dataset
        assert (dataset.type == 'MultiLabelDataset') == several
        assert cfg[loader].collate_fn.type == 'stack_samples'
        assert dataset.get('test_mode', False) == (loader != 'train_dataloader')
        build_transforms(dataset.pipeline)
    # Training images have the size that is tested on.
    image = torch.zeros(3, 500, 400, dtype=torch.uint8)
    if 'cifar' in name:  # whose images have 32 pixels
        image = image[:, :32, :32]
    shapes = {
        tuple(build_transforms(cfg[loader].dataset.pipeline)(image).shape)
        for loader in edit.LOADERS
    }
    assert len(shapes) == 1


# With the epochs of the training, of the cycle and of its warm-up, and the last share of the rate.
CYCLES = [
    ('_base_/demo_detection.py', 6, 6, 1, 0.001),
    ('_base_/demo_multilabel.py', 16, 16, 2, 0.001),
    ('bccd/fcos_tresnet_m_bccd.py', 12, 12, 2, 0.001),
    ('imagenet21k_tresnet_l.py', 80, 80, 8, 0.0001),
    ('imagenet_tresnet_m.py', 300, 300, 15, 0.0001),
    ('imagenet_tresnet_xl_448.py', 10, 10, 1, 0.001),
    ('ml_decoder_tresnet_xl_640.py', 40, 40, 8, 0.0001),
    ('multilabel_tresnet_l_448.py', 40, 80, 16, 0.0001),
    ('sign_digits/tresnet_m_sign_digits.py', 15, 15, 3, 0.001),
    ('transfer/tresnet_xl_cifar100.py', 80, 80, 8, 0.001),
]
OVERLAYS = {  # and a config that each is put over
    '_base_/demo_detection.py': 'fcos_tresnet_m.py',
    '_base_/demo_multilabel.py': 'multilabel_tresnet_m_448.py',
}


def list_values(optimizer, schedulers, steps):
    """Learning rate and momentum or betas of each step."""
    values = []
    for _ in range(steps):
        (group,) = optimizer.param_groups
        values.append((group['lr'], group.get('momentum'), group.get('betas')))
        optimizer.step()
        for scheduler in schedulers:
            assert not scheduler.by_epoch
            scheduler.step()
    return values


@pytest.mark.parametrize(('name', 'epochs', 'cycle', 'warmup', 'last'), CYCLES)
@pytest.mark.parametrize('length', [3, 7])
def test_every_step_has_the_rate_of_mmengines_own_schedulers(
    name, epochs, cycle, warmup, last, length
):
    if name in OVERLAYS:
        cfg = load(OVERLAYS[name])
        cfg.merge_from_dict(load(name).to_dict())
    else:
        cfg = load(name)
    assert cfg.train_cfg.max_epochs == epochs
    ours, plain = (
        OPTIMIZERS.build(
            dict(cfg.optim_wrapper.optimizer.to_dict(), params=[torch.nn.Parameter(torch.zeros(1))])
        )
        for _ in range(2)
    )
    runner = SimpleNamespace(
        _train_loop=object.__new__(ResumableEpochTrainLoop),
        max_epochs=epochs,
        max_iters=epochs * length,
        train_dataloader=range(length),
        logger=logging.getLogger(),
    )
    schedulers = Runner._build_param_scheduler(runner, cfg.param_scheduler, ours)
    rise = dict(end=warmup * length, by_epoch=False)
    fall = dict(begin=warmup * length, end=cycle * length, by_epoch=False)
    expected = [
        LinearLR(plain, start_factor=0.04, **rise),
        CosineAnnealingLR(plain, eta_min_ratio=last, **fall),
    ]
    if name.startswith(('multilabel', 'ml_decoder')):
        expected += [
            LinearMomentum(plain, start_factor=1.0, end_factor=0.85 / 0.95, **rise),
            CosineAnnealingMomentum(plain, eta_min=0.95, **fall),
        ]
    steps = epochs * length
    assert list_values(ours, schedulers, steps) == list_values(plain, expected, steps)


@pytest.mark.parametrize('name', ALL)
def test_it_imports_the_package_and_decays_no_norm(name):
    cfg = load(name)
    assert 'tresnet_det' in cfg.custom_imports.imports
    assert cfg.optim_wrapper.paramwise_cfg.flat_decay_mult == 0
    # Scaling the learning rate reaches schedulers that are relative to it.
    assert not any(
        'eta_max' in s or 'eta_min' in s
        for s in edit.iterate_dicts(cfg.param_scheduler)
        if s.type.endswith('LR')
    )


@pytest.mark.parametrize('name', ['fcos_tresnet_m.py', 'fcos_tresnet_l.py', 'fcos_tresnet_xl.py'])
def test_coco_configs_start_from_the_published_weights_of_their_arch(name):
    cfg = load(name)
    arch = cfg.model.backbone.arch
    assert cfg.model.backbone.init_cfg.checkpoint == f'timm://tresnet_{arch}.miil_in1k'
    assert cfg.auto_scale_lr.enable


@pytest.mark.parametrize(
    ('baseline', 'name'),
    [
        ('fcos_resnet50.py', 'fcos_tresnet_m.py'),
        ('bccd/fcos_resnet50_bccd.py', 'bccd/fcos_tresnet_m_bccd.py'),
        ('sign_digits/resnet50_sign_digits.py', 'sign_digits/tresnet_m_sign_digits.py'),
    ],
)
def test_the_baseline_differs_in_backbone_neck_width_and_input_only(baseline, name):
    first, second = (load(n).to_dict() for n in (baseline, name))
    for cfg in (first, second):
        del cfg['model']['backbone'], cfg['model']['data_preprocessor']
        cfg['model'].get('neck', {}).pop('in_channels', None)
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
    cfg = load(name)
    cfg.merge_from_dict(load('_base_/demo_detection.py').to_dict())
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = cfg[loader].dataset
        assert set(dataset) == set(DEMO_DATASET) | (
            {'test_mode'} if dataset.get('test_mode') else {'filter_cfg'}
        )
        assert dataset.data_root == 'data/demo/'
    assert (cfg.param_scheduler.type, cfg.train_cfg.max_epochs) == ('WarmupCosineLR', 6)
    assert cfg.val_evaluator.ann_file == 'data/demo/annotations/instances_val2017.json'


def test_what_the_demo_names_is_registered_for_a_users_config_too():
    code = (
        'import tresnet_det.cli.train; from mmdet.registry import METRICS, TRANSFORMS;'
        "print('CocoTwelveMetric' in METRICS, 'LoadImage' in TRANSFORMS)"
    )
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == 'True True', result.stderr
