"""Edits of a config: data root, random weights, augmentation, drawing, AMP, exact resume."""

import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import IterBasedTrainLoop

from tresnet_det.cli.test import _enable_drawing, _enable_test_time_augmentation
from tresnet_det.engine import config as edit
from tresnet_det.errors import InputError, MissingFileError


def test_data_root_moves_every_dataset_and_evaluator(fcos, tmp_path):
    with pytest.raises(MissingFileError, match='no folder at .*nowhere'):
        edit.set_data_root(fcos, tmp_path / 'nowhere')
    edit.set_data_root(fcos, tmp_path)
    for name in ('train', 'val', 'test'):
        assert fcos[f'{name}_dataloader'].dataset.data_root == str(tmp_path)
    expected = str(tmp_path / 'annotations/instances_val2017.json')
    assert fcos.val_evaluator.ann_file == fcos.test_evaluator.ann_file == expected


def test_data_root_reaches_wrapped_datasets(tmp_path):
    inner = dict(type='CocoDataset', data_root='old/', ann_file='a.json')
    wrapped = dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[inner]))
    cfg = Config(dict(train_dataloader=dict(dataset=wrapped)))
    edit.set_data_root(cfg, tmp_path)
    assert [d['data_root'] for d in edit.iterate_datasets(cfg)] == [str(tmp_path)]


@pytest.mark.parametrize('file', ['/elsewhere/a.json', 'data/coco2/a.json'])
def test_an_evaluator_elsewhere_is_not_moved_in_silence(fcos, tmp_path, file):
    for dataset in edit.iterate_datasets(fcos):
        dataset['data_root'] = 'data/coco'  # with which another folder's name begins, too
    fcos.test_evaluator = dict(fcos.test_evaluator, ann_file=file)
    with pytest.raises(InputError, match='test_evaluator.ann_file'):
        edit.set_data_root(fcos, tmp_path)


def test_random_weights_free_what_only_pretrained_ones_justify(fcos):
    fcos.model.backbone.norm_cfg = dict(type='InPlaceABN', requires_grad=False)
    changes = edit.use_random_weights(fcos)
    backbone = fcos.model.backbone
    assert backbone.init_cfg is None
    assert backbone.frozen_stages == -1
    assert backbone.norm_eval is False
    assert backbone.norm_cfg.requires_grad is True
    assert len(changes) == 4
    assert 'TResNet: norm_cfg.requires_grad False -> True' in changes


def test_random_weights_reach_lists_the_older_notation_and_load_from():
    init = [dict(type='Kaiming'), dict(type='Pretrained', checkpoint='a.pth')]
    backbone = dict(type='ResNet', init_cfg=init, pretrained='b.pth')
    cfg = Config(dict(model=dict(backbone=backbone), load_from='c.pth'))
    changes = edit.use_random_weights(cfg)
    assert [i.type for i in cfg.model.backbone.init_cfg] == ['Kaiming']
    assert cfg.model.backbone.pretrained is None
    assert cfg.load_from is None
    assert [any(name in c for c in changes) for name in ('a.pth', 'b.pth', 'c.pth')] == [True] * 3


def test_test_time_augmentation_looks_at_the_image_as_it_is_first(fcos):
    _enable_test_time_augmentation(fcos)
    assert fcos.model.type == 'DetTTAModel'
    flips, (pack,) = fcos.test_dataloader.dataset.pipeline[-1].transforms
    assert [f.prob for f in flips] == [0.0, 1.0]
    assert {'flip', 'flip_direction', 'scale_factor'} <= set(pack.meta_keys)


@pytest.mark.parametrize('hooks', [None, dict(visualization=None)])
def test_drawing_needs_no_hook_in_the_config(hooks):
    cfg = Config(dict(default_hooks=hooks, visualizer=None))
    _enable_drawing(cfg, show=False, wait_time=1.0, out_dir='drawn')
    expected = dict(draw=True, show=False, wait_time=1.0, test_out_dir='drawn')
    assert cfg.default_hooks.visualization == dict(type='DetVisualizationHook', **expected)
    assert cfg.visualizer.type == 'DetLocalVisualizer'


