"""What --data makes of a config, without a training."""

import json
import math

import pytest
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from PIL import Image

from tresnet_det.engine import config as edit
from tresnet_det.engine import own_data
from tresnet_det.errors import InputError


def write_coco(root, **counts):
    """A COCO folder with so many images a split, a box in each, of cat and dog by turns."""
    for split, count in counts.items():
        content = dict(images=[], annotations=[], categories=[])
        content['categories'] = [dict(id=1, name='cat'), dict(id=2, name='dog')]
        (root / split).mkdir(parents=True)
        for i in range(1, count + 1):
            name = f'{i}.png'
            Image.new('RGB', (40, 32)).save(root / split / name)
            content['images'].append(dict(id=i, file_name=name, width=40, height=32))
            content['annotations'].append(
                dict(id=i, image_id=i, category_id=1 + i % 2, bbox=[1, 1, 9, 9], area=81, iscrowd=0)
            )
        (root / f'{split}.json').write_text(json.dumps(content))
    return root


@pytest.fixture
def folder(tmp_path):
    return write_coco(tmp_path / 'own', train=40, val=3, test=2)


def use(cfg, folder):
    return own_data.use_folder(cfg, folder, folder.parent / 'work', None)


def hooks_of(cfg, kind):
    return [hook for hook in cfg.custom_hooks if hook['type'] == kind]


def test_datasets_heads_and_evaluators_follow_the_data(fcos, folder, tmp_path):
    use(fcos, folder)
    for role in ('train', 'val', 'test'):
        dataset = fcos[f'{role}_dataloader'].dataset
        assert (dataset.type, dataset.data_root) == ('CocoDataset', str(folder))
        assert (dataset.ann_file, dataset.data_prefix.img) == (f'{role}.json', role)
        assert tuple(dataset.metainfo.classes) == ('cat', 'dog')
    assert fcos.val_evaluator.ann_file == str(folder / 'val.json')
    assert fcos.test_evaluator.ann_file == str(folder / 'test.json')
    assert fcos.model.bbox_head.num_classes == 2
    fcos.dump(tmp_path / 'as_run.py')
    again = Config.fromfile(tmp_path / 'as_run.py')
    assert again.test_dataloader.dataset == fcos.test_dataloader.dataset
    # The pipelines and the rest are the config's own.
    assert fcos.train_dataloader.dataset.filter_cfg.min_size == 32
    assert fcos.train_dataloader.dataset.pipeline[2].scale == (1333, 800)


def test_early_stopping_watches_what_the_best_checkpoint_is_saved_by(fcos, folder):
    use(fcos, folder)
    (stopping,) = hooks_of(fcos, 'EarlyStoppingHook')
    assert stopping.monitor == fcos.default_hooks.checkpoint.save_best == 'coco/bbox_mAP'
    assert (stopping.rule, stopping.patience) == ('greater', 5)
    assert len(hooks_of(fcos, 'EMAHook')) == 1  # the config's own
    fcos.custom_hooks.remove(stopping)
    fcos.train_cfg.update(max_epochs=120, val_interval=2)
    use(fcos, folder)
    assert hooks_of(fcos, 'EarlyStoppingHook')[0].patience == 15  # a quarter of the validations


def test_own_early_stopping_stays_and_what_lacks_is_added(fcos, folder):
    own = dict(type='EarlyStoppingHook', monitor='coco/bbox_mAP_50', patience=2)
    fcos.custom_hooks = [own]
    fcos.default_hooks.checkpoint.pop('save_best')
    use(fcos, folder)
    assert hooks_of(fcos, 'EarlyStoppingHook') == [own]
    assert fcos.default_hooks.checkpoint.save_best == 'coco/bbox_mAP'


