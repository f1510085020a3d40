"""What tools/train.py and tools/test.py say of what is wrong, in one line."""

import pytest
import torch
from tool_results import error_of

from tresnet_det.engine import config as edit

WORK = 'work'


def train_error(run, config, tmp_path, *options):
    return error_of(run('train', config, '--work-dir', tmp_path / WORK, *options))


def test_missing_coco_names_where_it_was_looked_for_and_the_two_ways_on(
    project_root, run, tmp_path
):
    config = project_root / 'configs' / 'fcos_tresnet_m.py'
    message = train_error(run, config, tmp_path)
    assert str(tmp_path / 'data/coco/annotations/instances_train2017.json') in message
    assert 'tools/get_coco.py' in message
    assert '--demo' in message
    assert not (tmp_path / WORK).exists()


def test_missing_config_is_named(run, tmp_path):
    assert str(tmp_path / 'no.py') in train_error(run, 'no.py', tmp_path)


def test_broken_config_is_named(run, tmp_path):
    (tmp_path / 'broken.py').write_text('model = dict(')
    assert 'broken.py' in train_error(run, 'broken.py', tmp_path)


@pytest.mark.parametrize(
    'content', ['x = undefined', 'x = 1 / 0', 'custom_imports = dict(imports="no")']
)
def test_a_config_that_fails_is_named(content, run, tmp_path):
    (tmp_path / 'broken.py').write_text(content)
    assert 'broken.py' in train_error(run, 'broken.py', tmp_path)


def test_an_unknown_key_of_the_config_is_warned_of(config, run, tmp_path):
    options = ['--cfg-options', 'trian_cfg.max_epochs=1', 'model.type=Nope']
    result = run('train', config, '--work-dir', tmp_path / WORK, *options)
    assert 'trian_cfg.max_epochs: the config has no such key' in result.out + result.err


def test_a_work_directory_that_is_a_file_is_named(config, run, tmp_path):
    (tmp_path / 'file').write_text('')
    message = error_of(run('train', config, '--work-dir', tmp_path / 'file'))
    assert f'{tmp_path / "file"} is a file' in message
    message = error_of(run('train', config, '--work-dir', '/proc/none/work'))
    assert '/proc/none/work cannot be made' in message


def test_training_data_without_annotations_is_refused(config, data, run, tmp_path):
    data.edit('train', lambda content: content['annotations'].clear())
    assert 'nothing to learn' in train_error(run, config, tmp_path)


def test_truncated_annotations_are_named(config, data, run, tmp_path):
    path = data.folder / 'annotations/instances_train2017.json'
    path.write_text(path.read_text()[:500])
    message = train_error(run, config, tmp_path)
    assert str(path) in message
    assert not (tmp_path / WORK).exists()


def test_a_missing_image_is_named_before_training(config, data, run, tmp_path):
    gone = sorted((data.folder / 'train2017').iterdir())[3]
    gone.unlink()
    assert gone.name in train_error(run, config, tmp_path)


def test_an_undecodable_image_stops_training_and_is_named(config, data, run, tmp_path):
    broken = sorted((data.folder / 'train2017').iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:200])
    message = train_error(run, config, tmp_path)
    assert str(broken) in message
    assert 'skip' in message


@pytest.mark.parametrize('workers', [0, 1])
def test_an_undecodable_image_is_named_also_out_of_a_worker(config, data, run, tmp_path, workers):
    broken = sorted((data.folder / 'train2017').iterdir())[3]
    broken.write_bytes(b'no image')
    message = train_error(
        run, config, tmp_path, '--cfg-options', f'train_dataloader.num_workers={workers}'
    )
    assert str(broken) in message