def test_num_classes_is_set_in_every_head():
    heads = [dict(num_classes=80), dict(num_classes=80)]
    cfg = Config(dict(model=dict(roi_head=dict(bbox_head=heads))))
    edit.set_num_classes(cfg, 3)
    assert [h.num_classes for h in cfg.model.roi_head.bbox_head] == [3, 3]
    assert edit.get_num_classes(cfg) == 3
    assert edit.get_num_classes(Config(dict(model=dict()))) is None


def test_scaling_the_learning_rate_needs_its_batch_size(fcos):
    fcos.auto_scale_lr.enable = False
    edit.enable_lr_scaling(fcos)
    assert fcos.auto_scale_lr.enable
    with pytest.raises(InputError, match='base_batch_size'):
        edit.enable_lr_scaling(Config(dict()))


def test_amp_replaces_the_plain_wrapper_only(fcos, monkeypatch):
    monkeypatch.setattr(edit, 'get_device', lambda: 'cuda')
    edit.enable_amp(fcos)
    assert fcos.optim_wrapper.type == 'AmpOptimWrapper'
    assert fcos.optim_wrapper.loss_scale == 'dynamic'
    fcos.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(InputError, match='ApexOptimWrapper'):
        edit.enable_amp(fcos)


@pytest.mark.parametrize(
    ('train', 'loop', 'told'),
    [
        (dict(type='EpochBasedTrainLoop'), 'ResumableEpochTrainLoop', True),
        (dict(type=IterBasedTrainLoop), 'ResumableIterTrainLoop', True),
        (dict(by_epoch=True), 'ResumableEpochTrainLoop', True),
        (dict(by_epoch=False), 'ResumableIterTrainLoop', True),
        (dict(type='MyLoop'), 'MyLoop', False),
    ],
)
def test_mmengines_loops_become_those_that_resume_and_a_users_own_stays(train, loop, told):
    cfg = Config(dict(train_cfg=dict(train, max_epochs=3)))
    changes = edit.make_resumable(cfg)
    assert cfg.train_cfg == dict(type=loop, max_epochs=3)
    assert any('train_cfg' in line for line in changes) == told
    assert cfg.default_hooks.checkpoint == dict(type='SafeCheckpointHook', interval=1)
    assert cfg.custom_imports.imports == ['tresnet_det.engine']


@pytest.mark.parametrize('kind', ['CheckpointHook', CheckpointHook])
def test_every_checkpoint_hook_of_mmengine_is_replaced_with_its_arguments(kind):
    more = dict(type=kind, interval=100, by_epoch=False)
    cfg = Config(dict(default_hooks=dict(checkpoint=dict(type=kind, save_best='auto'))))
    cfg.custom_hooks = [dict(type='EMAHook'), more]
    changes = edit.make_resumable(cfg)
    assert cfg.default_hooks.checkpoint == dict(type='SafeCheckpointHook', save_best='auto')
    assert cfg.custom_hooks[0] == dict(type='EMAHook')
    assert cfg.custom_hooks[1] == dict(type='SafeCheckpointHook', interval=100, by_epoch=False)
    assert changes[1] == 'custom_hooks.1: SafeCheckpointHook instead of CheckpointHook'


def test_a_config_that_saves_nothing_and_the_projects_own_stay_as_they_are(fcos):
    cfg = Config(dict(default_hooks=dict(checkpoint=None)))
    assert edit.make_resumable(cfg) == []
    assert cfg.default_hooks.checkpoint is None
    assert edit.make_resumable(fcos) == []


def test_a_config_that_ends_the_program_is_an_error(tmp_path):
    (tmp_path / 'c.py').write_text('raise SystemExit(0)')
    with pytest.raises(InputError, match=r'c\.py cannot be read: SystemExit'):
        edit.load_config(tmp_path / 'c.py')


def test_the_size_of_a_test_is_found_in_any_pipeline():
    crop = dict(type='RandomChoice', transforms=[[dict(type='mmpretrain.CenterCrop', crop_size=8)]])
    dataset = dict(pipeline=[dict(type='Resize', scale=(9, 8)), abs, crop])
    cfg = Config(dict(test_dataloader=dict(dataset=dict(type='Wrapper', dataset=dataset))))
    assert edit.describe_test_size(cfg) == 'Resize scale=(9, 8), CenterCrop crop_size=8'
    assert edit.describe_test_size(Config()) is None
