"""What train and test say of what is wrong; docs/bad_input.md has what one line says alone."""

import shutil

import pytest
import torch
from tool_runs import write_config

from tresnet_det.engine import config as edit


@pytest.fixture
def config(tiny_config):
    return tiny_config('detection')


@pytest.fixture
def damaged(data, tmp_path):
    """A config whose data a test may damage."""
    return write_config('detection', tmp_path / 'damaged.py', data.folder)


@pytest.fixture
def train(run):
    def call(config, *options):
        return run('train', config, '--work-dir', 'work', *options)

    return call


def test_missing_coco_names_where_it_was_looked_for_and_the_two_ways_on(
    project_root, train, tmp_path
):
    message = train(project_root / 'configs/fcos_tresnet_m.py').error
    assert str(tmp_path / 'data/coco/annotations/instances_train2017.json') in message
    assert 'tools/get_coco.py' in message
    assert '--demo' in message
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize('content', ['x = dict(', '1 / 0', 'custom_imports = dict(imports="n")'])
def test_a_config_that_fails_is_named(content, train, tmp_path):
    (tmp_path / 'broken.py').write_text(content)
    assert 'broken.py' in train('broken.py').error


@pytest.mark.parametrize('workers', [0, 1])
def test_an_undecodable_image_is_named_also_out_of_a_worker(damaged, data, train, workers):
    broken = sorted((data.folder / 'train2017').iterdir())[3]
    broken.write_bytes(b'no image')
    message = train(damaged, '--cfg-options', f'train_dataloader.num_workers={workers}').error
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


@pytest.mark.parametrize(
    ('option', 'expected'),
    [
        ('model.backbone.arch=s', "unknown arch 's'"),
        ('model.backbone.out_indices=(1,2,4)', 'out_indices'),
        ('model.backbone.nope=1', 'nope'),
        ('model.backbone.norm_cfg.backend=cuda', 'backend'),
        ('train_cfg.max_epoch=1', "unexpected keyword argument 'max_epoch'"),
        ('train_dataloader.batchsize=4', "unexpected keyword argument 'batchsize'"),
        ('optim_wrapper.optimizer.type=AdamWW', 'an optimizer'),
    ],
)
def test_a_wrong_setting_is_named(config, train, option, expected):
    assert expected in train(config, '--cfg-options', option).error


def test_a_checkpoint_of_another_arch_is_refused(trained, run, tiny_config):
    wider = dict(backbone=dict(arch=dict(width_factor=0.5)), neck=dict(in_channels=[64, 512, 1024]))
    checkpoint = trained('detection').checkpoint
    message = run(
        'test', tiny_config('detection', model=wider), checkpoint, '--work-dir', 't'
    ).error
    assert str(checkpoint) in message
    assert 'arch' in message


def test_a_broken_checkpoint_and_an_out_file_of_another_kind_are_refused(config, run, tmp_path):
    broken = tmp_path / 'broken.pth'
    torch.save({'state_dict': {'w': torch.zeros(1000)}}, broken)
    broken.write_bytes(broken.read_bytes()[:1000])
    assert str(broken) in run('test', config, broken).error
    assert '--out x.txt' in run('test', config, 'no.pth', '--out', 'x.txt').error


def test_amp_without_a_gpu_says_so(config, train, monkeypatch):
    monkeypatch.setattr(edit, 'get_device', lambda: 'cpu')
    assert '--amp needs a GPU' in train(config, '--amp').error


# ---------------------------------------------------------------------------------------------
# Classifiers


@pytest.fixture
def folders(class_folders, tmp_path):
    """A copy that may be damaged, with its config."""
    shutil.copytree(class_folders, tmp_path / 'folders')
    return tmp_path / 'folders'


@pytest.fixture
def train_folders(tiny_config, train, folders):
    def call(*options, **changes):
        return train(tiny_config('classification', folders, **changes), *options)

    return call


def test_a_head_for_another_number_of_classes_is_named_before_anything_is_built(train_folders):
    line = train_folders(model=dict(head=dict(num_classes=1000))).error
    assert 'train: num_classes of the head is 1000, the data has 3 classes' in line
    assert 'set num_classes=3' in line


def test_a_validation_of_other_classes_is_named(train_folders, folders):
    (folders / 'val' / 'red').rename(folders / 'val' / 'rot')
    line = train_folders().error
    assert "train lacks 'rot', val lacks 'red'" in line


def test_an_image_that_does_not_decode_is_named(train_folders, folders):
    bad = folders / 'train' / 'green' / '2.png'
    bad.write_bytes(bad.read_bytes()[:40])
    assert str(bad) in train_folders().error


def test_a_head_that_does_not_fit_the_backbone_is_named(train_folders):
    line = train_folders('--cfg-options', 'model.head.in_channels=2048').error
    assert 'model.head.in_channels is 2048, but the backbone gives 512' in line


@pytest.mark.parametrize('option', [['--tta'], ['--show-dir', 'drawn']])
def test_what_is_for_detectors_only_says_so(trained, run, option):
    done = trained('classification')
    line = run('test', done.config, done.checkpoint, '--work-dir', 'test', *option).error
    assert option[0] in line


def test_pretrained_without_such_a_checkpoint_says_so(train_folders, tmp_path):
    assert 'no checkpoint at' in train_folders('--pretrained', tmp_path / 'none').error
