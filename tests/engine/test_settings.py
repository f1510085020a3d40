"""Flags of train.py: what they make of our configs and of MMDetection's, without a training."""

import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import PARAM_SCHEDULERS

import tresnet_det.datasets  # noqa: F401  (registers)
from tresnet_det.engine import config as edit
from tresnet_det.engine import settings
from tresnet_det.engine.train_loops import count_in_steps
from tresnet_det.errors import InputError

STEPS = 60  # of an epoch


def load(name):
    return edit.load_config(f'tresnet_det::{name}.py')


def rates(cfg, epochs):
    """The learning rate of each step, by MMEngine's own schedulers."""
    optimizer = torch.optim.SGD(
        [torch.nn.Parameter(torch.zeros(1))], cfg.optim_wrapper.optimizer.lr
    )
    count_in_steps(cfg.param_scheduler, STEPS)
    default = dict(optimizer=optimizer, epoch_length=STEPS)
    built = [PARAM_SCHEDULERS.build(part, default_args=default) for part in cfg.param_scheduler]
    optimizer.step()
    found = []
    for step in range(1, epochs * STEPS + 1):
        found.append(optimizer.param_groups[0]['lr'])
        for scheduler in built:
            if not scheduler.by_epoch or step % STEPS == 0:
                scheduler.step()
    return found


@pytest.mark.parametrize('epochs', [1, 3, 5, 6, 12, 24, 36])
def test_milestones_keep_their_share_and_a_warm_up_its_length(fcos, epochs):
    fcos.param_scheduler[0].end = 30
    settings.set_epochs(fcos, epochs)
    assert fcos.train_cfg.max_epochs == epochs
    found = rates(fcos, epochs)
    assert found[0] == pytest.approx(0.01 * 0.001)
    for step in range(29, len(found)):  # the last of the warm-up is its end
        passed = (step >= epochs * STEPS * 8 / 12) + (step >= epochs * STEPS * 11 / 12)
        assert found[step] == pytest.approx(0.01 * 0.1**passed), step


@pytest.mark.parametrize('epochs', [2, 4, 30, 450])
def test_yolox_and_rtmdet_end_with_the_training(epochs):
    yolox, rtmdet = load('reuse/yolox_tresnet_m'), load('reuse/rtmdet_tresnet_m')
    for cfg in (yolox, rtmdet):
        settings.set_epochs(cfg, epochs)
    warm = 5 if epochs >= 10 else epochs * 5 / 300
    assert yolox.param_scheduler[0].end == pytest.approx(warm, abs=1e-6)
    assert yolox.param_scheduler[1].begin == yolox.param_scheduler[0].end
    last = warm + 280 * (epochs - warm) / 295
    assert yolox.param_scheduler[1].end == yolox.param_scheduler[2].begin
    assert yolox.param_scheduler[2].begin == pytest.approx(last, abs=1e-6)
    assert yolox.param_scheduler[2].end == epochs
    assert yolox.custom_hooks[0].num_last_epochs == epochs - round(last)
    found = rates(yolox, epochs)
    assert max(found) == pytest.approx(0.01, rel=0.02)
    assert found[-1] == pytest.approx(0.01 * 0.05, rel=0.2)
    warm, cosine = rtmdet.param_scheduler
    assert warm.end == 1000
    assert (cosine.begin, cosine.end, cosine.T_max) == (epochs / 2, epochs, epochs / 2)
    assert rtmdet.custom_hooks[-1].switch_epoch == round(epochs * 280 / 300)
    assert rtmdet.train_cfg.dynamic_intervals == [(round(epochs * 280 / 300), 1)]


def test_one_cycle_ends_with_the_training_by_itself():
    cfg = load('multilabel_tresnet_m_448')
    before = cfg.param_scheduler
    assert settings.set_epochs(cfg, 3) == ['--epochs 3: instead of 40']
    assert cfg.param_scheduler == before


