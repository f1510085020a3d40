"""One call on a folder: ``--data`` of tools/train.py and tools/test.py."""

import json
import shutil

import pytest
import torch
from own_layouts import write_yolo
from tool_runs import logged

from tresnet_det.engine import config as edit

BATCH_64 = dict(batch_size=64)


@pytest.fixture
def base(config):
    """The miniature config with the classes and the evaluation of data that does not exist."""
    cfg = edit.load_config(config)
    edit.set_num_classes(cfg, 80)
    edit.set_data_root(cfg, config.parent)
    for loader in edit.LOADERS:
        del cfg[loader].dataset['metainfo']
    path = config.with_name('base.py')
    cfg.dump(path)
    return path


def test_a_folder_trains_and_tests_as_the_config_written_by_hand_does(
    trained, base, demo_data, run, tmp_path
):
    hand, folder = trained('detection'), tmp_path / 'own'
    write_yolo(demo_data, folder)
    before = sorted(folder.rglob('*'))
    own = run('train', base, '--data', folder)
    assert own.code == 0, own.err

    work = tmp_path / 'work_dirs/base_own'  # of the folder's name
    for key in ('loss', 'loss_bbox', 'lr', 'coco/bbox_mAP', 'coco/bbox_mAP_50'):
        assert logged(work, key) == hand.logged(key)
    first, second = (
        torch.load(path / 'epoch_2.pth', weights_only=True)['state_dict']
        for path in (hand.work_dir, work)
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert sorted(folder.rglob('*')) == before
    files = {file.name for file in (work / 'data').iterdir()}
    assert files == {'instances_train.json', 'instances_val.json'}
    for line in (
        f"--data: YOLO's label files at {folder}",
        '  train   12 images, ',
        'data: train 12 images with ',
        "  classes 10: '0', '1', ",
        'base_own/data; nothing in the data folder is changed',
        '2 epochs of 3 steps, batch 4, learning rate 0.00175 (0.0035 for a batch of 8)',
        'best checkpoint by coco/bbox_mAP, averaged weights (EMA), stops after 5 validations',
    ):
        assert line in own.out
    assert edit.load_config(work / 'base.py').model.bbox_head.num_classes == 10
    # What the training printed as the next command, and --data with the config it began with.
    for arguments in ([work / 'base.py', work], [base, work, '--data', folder]):
        result = run('test', *arguments, '--out', tmp_path / 'figures.json')
        assert result.code == 0, result.err
        metrics = json.loads((tmp_path / 'figures.json').read_text())['metrics']
        assert metrics['coco/bbox_mAP'] == max(hand.logged('coco/bbox_mAP'))
        assert 'on 6 images' in result.out
    assert f'--data {folder.name}' in result.out


def test_multi_label_trains_on_a_folder_without_validation(tiny_config, demo_data, run, tmp_path):
    config = tiny_config('multilabel', tmp_path, model=dict(head=dict(num_classes=80)))
    folder = tmp_path / 'own'
    shutil.copytree(demo_data / 'train2017', folder / 'images')
    shutil.copy(demo_data / 'annotations/instances_train2017.json', folder / 'labels.json')
    options = ('--work-dir', 'work', '--cfg-options', 'train_cfg.max_epochs=1')
    result = run('train', config, '--data', folder, *options)
    assert result.code == 0, result.err
    assert 'no validation split: 1 of the 12 training images are held out' in result.out
    assert 'best multilabel/mAP' in result.out
    as_run = tmp_path / 'work' / config.name
    assert edit.load_config(as_run).model.head.num_classes == 10
    result = run('test', as_run, 'work')
    assert result.code == 0, result.err
    assert 'on 1 images' in result.out


def test_class_folders_without_validation_train_and_test(tiny_config, class_folders, run, tmp_path):
    config = tiny_config('classification', tmp_path, train_dataloader=BATCH_64)
    options = ('--data', class_folders / 'train', '--work-dir', 'work')
    result = run('train', config, *options, '--cfg-options', 'train_cfg.max_epochs=1')
    assert result.code == 0, result.err
    for line in (
        "  classes 3: 'blue', 'green', 'red'",
        '3 of the 12 training images are held out',  # one of each class
        'batch of 9 instead of 64: there are no more',
        'best accuracy/top1',
    ):
        assert line in result.out
    assert edit.load_config(tmp_path / 'work' / config.name).train_dataloader.drop_last is False
    result = run('test', config, 'work', '--data', class_folders / 'train')
    assert result.code == 0, result.err
    assert 'on 3 images' in result.out