def test_an_undecodable_image_is_skipped_and_counted_by_option(config, data, run, tmp_path):
    broken = sorted((data.folder / 'train2017').iterdir())[3]
    broken.write_bytes(b'no image')
    result = run(
        'train',
        config,
        *('--work-dir', tmp_path / WORK, '--cfg-options', 'train_cfg.max_epochs=1'),
        'train_dataloader.dataset.pipeline.0.on_error=skip',
    )
    assert result.code == 0
    assert str(broken) in result.out + result.err


def test_boxes_outside_their_image_are_warned_of(config, data, run, tmp_path):
    def move_out(content):
        content['annotations'][0]['bbox'] = [500.0, 500.0, 10.0, 10.0]

    data.edit('train', move_out)
    result = run(
        'train', config, '--work-dir', tmp_path / WORK, '--cfg-options', 'train_cfg.max_epochs=1'
    )
    assert result.code == 0
    assert 'boxes wholly outside their image: ' in result.out + result.err


def test_a_wrong_number_of_classes_names_the_key_and_both_numbers(config, run, tmp_path):
    message = train_error(run, config, tmp_path, '--cfg-options', 'model.bbox_head.num_classes=7')
    assert 'model.bbox_head.num_classes' in message
    assert '7' in message
    assert '10' in message


@pytest.mark.parametrize(
    ('option', 'expected'),
    [
        ('model.backbone.arch=s', "unknown arch 's'"),
        ('model.backbone.out_indices=(1,2,4)', 'out_indices'),
        ('model.backbone.nope=1', 'nope'),
        ('model.backbone.norm_cfg.backend=cuda', 'backend'),
        ('model.type=Nope', 'Nope is not in the'),
        ('model.neck.in_channels=[1,2,3]', 'the backbone gives [32, 256, 512]'),
        ('train_dataloader.dataset.pipeline.9.type=1', 'pipeline.9'),
        ('no_key_and_value', 'takes KEY=VALUE'),
        ('train_cfg.max_epoch=1', "unexpected keyword argument 'max_epoch'"),
        ('train_dataloader.batchsize=4', "unexpected keyword argument 'batchsize'"),
        ('optim_wrapper.optimizer.type=AdamWW', 'an optimizer'),
    ],
)
def test_a_wrong_setting_is_named(config, run, tmp_path, option, expected):
    assert expected in train_error(run, config, tmp_path, '--cfg-options', option)


def test_a_checkpoint_of_another_arch_is_refused(config, run, tmp_path):
    work = tmp_path / WORK
    run('train', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_epochs=1')
    wider = tmp_path / 'wider.py'
    wider.write_text(
        f"_base_ = '{config}'\nmodel = dict(\n"
        'backbone=dict(arch=dict(width_factor=0.5)),\n'
        'neck=dict(in_channels=[64, 512, 1024]))\n'
    )
    checkpoint = work / 'epoch_1.pth'
    message = error_of(run('test', wider, checkpoint, '--work-dir', tmp_path / 'test'))
    assert str(checkpoint) in message
    assert 'arch' in message


def test_a_missing_and_a_broken_checkpoint_are_named(config, run, tmp_path):
    assert str(tmp_path / 'no.pth') in error_of(run('test', config, 'no.pth'))
    broken = tmp_path / 'broken.pth'
    torch.save({'state_dict': {'w': torch.zeros(1000)}}, broken)
    broken.write_bytes(broken.read_bytes()[:1000])
    assert str(broken) in error_of(run('test', config, broken))


def test_an_out_file_of_another_kind_is_refused(config, run):
    assert '--out x.txt' in error_of(run('test', config, 'no.pth', '--out', 'x.txt'))


def test_resume_from_a_file_that_is_not_there_is_named(config, run, tmp_path):
    assert str(tmp_path / 'no.pth') in train_error(run, config, tmp_path, '--resume', 'no.pth')


def test_amp_without_a_gpu_says_so(config, run, tmp_path, monkeypatch):
    monkeypatch.setattr(edit, 'get_device', lambda: 'cpu')
    assert '--amp needs a GPU' in train_error(run, config, tmp_path, '--amp')