@pytest.mark.parametrize(
    ('part', 'expected'),
    [
        (dict(type='StepLR', step_size=4), dict(step_size=2)),
        (dict(type='CosineRestartLR', periods=[4, 8]), dict(periods=[2, 4])),
        (dict(type='OneCycleLR', total_steps=1000, by_epoch=False), dict(total_steps=500)),
        (dict(type='MultiStepLR', by_epoch=False, milestones=[701]), dict(milestones=[350])),
        # As a training of few steps keeps its warm-up.
        (dict(type='LinearLR', start_factor=1.0, by_epoch=False, end=1), dict(end=1)),
        (dict(type='StepLR', by_epoch=False, step_size=1, begin=1), dict(step_size=1, begin=1)),
        (dict(type='PolyLR', begin=4, end=12), dict(begin=2, end=6)),
    ],
)
def test_other_schedules_too(part, expected):
    cfg = Config(dict(train_cfg=dict(by_epoch=True, max_epochs=12), param_scheduler=part))
    settings.set_epochs(cfg, 6)
    assert {key: cfg.param_scheduler[key] for key in expected} == expected


@pytest.mark.parametrize(
    ('train', 'found'),
    [
        (dict(type='IterBasedTrainLoop', max_iters=90000), 'for 90000 steps'),
        (dict(type='MyLoop', max_epochs=3), r'by a loop of its own \(MyLoop\)'),
    ],
)
def test_a_length_that_is_not_in_epochs_is_said(train, found):
    with pytest.raises(InputError, match=f'--epochs: the config trains {found}'):
        settings.set_epochs(Config(dict(train_cfg=train)), 3)


def test_the_rate_is_used_as_it_is():
    cfg = load('reuse/rtmdet_tresnet_m')
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=256)
    (line,) = settings.set_lr(cfg, 0.001)
    assert line == ('--lr 0.001: instead of 0.004 for a batch of 256, and not scaled to the batch')
    assert cfg.optim_wrapper.optimizer.lr == 0.001
    assert cfg.param_scheduler[1].eta_min == pytest.approx(0.001 * 0.05)
    assert cfg.auto_scale_lr == dict(enable=False)
    with pytest.raises(InputError, match='--lr: the config has no'):
        settings.set_lr(Config(dict(optim_wrapper=dict(generator=dict()))), 0.1)


def test_batch_and_workers(fcos):
    multilabel = load('multilabel_tresnet_m_448')
    assert settings.apply(fcos, dict(batch_size=2, workers=None)) == [
        '--batch-size 2: instead of 8; the learning rate is scaled to it'
    ]
    assert (fcos.train_dataloader.batch_size, fcos.val_dataloader.batch_size) == (2, 1)
    settings.apply(multilabel, dict(batch_size=2, workers=0))
    for name in edit.LOADERS:
        loader = multilabel[name]
        assert (loader.batch_size, loader.num_workers, loader.persistent_workers) == (2, 0, False)
    with pytest.raises(InputError, match='--workers: the config has no train_dataloader'):
        settings.apply(Config(dict(model=dict())), dict(workers=1))


def test_a_balanced_sampler_replaces_a_plain_one():
    fcos, single, instances = map(
        load, ('fcos_tresnet_m', 'transfer/tresnet_m_folders', 'reuse/condinst_tresnet_m')
    )
    for cfg, power in ((fcos, 0.5), (single, 1.0), (instances, 0.5)):
        settings.apply(cfg, dict(balance=True))
        assert cfg.train_dataloader.sampler == dict(type='BalancedSampler', power=power)
    fcos.train_dataloader.sampler = dict(type='MySampler')
    with pytest.raises(InputError, match='--balance replaces DefaultSampler .*has MySampler'):
        settings.apply(fcos, dict(balance=True))


@pytest.mark.parametrize(('name', 'gpus'), [('cpu', 2), ('cuda', 1), ('cuda:1', 2), ('cuda:2', 2)])
def test_a_device_is_the_one_that_mmengine_takes(name, gpus, monkeypatch):
    chosen = []
    monkeypatch.setattr('torch.cuda.device_count', lambda: gpus)
    monkeypatch.setattr('torch.cuda.set_device', chosen.append)
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'cuda')
    if name == 'cuda:2':
        with pytest.raises(InputError, match='device cuda:2: 2 GPU is visible'):
            settings.use_device(name)
        return
    settings.use_device(name)
    assert get_device() == name.split(':')[0]
    assert chosen == [torch.device(name)] * (name != 'cpu')