def test_wrappers_stay_and_a_concatenation_becomes_one_set(fcos, folder):
    cfg = fcos
    inner = dict(type='VOCDataset', data_root='data/VOCdevkit/', ann_file='x.txt', pipeline=['p'])
    both = dict(type='ConcatDataset', datasets=[inner, dict(inner, ann_file='y.txt')])
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=3, dataset=both)
    cfg.test_dataloader.dataset.type = 'LVISV1Dataset'  # a child of CocoDataset, another format
    cfg.val_evaluator = dict(type='VOCMetric', metric='mAP')
    cfg.default_hooks.checkpoint.save_best = 'pascal_voc/mAP'
    data = use(cfg, folder)
    outer = cfg.train_dataloader.dataset
    assert (outer.type, outer.times) == ('RepeatDataset', 3)
    assert (outer.dataset.type, outer.dataset.ann_file) == ('CocoDataset', 'train.json')
    assert outer.dataset.pipeline == ['p']
    assert cfg.test_dataloader.dataset.type == 'CocoDataset'
    assert cfg.val_evaluator.type == 'CocoTwelveMetric'
    assert cfg.default_hooks.checkpoint.save_best == 'coco/bbox_mAP'
    assert '12 epochs of 15 steps' in own_data.fit_training(cfg, data, {})[-2]  # 3 * 40 / 8


def test_the_learning_rate_is_scaled_and_printed(project_root, folder, monkeypatch, capsys):
    cfg = edit.load_config(project_root / 'configs/bccd/fcos_tresnet_m_bccd.py')
    assert not cfg.auto_scale_lr.enable
    data = use(cfg, folder)
    assert cfg.auto_scale_lr.enable
    cfg.train_dataloader.batch_size = 4
    line = own_data.fit_training(cfg, data, {})[-2]
    assert line == '12 epochs of 10 steps, batch 4, learning rate 0.0005 (0.001 for a batch of 8)'
    monkeypatch.setenv('WORLD_SIZE', '4')  # left over: no launcher was asked for
    monkeypatch.setenv('RANK', '1')
    assert own_data.fit_training(cfg, data, {})[-2] == line
    own_data.print_lines(['what was recognised'])
    assert 'what was recognised' in capsys.readouterr().out
    monkeypatch.setattr(own_data, 'get_world_size', lambda: 4)
    line = own_data.fit_training(cfg, data, {})[-2]
    assert '3 steps, batch 4 on each of 4 processes, learning rate 0.002' in line
    cfg.auto_scale_lr = None
    assert 'not scaled to the batch' in own_data.fit_training(cfg, data, {})[-2]


def test_a_small_folder_without_a_test_split_has_a_smaller_batch(fcos, tmp_path):
    folder = write_coco(tmp_path / 'own', train=3, val=1)
    data = use(fcos, folder)
    assert fcos.test_dataloader.dataset.ann_file == 'val.json'
    assert fcos.test_evaluator.ann_file == str(folder / 'val.json')
    assert '  test    = val: there is no test split' in own_data.describe(data)
    fcos.train_dataloader.drop_last = True
    lines = own_data.fit_training(fcos, data, {})
    assert (fcos.train_dataloader.batch_size, fcos.train_dataloader.drop_last) == (3, False)
    assert fcos.train_dataloader.num_workers == fcos.val_dataloader.num_workers == 1
    assert lines[0] == 'batch of 3 instead of 8: there are no more'


def test_images_without_boxes_do_not_count_where_the_config_filters_them(fcos, tmp_path):
    folder = write_coco(tmp_path / 'own', train=9, val=1)
    content = json.loads((folder / 'train.json').read_text())
    del content['annotations'][5:]
    (folder / 'train.json').write_text(json.dumps(content))
    lines = own_data.fit_training(fcos, use(fcos, folder), {})
    assert lines[0] == '4 training images without objects are not trained on'
    assert fcos.train_dataloader.batch_size == 5


@pytest.mark.parametrize(('indices', 'count'), [(9, 9), (-5, 5), ([0, 7, 7], 3)])
def test_what_is_printed_and_fitted_counts_a_subset_of_the_images(fcos, folder, indices, count):
    data = use(fcos, folder)
    fcos.train_dataloader.dataset.indices, fcos.val_dataloader.dataset.indices = indices, 2
    line = own_data.summarize_data(fcos, data)
    train = f'data: train {count} of 40 images with {count} boxes'
    assert line.startswith(f'{train}, val 2 of 3 images with 2 boxes, ')
    lines = own_data.fit_training(fcos, data, {})
    assert f'indices choose {count} of 40 training images' in lines
    assert f'12 epochs of {math.ceil(count / 8)} steps, batch {min(count, 8)},' in lines[-2]
    fcos.train_dataloader.dataset.indices = [40]
    with pytest.raises(InputError, match='indices of a dataset of 40 images: index 40 is out of'):
        own_data.fit_training(fcos, data, {})


