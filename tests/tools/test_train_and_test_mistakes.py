"""What train and test report of a mistake, beyond the lines of bad_input.md."""

import shutil

import pytest
from tool_runs import write_config


@pytest.fixture
def damaged(data, tmp_path):
    """A config whose data a test may damage."""
    return write_config('detection', tmp_path / 'damaged.py', data.folder)


@pytest.fixture
def train(run):
    def call(config, *options):
        return run('train', config, '--work-dir', 'work', *options)

    return call


def test_an_undecodable_image_is_named_also_out_of_a_worker(damaged, data, train):
    broken = sorted((data.folder / 'train2017').iterdir())[3]
    broken.write_bytes(b'no image')
    message = train(damaged, '--cfg-options', 'train_dataloader.num_workers=1').error
    assert str(broken) in message
    assert 'skip' in message


def test_a_skipped_image_and_a_box_outside_its_image_are_warned_of(damaged, data, train):
    broken = sorted((data.folder / 'train2017').iterdir())[3]
    broken.write_bytes(b'no image')
    outside = [500.0, 500.0, 10.0, 10.0]
    data.edit('train', lambda content: content['annotations'][0].update(bbox=outside))
    pipeline = 'train_dataloader.dataset.pipeline'
    options = ('train_cfg.max_epochs=1', f'{pipeline}.0.on_error=skip', 'trian_cfg.max_epochs=1')
    result = train(damaged, '--cfg-options', *options)
    assert result.code == 0, result.err
    assert str(broken) in result.printed
    assert 'boxes wholly outside their image: ' in result.printed
    assert 'trian_cfg.max_epochs: the config has no such key' in result.printed


def test_a_validation_of_other_classes_and_an_image_that_does_not_decode_are_named(
    train, tiny_config, class_folders, tmp_path
):
    folders = tmp_path / 'folders'
    shutil.copytree(class_folders, folders)
    config = tiny_config('classification', folders)
    bad = folders / 'train' / 'green' / '2.png'
    bad.write_bytes(bad.read_bytes()[:40])
    assert str(bad) in train(config).error
    (folders / 'val' / 'red').rename(folders / 'val' / 'rot')
    assert "train lacks 'rot', val lacks 'red'" in train(config).error


def test_what_is_not_for_a_classifier_says_so(trained, run):
    done = trained('classification')
    for option in (['--tta'], ['--show-dir', 'drawn'], ['--keep-thresholds']):
        line = run('test', done.config, done.checkpoint, '--work-dir', 'test', *option).error
        assert option[0] in line
    tested = run('test', done.config, done.checkpoint, '--work-dir', 'test')
    assert 'predict.py' in tested.out.partition('  next ')[2]  # and not test.py with --show-dir


def test_the_demo_has_no_outlines_to_learn(project_root, train):
    message = train(project_root / 'configs/reuse/mask_rcnn_tresnet_m.py', '--demo').error
    assert message.startswith('error: --demo: has boxes without outlines')


def test_a_test_is_no_training_where_that_stops_early(trained, run):
    done = trained('detection')
    stopping = "custom_hooks=[dict(type='EarlyStoppingHook',monitor='coco/bbox_mAP')]"
    options = ('--cfg-options', stopping, 'train_dataloader.dataset.ann_file=none.json')
    assert run('test', done.config, done.work_dir, *options).code == 0  # reads no training data
    message = run('test', done.config, done.work_dir, *options, 'model.bbox_head.stacked_convs=3')
    assert 'missing (bbox_head.' in message.error


def test_masks_have_no_test_time_augmentation(project_root, trained, run):
    masks = project_root / 'configs/reuse/mask_rcnn_tresnet_m.py'
    message = run(
        'test', masks, trained('detection').checkpoint, '--tta', '--work-dir', 'test'
    ).error
    assert message.startswith("error: --tta: MMDetection's DetTTAModel merges boxes, no masks")
