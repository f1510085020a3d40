"""What train and test do with a config, beside the training that all tests share."""

import json
import os
import subprocess
import sys

import mmengine
import pytest
import torch
from tool_runs import ROOT, logged, run_here

from tresnet_det import TResNet
from tresnet_det.checkpoints import to_timm
from tresnet_det.compat.checkpoint_io import load_checkpoint_file
from tresnet_det.engine import config as edit
from tresnet_det.engine.work_dir import find_checkpoint, read_seconds
from tresnet_det.errors import MissingFileError
from tresnet_det.tasks import find_task

DIGITS = list('0123456789')
ONE_EPOCH = ['--cfg-options', 'train_cfg.max_epochs=1']


def unreachable(*arguments):
    """What the hub's client does without a network, at once."""
    raise ConnectionError('no route to the hub')


def test_training_leaves_checkpoints_curves_and_logs(trained):
    done = trained('detection')
    assert done.checkpoint.is_file()
    assert (done.work_dir / 'curves.png').read_bytes().startswith(b'\x89PNG')
    assert list(done.work_dir.glob('*/vis_data/events.out.tfevents.*'))
    assert 'Scaling the original LR by' in done.result.printed
    assert 'work/curves.png' in done.result.out
    assert len(done.logged('coco/bbox_mAP')) == 2
    meta = torch.load(done.checkpoint, weights_only=True)['meta']
    assert meta['input'] == dict(mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True)


def test_the_printed_next_command_measures_the_best_validation(trained, tmp_path):
    done = trained('detection')
    (line,) = (line for line in done.result.out.splitlines() if line.startswith('  next'))
    _, _, tool, *arguments = line.split()
    assert tool == 'tools/test.py'
    out = tmp_path / 'new' / 'figures.json'
    options = ('--work-dir', tmp_path / 'test', '--out', out)
    result = run_here('test', *arguments, *options, cwd=done.config.parent)
    assert result.code == 0, result.err
    assert 'best_coco_bbox_mAP_epoch_' in result.out
    written = json.loads(out.read_text())
    assert len([k for k in written['metrics'] if k.startswith('coco/bbox_')]) == 12
    assert written['metrics']['coco/bbox_mAP'] == max(done.logged('coco/bbox_mAP'))
    assert {row['name'] for row in written['per_class']} == set(DIGITS)
    assert (tmp_path / 'test' / 'predictions.png').is_file()
    assert 'Average Recall' in result.printed


