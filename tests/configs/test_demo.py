"""What --demo costs is bounded by the work that it does, not by the time that it takes."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from parsed_configs import load
from torch.utils.flop_counter import FlopCounterMode

from tresnet_det.engine import config as edit
from tresnet_det.engine import settings
from tresnet_det.models import ClsDataSample
from tresnet_det.tasks import find_task

CONFIGS = {  # with the number of training images and the side that they are resized to
    'fcos_tresnet_m.py': (1000, 96),
    'imagenet_tresnet_m.py': (1438, 64),
    'multilabel_tresnet_m_448.py': (1000, 64),
}


def demo(name, full=False):
    cfg = load(name)
    edit.use_demo(cfg, edit.load_config(find_task(cfg).overlay), full)
    return cfg


def count_flops(cfg, side):
    """FLOPs of the forward and backward pass of one image."""
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model).train()
    task = find_task(cfg)
    if task.detects:
        sample = DetDataSample(metainfo=dict(img_shape=(side, side), pad_shape=(side, side)))
        box = torch.tensor([[10.0, 10.0, 40.0, 40.0]])
        sample.gt_instances = InstanceData(bboxes=box, labels=torch.zeros(1, dtype=torch.long))
    else:
        sample = ClsDataSample(gt_label=[1] + 9 * [0] if task.name == 'multilabel' else 3)
    with FlopCounterMode(display=False) as flops:
        losses = model(torch.rand(1, 3, side, side), [sample], mode='loss')
        model.parse_losses(losses)[0].backward()
    return flops.get_total_flops()


@pytest.mark.parametrize('name', CONFIGS)
def test_a_demo_trains_with_at_most_eight_tflop(name):
    cfg = demo(name)
    images, side = CONFIGS[name]
    assert images * cfg.train_cfg.max_epochs * count_flops(cfg, side) <= 8e12


@pytest.mark.parametrize(
    ('name', 'full'),
    [('fcos_resnet50.py', False), ('reuse/gfl_tresnet_m.py', False), ('fcos_tresnet_l.py', True)],
)
def test_other_networks_and_the_full_demo_keep_the_configs_own(name, full):
    cfg, own = demo(name, full), load(name)
    edit.use_random_weights(own)
    edit.set_num_classes(own, 10)
    assert cfg.model == own.model
    assert 'demo_range' not in cfg
    assert cfg.optim_wrapper.optimizer.lr < demo('fcos_tresnet_m.py').optim_wrapper.optimizer.lr


def test_the_demo_is_the_same_over_other_levels_and_without_hooks_or_validation():
    usual, cfg = demo('fcos_tresnet_m.py'), load('fcos_tresnet_m.py')
    cfg.model.backbone.out_indices = (0, 1, 2, 3)
    cfg.model.neck.update(in_channels=[64, 64, 1024, 2048], start_level=1)
    cfg.merge_from_dict(dict.fromkeys(('default_hooks', 'val_cfg', 'val_evaluator')))
    edit.use_demo(cfg, edit.load_config(find_task(cfg).overlay), full=False)
    for key in ('model', 'val_cfg', 'val_evaluator', 'train_dataloader'):
        assert cfg[key] == usual[key]


def test_what_the_demo_reaches_is_said_of_its_own_settings_alone():
    cfg = demo('fcos_tresnet_m.py')
    assert settings.apply(cfg, {}) == []
    assert 'demo_range' in cfg
    settings.apply(cfg, {'epochs': 2})
    assert 'demo_range' not in cfg