def sizes(cfg, *keys):
    """The values of these keys in all pipelines of the training, then of the test."""
    found = []
    for name in ('train_dataloader', 'test_dataloader'):
        for part in edit.iterate_dicts(cfg[name]):
            for step in edit.iterate_dicts(part.get('pipeline')):
                found += [step[key] for key in keys if key in step]
    return found


@pytest.mark.parametrize(
    ('name', 'size', 'expected'),
    [
        ('fcos_tresnet_m', (640, 640), [(640, 640)] * 2),
        ('fcos_tresnet_m', (800, 480), [(800, 480)] * 2),
        ('fcos_tresnet_m_70e', (640, 640), [[(640, 384), (640, 768)], (640, 640)]),
        ('multilabel_tresnet_m_448', (320, 320), [(320, 320)] * 2),
        ('multilabel_tresnet_m_448', (320, 192), [(192, 320)] * 2),  # torchvision's order
        ('imagenet_tresnet_m', (448, 448), [448, 512, 448]),
        # A mosaic, crops of an image of twice the size, padding.
        ('reuse/rtmdet_tresnet_m', (320, 320), [(320, 320), (640, 640), *[(320, 320)] * 5]),
        ('reuse/yolox_tresnet_m', (416, 416), [(416, 416), (-208, -208), *[(416, 416)] * 3]),
    ],
)
def test_an_image_size_reaches_all_pipelines_in_proportion(name, size, expected):
    cfg = load(name)
    cfg.test_dataloader = cfg.val_dataloader  # one object under two names
    lines = settings.apply(cfg, dict(img_size=size))
    assert lines[0].startswith(f'--img-size {size[0]}x{size[1]}: instead of ')
    keys = ('scale', 'size', 'img_scale', 'crop_size', 'border')
    assert sizes(cfg, *keys) == expected
    again = settings.apply(cfg, dict(img_size=size))
    assert len(again) <= 2
    assert sizes(cfg, *keys) == expected


def test_an_image_size_reaches_hooks_batches_and_shares_stay():
    yolox, rtmdet, detr, folders = map(load, (
        'reuse/yolox_tresnet_m', 'reuse/rtmdet_tresnet_m', 'reuse/deformable_detr_tresnet_m',
        'transfer/tresnet_m_folders',
    ))  # fmt: skip
    for cfg in (yolox, rtmdet, folders):
        settings.apply(cfg, dict(img_size=(320, 320)))
    assert yolox.model.data_preprocessor.batch_augments[0].random_size_range == (240, 400)
    assert rtmdet.custom_hooks[-1].switch_pipeline[3].crop_size == (320, 320)
    assert folders.train_dataloader.dataset.pipeline[0].scale == (0.3, 1.0)
    assert sizes(folders, 'size') == [320, 366, 320]
    assert 'padded' not in settings.apply(detr, dict(img_size=(666, 400)))[-1]
    scales = sizes(detr, 'scales')
    assert scales[0][:2] == [(240, 666), (256, 666)]  # the shorter side first, as in the config


def test_padding_is_said_and_what_cannot_be_done(fcos):
    assert settings.apply(fcos, dict(img_size=(650, 640)))[-1] == (
        '  padded to 672x640: multiples of 32 waste nothing'
    )
    fcos.model.bbox_head.anchor_generator = dict(type='SSDAnchorGenerator', input_size=300)
    with pytest.raises(InputError, match='SSDAnchorGenerator of the model is made for 300 pixels'):
        settings.apply(fcos, dict(img_size=(640, 640)))
    del fcos.model.bbox_head['anchor_generator']
    for name in edit.LOADERS:
        fcos[name].dataset.pipeline = []
    with pytest.raises(InputError, match='--img-size: no transform'):
        settings.apply(fcos, dict(img_size=(640, 640)))