def test_without_a_test_split_a_test_measures_as_the_validation_does(fcos, tmp_path):
    size = {'val_dataloader.dataset.pipeline.1.scale': (96, 96)}
    data = use(fcos, write_coco(tmp_path / 'own', train=40, val=3))
    edit.override(fcos, size)
    lines = own_data.fit_training(fcos, data, size)
    assert fcos.test_dataloader.dataset.pipeline[1].scale == (96, 96)
    key = 'test_dataloader.dataset.pipeline.1.scale'
    assert f"set as for val_dataloader: '{key}'" in lines
    own_data.fit_training(fcos, data, {**size, key: (64, 64)})  # the user's own
    assert not any('set as for' in line for line in own_data.fit_training(fcos, data, {}))


def test_a_warm_up_that_would_never_end_is_shortened(fcos, folder):
    data = use(fcos, folder)
    fcos_again = Config(fcos.to_dict())
    lines = own_data.fit_training(fcos, data, {})
    assert 'warm-up of 6 steps instead of 1000: the training has 60 steps' in lines
    assert fcos.param_scheduler[0].end == 6
    own_data.fit_training(fcos_again, data, {'param_scheduler.0.end': 1000})  # the user's own
    assert fcos_again.param_scheduler[0].end == 1000
    fcos_again.train_cfg.max_epochs = 400
    fcos_again.param_scheduler[1].milestones = [300]
    assert not any('warm-up' in line for line in own_data.fit_training(fcos_again, data, {}))


def test_data_of_boxes_is_refused_by_a_config_of_outlines(fcos, folder):
    fcos.train_dataloader.dataset.pipeline[1].with_mask = True
    with pytest.raises(InputError, match='has boxes without outlines'):
        use(fcos, folder)


def test_a_multi_label_config_reads_the_same_folder(project_root, folder):
    cfg = edit.load_config(project_root / 'configs/multilabel_tresnet_m_448.py')
    data = use(cfg, folder)
    dataset = cfg.train_dataloader.dataset
    assert (dataset.type, dataset.ann_file) == ('MultiLabelDataset', 'train.json')
    assert cfg.model.head.num_classes == 2
    assert hooks_of(cfg, 'EarlyStoppingHook')[0].monitor == 'multilabel/mAP'
    assert own_data.describe(data)[1].startswith('  train   40 images, 40 labels: ')


def test_a_torchvision_config_reads_class_folders(project_root, class_folders, tmp_path):
    cfg = edit.load_config(project_root / 'configs/transfer/tresnet_xl_cifar10.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    own_data.use_folder(cfg, class_folders, tmp_path / 'work', None)
    dataset = cfg.train_dataloader.dataset
    assert (dataset.type, dataset.data_prefix.img) == ('ImageFolderDataset', 'train')
    assert dataset.pipeline == pipeline


class MyCoco(CocoDataset): ...


class Score(BaseMetric):
    default_prefix = 'mine'

    def process(self, data_batch, data_samples): ...

    def compute_metrics(self, results): ...


def test_a_users_own_dataset_and_evaluator_stay(fcos, folder):
    fcos.train_dataloader.dataset.type = MyCoco
    fcos.val_evaluator = dict(type=Score)
    use(fcos, folder)
    dataset = fcos.train_dataloader.dataset
    assert (dataset.type, dataset.ann_file) == (MyCoco, 'train.json')
    assert dataset.filter_cfg.min_size == 32
    assert fcos.val_evaluator == dict(type=Score)
    assert fcos.default_hooks.checkpoint.save_best == 'auto'  # its first number
    assert not hooks_of(fcos, 'EarlyStoppingHook')  # whose monitor must be named