def test_several_labels_are_measured_with_a_table_of_classes(trained, run, tmp_path):
    done = trained('multilabel')
    assert 'best multilabel/mAP' in done.result.out
    out = tmp_path / 'figures.json'
    result = run('test', done.config, done.checkpoint, '--out', out, '--work-dir', 'test')
    assert result.code == 0, result.err
    written = json.loads(out.read_text())
    assert written['metrics']['multilabel/mAP'] == done.logged('multilabel/mAP')[-1]
    figures = [f + top for f in ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1') for top in ('', '_top3')]
    assert {f'multilabel/{name}' for name in ['mAP', *figures]} == set(written['metrics'])
    assert [row['name'] for row in written['per_class']] == DIGITS
    assert (tmp_path / 'test' / 'predictions.png').is_file()


def test_class_folders_are_counted_and_measured(trained, run, tmp_path):
    done = trained('classification')
    assert 'the data has 3 classes' in done.result.printed
    # On a CPU, the recipe's bfloat16 gives way, and says so.
    assert 'training in float32 instead of mixed bfloat16' in done.result.printed
    assert 'best accuracy/top1' in done.result.out
    assert edit.load_config(done.as_run).model.head.num_classes == 3
    # The config that it began with, which does not know the number of classes.
    options = ('--work-dir', 'test', '--out', 'figures.json')
    result = run('test', done.config, done.checkpoint, '--data-root', done.data_root, *options)
    assert result.code == 0, result.err
    assert 'top-1, %' in result.out
    metrics = json.loads((tmp_path / 'figures.json').read_text())['metrics']
    last = done.logged('accuracy/top1')[-1]
    assert metrics == {'accuracy/top1': last, 'accuracy/top5': 100}
    assert (tmp_path / 'test' / 'predictions.png').is_file()


def test_without_a_best_checkpoint_a_work_directory_stands_for_its_last(tmp_path):
    with pytest.raises(MissingFileError, match='no checkpoint at'):
        find_checkpoint(tmp_path)
    for age, name in enumerate(('best_a_epoch_2.pth', 'best_a_epoch_1.pth', 'epoch_3.pth')):
        torch.save({}, tmp_path / name)
        os.utime(tmp_path / name, (9 - age, 9 - age))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    assert find_checkpoint(tmp_path) == str(tmp_path / 'best_a_epoch_2.pth')
    for best in tmp_path.glob('best_*.pth'):
        best.unlink()
    assert find_checkpoint(tmp_path) == str(tmp_path / 'epoch_3.pth')


@pytest.mark.parametrize('norm', ['InPlaceABN', 'BN'])
def test_resume_takes_a_work_directory_and_ends_where_the_config_says(trained, run, tmp_path, norm):
    done = trained('detection')
    options = ('train_cfg.max_epochs=3', f'model.backbone.norm_cfg.type={norm}')
    arguments = ('--work-dir', 'second', '--resume', done.work_dir, '--cfg-options', *options)
    result = run('train', done.config, *arguments)
    assert result.code == 0, result.err
    assert 'resumed epoch: 2' in result.printed
    assert 'since the resume' in result.out
    before, last = (
        load_checkpoint_file(path)['resume']['seconds']
        for path in (done.work_dir / 'epoch_2.pth', tmp_path / 'second/epoch_3.pth')
    )
    assert read_seconds(tmp_path / 'second') >= last > before > 0  # of all runs
    assert (tmp_path / 'second/epoch_3.pth').is_file()
    assert not (tmp_path / 'second/epoch_1.pth').exists()


def test_resume_needs_no_pretrained_weights_and_an_empty_folder_starts_new(
    tiny_config, run, tmp_path, monkeypatch
):
    monkeypatch.setattr('huggingface_hub.hf_hub_download', unreachable)
    config = tiny_config('detection')
    result = run('train', config, '--work-dir', 'work', '--resume', *ONE_EPOCH)
    assert result.code == 0, result.err
    assert 'no checkpoint in work yet' in result.printed
    init = dict(_delete_=True, type='Pretrained', checkpoint='timm://no_such')
    pretrained = tiny_config('detection', model=dict(backbone=dict(init_cfg=init)))
    again = (*ONE_EPOCH, 'train_cfg.max_epochs=2')
    result = run('train', pretrained, '--work-dir', 'work', '--resume', *again)
    assert result.code == 0, result.err
    assert (tmp_path / 'work/epoch_2.pth').is_file()


def test_predictions_are_kept_with_out_pkl_and_options_are_followed(trained, run, tmp_path):
    done, out = trained('detection'), tmp_path / 'predictions.pkl'
    changes = ('--cfg-options', 'model.data_preprocessor.std=[58.4,57.1,57.4]')
    options = ('--out', out, '--tta', '--work-dir', 'test', *changes)
    result = run('test', done.config, done.checkpoint, *options)
    assert result.code == 0, result.err
    assert len(mmengine.load(out)) == 6
    assert 'were trained with another image normalization' in result.printed


def test_the_losses_are_the_same_from_another_data_root(trained, data, run, tmp_path):
    done = trained('detection')
    moved = data.folder.rename(tmp_path / 'moved')
    assert run('train', done.config, '--work-dir', 'work', '--data-root', moved).code == 0
    for key in ('loss', 'coco/bbox_mAP'):
        assert logged(tmp_path / 'work', key) == done.logged(key)


def test_from_scratch_is_printed_and_nothing_else_falls_back_to_it(tiny_config, run, monkeypatch):
    monkeypatch.setattr('huggingface_hub.hf_hub_download', unreachable)
    name = 'timm://tresnet_m.no_such_weights'
    init = dict(type='Pretrained', checkpoint=name)
    backbone = dict(frozen_stages=1, norm_eval=True, init_cfg=init)
    config = tiny_config('detection', model=dict(backbone=backbone))
    message = run('train', config, '--work-dir', 'work').error
    assert name in message
    assert '--from-scratch' in message
    # It ends at the neck: what comes before is what counts.
    wrong = ('--work-dir', 'work', '--cfg-options', 'model.neck.in_channels=[1,2,3]')
    result = run('train', config, '--from-scratch', *wrong)
    assert 'in_channels' in result.error
    assert f'random weights instead of {name}' in result.printed
    assert 'frozen_stages 1 -> -1' in result.printed
    assert 'norm_eval True -> False' in result.printed


def test_a_checkpoint_serves_a_network_of_ordinary_batch_norms(trained, run, tmp_path):
    done, found = trained('detection'), []
    for norm in ('InPlaceABN', 'BN'):
        out = tmp_path / f'{norm}.pkl'
        options = ('--work-dir', norm, '--cfg-options', f'model.backbone.norm_cfg.type={norm}')
        assert run('test', done.config, done.checkpoint, '--out', out, *options).code == 0
        found.append([p['pred_instances'] for p in mmengine.load(out)])
    for first, second in zip(*found, strict=True):
        assert len(first['scores']) > 0
        torch.testing.assert_close(first['scores'], second['scores'], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(first['bboxes'], second['bboxes'], rtol=1e-3, atol=1e-2)


def test_published_weights_are_tested_as_the_checkpoint_is(trained, run, tmp_path):
    done = trained('detection')
    published = run('publish_weights', done.checkpoint, '--out-dir', tmp_path)
    assert published.code == 0, published.err
    out = tmp_path / 'figures.json'
    result = run('test', done.config, published.out.strip(), '--out', out, '--work-dir', 'test')
    assert result.code == 0, result.err
    metrics = json.loads(out.read_text())['metrics']
    assert metrics == {key: done.logged(key)[-1] for key in metrics}
    backbone = run('convert_weights', done.checkpoint, 'backbone.safetensors', '--to', 'timm')
    assert (backbone.code, backbone.out.split(':')[0]) == (0, 'backbone.safetensors')


def test_pretrained_weights_of_timms_format_are_loaded_and_reported(
    tiny_config, tiny_arch, run, tmp_path
):
    backbone, file = TResNet(arch=tiny_arch), tmp_path / 'timm.pth'
    torch.save(to_timm(backbone.state_dict()), file)
    init = dict(type='Pretrained', checkpoint=str(file))
    config = tiny_config('detection', model=dict(backbone=dict(init_cfg=init)))
    result = run('train', config, '--work-dir', 'work', *ONE_EPOCH)
    assert result.code == 0, result.err
    count = len(backbone.state_dict())
    report = f'{file} (timm format): {count} tensors loaded, 0 missing, 0 unexpected'
    assert report in result.printed


@pytest.mark.parametrize('task', ['detection', 'multilabel'])
def test_a_classifiers_training_is_what_another_starts_from(
    task, trained, tiny_config, run, tmp_path
):
    first = trained('classification')
    # With a learning rate of 0 the backbone stays as it was loaded.
    still = [*ONE_EPOCH, 'optim_wrapper.optimizer.lr=0']
    options = ('--work-dir', 'next', '--pretrained', first.work_dir, *still)
    result = run('train', tiny_config(task), *options)
    assert result.code == 0, result.err
    given = torch.load(find_checkpoint(first.work_dir), weights_only=True)['state_dict']
    taken = torch.load(tmp_path / 'next/epoch_1.pth', weights_only=True)['state_dict']
    shared = {k for k in given if k.startswith('backbone.') and k.endswith('conv.weight')}
    assert len(shared) > 10
    assert all(torch.equal(given[k], taken[k]) for k in shared)


def test_init_cfg_takes_a_classifiers_checkpoint_for_head_and_backbone(
    trained, tiny_config, run, tmp_path
):
    first = trained('classification')
    init = dict(init_cfg=dict(type='Pretrained', checkpoint=str(first.checkpoint)))
    config = tiny_config('classification', model=dict(backbone=init, head=init))
    options = ('--work-dir', 'next', *ONE_EPOCH, 'optim_wrapper.optimizer.lr=0')
    result = run('train', config, *options)
    assert result.code == 0, result.err
    taken = torch.load(tmp_path / 'next/epoch_1.pth', weights_only=True)['state_dict']
    given = torch.load(first.checkpoint, weights_only=True)['state_dict']
    for key in ('backbone.conv1.conv.weight', 'head.fc.weight', 'head.fc.bias'):
        assert torch.equal(taken[key], given[key])


def test_cifar_10_trains_through_torchvisions_class_on_files_in_its_own_format(
    project_root, write_cifar10, run, tmp_path, tiny_arch
):
    write_cifar10(tmp_path / 'cifar10')
    cfg = edit.load_config(project_root / 'configs/transfer/tresnet_xl_cifar10.py')
    edit.drop_pretrained(cfg)
    for loader in edit.LOADERS:
        cfg[loader].dataset.pipeline = [dict(type='Resize', size=(64, 64))]
        cfg[loader].update(batch_size=4, num_workers=0, persistent_workers=False)
    cfg.model.backbone.arch = tiny_arch
    cfg.model.head.in_channels = 512
    cfg.param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True, end=1)]
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.dump(tmp_path / 'tiny.py')
    result = run('train', 'tiny.py', '--data-root', 'cifar10', '--work-dir', 'work')
    assert result.code == 0, result.err
    result = run('test', 'tiny.py', 'work', '--data-root', 'cifar10')
    assert result.code == 0, result.err
    assert 'top-1, %' in result.out


@pytest.mark.parametrize(
    ('name', 'task'),
    [
        ('fcos_tresnet_m.py', 'detection'),
        ('imagenet_tresnet_l.py', 'classification'),
        ('imagenet21k_tresnet_m.py', 'classification'),
        ('transfer/tresnet_xl_cifar10.py', 'classification'),
        ('multilabel_tresnet_m_448.py', 'multilabel'),
        ('ml_decoder_tresnet_l_448.py', 'multilabel'),
    ],
)
def test_the_demo_of_each_task_has_its_own_data_and_metric(name, task):
    cfg = edit.load_config(f'tresnet_det::{name}')
    assert find_task(cfg).name == task
    edit.put_over(cfg, edit.load_config(find_task(cfg).overlay))
    edit.set_num_classes(cfg, 10)
    dataset, metric = dict(
        detection=('CocoDataset', 'CocoTwelveMetric'),
        classification=('ImageFolderDataset', 'AccuracyMetric'),
        multilabel=('MultiLabelDataset', 'MultiLabelMetric'),
    )[task]
    assert {cfg[loader].dataset.type for loader in edit.LOADERS} == {dataset}
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        (first, *_) = edit.iterate_dicts(evaluator)
        assert first['type'] == metric
    assert edit.get_num_classes(cfg) == 10
    assert cfg.optim_wrapper.type == 'OptimWrapper'


@pytest.mark.slow
def test_the_classification_demo_runs_as_it_stands(tiny_config, run):
    config = tiny_config('classification')
    demo = ('--demo', '--data-root', 'demo')
    short = ('--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1')
    result = run('train', config, *demo, '--work-dir', 'work', *short)
    assert result.code == 0, result.err
    result = run('test', config, 'work', *demo)
    assert result.code == 0, result.err
    assert 'on 359 images' in result.out


def test_a_process_trains_by_the_tools_own_path(trained, tmp_path):
    """The one training that starts as a user's does."""
    done = trained('classification')
    command = [sys.executable, 'tools/train.py', str(done.config), '--work-dir', str(tmp_path)]
    command += ['--resume', str(done.work_dir), '--cfg-options', 'train_cfg.max_epochs=3']
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'epoch_3.pth').is_file()
    assert f'  checkpoint  {tmp_path}/best_accuracy_top1_epoch_' in result.stdout
