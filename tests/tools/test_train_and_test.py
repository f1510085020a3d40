"""What train and test do with a config, beside the training that all tests share."""

import json
import os
import re
import shutil
import subprocess
import sys

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from tool_runs import ROOT, run_here

from tresnet_det import TResNet
from tresnet_det.checkpoints import to_timm
from tresnet_det.cli import reports
from tresnet_det.compat.checkpoint_io import load_checkpoint_file
from tresnet_det.engine import config as edit
from tresnet_det.engine.work_dir import find_checkpoint
from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.evaluation.accuracy import KeepScores
from tresnet_det.evaluation.labels import Labels
from tresnet_det.evaluation.report import read_seconds

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


def test_the_console_begins_with_the_training_and_the_log_file_has_the_rest(trained):
    done = trained('detection')
    place = re.search(r'environment, config and hooks: (\S+)', done.result.printed)[1]
    in_file = (done.config.parent / place).read_text()
    for dump in ('System environment:', 'Config:\n', 'Hooks will be executed'):
        assert dump in in_file
        assert dump not in done.result.printed


def test_a_work_directory_is_measured_and_reported_under_mmdetections_own_metric(trained, tmp_path):
    done = trained('detection')
    options = ('--work-dir', tmp_path, '--cfg-options', 'test_evaluator.type=CocoMetric')
    result = run_here('test', done.work_dir, *options, cwd=done.config.parent)
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / 'metrics.json').read_text())['metrics']
    report = json.loads((tmp_path / 'evaluation' / 'metrics.json').read_text())['metrics']
    assert metrics['coco/bbox_mAP'] == pytest.approx(report['bbox_mAP'], abs=1e-3)  # it rounds
    assert (tmp_path / 'evaluation' / 'report.html').is_file()


def test_a_test_at_another_size_than_the_trainings_is_told(trained, tmp_path):
    done = trained('detection')
    where = ('--work-dir', tmp_path)
    pipeline = 'test_dataloader.dataset.pipeline.1.scale'
    for options, told in (((), 0), (('--cfg-options', f'{pipeline}=(64,32)'), 1)):
        result = run_here('test', done.work_dir, *where, *options, cwd=done.config.parent)
        assert result.code == 0, result.err
        assert result.printed.count('the one that it was trained by') == told
    assert "was validated with 'Resize scale=(" in result.printed
    assert "this config has 'Resize scale=(64, 32)'" in result.printed


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
    # The report is made again from the results file, without the model.
    folder = tmp_path / 'test/evaluation'
    assert str(folder / 'report.html') in result.out
    files = done.data_root / 'annotations/instances_val2017.json', folder / 'results.bbox.json'
    again = run_here('evaluate', *files, '--out', tmp_path / 'again', cwd=tmp_path)
    assert again.code == 0, again.err
    for stem in ('classes', 'errors', 'curves', 'confusion_matrix', 'worst_images'):
        name = f'{stem}.csv'
        assert (folder / name).read_text() == (tmp_path / 'again' / name).read_text()
    named = json.loads((folder / 'images.json').read_text())
    truth = json.loads(files[0].read_text())
    for what, key in (('images', 'file_name'), ('categories', 'name')):
        pairs = ({row['id']: row[key] for row in content[what]} for content in (named, truth))
        assert next(pairs) == next(pairs)
    metrics = json.loads((tmp_path / 'again/metrics.json').read_text())['metrics']
    expected = {key.removeprefix('coco/'): v for key, v in written['metrics'].items()}
    assert metrics == pytest.approx(expected, rel=0, abs=1e-12)


def explain_again(run, truth, folder):
    """What evaluate measures of the results that a test left; its report is the same."""
    result = run('evaluate', truth, 'test/evaluation/results.json', '--out', 'again')
    assert result.code == 0, result.err
    for name in ('classes.csv', 'calibration.csv', 'worst_images.csv'):
        ours, again = (folder / part / name for part in ('test/evaluation', 'again'))
        assert ours.read_text() == again.read_text()
    return json.loads((folder / 'again/metrics.json').read_text())['metrics']


def test_multi_label_is_measured_with_a_table_of_classes(trained, run, tmp_path):
    done = trained('multilabel')
    assert 'best multilabel/mAP' in done.result.out
    out = tmp_path / 'figures.json'
    result = run('test', done.config, done.checkpoint, '--out', out, '--work-dir', 'test')
    assert result.code == 0, result.err
    written = json.loads(out.read_text())
    assert written['metrics']['multilabel/mAP'] == done.logged('multilabel/mAP')[-1]
    assert {'multilabel/CF1', 'multilabel/OF1_top3'} < set(written['metrics'])
    assert [row['name'] for row in written['per_class']] == DIGITS
    assert (tmp_path / 'test' / 'predictions.png').is_file()
    again = explain_again(run, done.data_root / 'annotations/instances_val2017.json', tmp_path)
    expected = {k: v for k, v in written['metrics'].items() if not k.endswith('_top3')}
    assert {k: again[k] for k in expected} == pytest.approx(expected, rel=0, abs=1e-12)


def test_thresholds_of_a_test_are_kept_in_the_checkpoint_and_predict_takes_them(
    trained, run, tmp_path
):
    done, checkpoint = trained('multilabel'), tmp_path / 'mine.pth'
    shutil.copy(done.checkpoint, checkpoint)
    images = done.data_root / 'val2017'
    predict = 'predict', done.config, checkpoint, images, '--no-images', '--score-thr', 'auto'
    assert "no threshold of '0'" in run(*predict).error
    result = run('test', done.config, checkpoint, '--keep-thresholds', '--work-dir', 'test')
    assert result.code == 0, result.err
    before, after = (load_checkpoint_file(path) for path in (done.checkpoint, checkpoint))
    assert [*before] == [*after]
    kept = after['meta'].pop('thresholds')
    assert after['meta'] == before['meta']
    assert all((after['state_dict'][k] == v).all() for k, v in before['state_dict'].items())
    explained = tmp_path / 'test/evaluation'
    numbers = json.loads((explained / 'metrics.json').read_text())
    expected = {k: numbers['threshold'] if v is None else v
                for k, v in numbers['thresholds'].items()}  # fmt: skip
    assert kept == expected
    assert run(*predict, '--out-dir', 'shown').code == 0
    shown = json.loads((tmp_path / 'shown/results.json').read_text())
    scored = json.loads((explained / 'results.json').read_text())
    for one, every in zip(shown, scored, strict=True):
        above = {row['class'] for row in every['predictions'] if row['score'] > kept[row['class']]}
        assert {row['class'] for row in one['predictions']} == above


def test_thresholds_are_those_of_this_test_alone_and_of_all_classes(tmp_path, monkeypatch):
    cfg = Config(dict(model=dict(type='ImageClassifier')))
    for name in ('metrics.json', 'report.html', 'segm/report.md'):  # of an earlier test
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"threshold": 0.2, "thresholds": {"ant": 0.2}}')
    keeper = KeepScores(True)
    keeper.kept = Labels(('a', 'b'), ('ant', 'bee'), np.eye(2), np.eye(2), True)
    with monkeypatch.context() as broken:
        broken.setattr(reports, 'explain_labels', lambda *_: {}['gone'])
        assert reports.explain_results(cfg, [keeper], None, tmp_path) == ([], {})
    assert [path.name for path in tmp_path.rglob('*.*')] == ['results.json']
    written, numbers = reports.explain_results(cfg, [keeper], None, tmp_path)
    assert written == [tmp_path / 'report.html']
    checkpoint = str(tmp_path / 'a.pth')
    torch.save(dict(meta=None), checkpoint)
    with pytest.raises(InputError, match='no meta'):
        reports.keep_thresholds(checkpoint, numbers, ('ant', 'bee'))
    torch.save(dict(meta={}), checkpoint)
    reports.keep_thresholds(checkpoint, numbers, ('ant', 'elk'))
    kept = torch.load(checkpoint, weights_only=True)['meta']['thresholds']
    assert kept == {'ant': numbers['thresholds']['ant'], 'elk': numbers['threshold']}


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
    assert explain_again(run, done.data_root / 'val', tmp_path) == metrics


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


def test_resume_takes_a_work_directory_and_ends_where_the_config_says(trained, run, tmp_path):
    done = trained('detection')
    options = ('train_cfg.max_epochs=3', 'model.backbone.norm_cfg.type=BN')  # of another kind
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
    assert not (tmp_path / 'second/epoch_1.pth').exists()


def test_timms_weights_are_loaded_and_reported_and_a_resume_needs_none(
    tiny_config, tiny_arch, run, tmp_path
):
    backbone, file = TResNet(arch=tiny_arch), tmp_path / 'timm.pth'
    torch.save(to_timm(backbone.state_dict()), file)
    init = dict(_delete_=True, type='Pretrained', checkpoint=str(file))
    config = tiny_config('detection', model=dict(backbone=dict(init_cfg=init)))
    arguments = ('train', config, '--work-dir', 'work', '--resume', *ONE_EPOCH)
    result = run(*arguments)
    assert result.code == 0, result.err
    assert 'no checkpoint in work yet' in result.printed
    count = len(backbone.state_dict())
    assert f'{file} (timm format): {count} tensors loaded\n' in result.printed
    file.unlink()
    result = run(*arguments, 'train_cfg.max_epochs=2')
    assert result.code == 0, result.err
    assert (tmp_path / 'work/epoch_2.pth').is_file()
    (kept,) = (tmp_path / 'work').glob('*.py')
    cfg = Config.fromfile(kept)  # a training by it begins where this one did
    assert not cfg.resume
    assert cfg.load_from is None
    assert cfg.model.backbone.init_cfg.checkpoint == str(file)


def test_a_checkpoint_serves_a_network_of_ordinary_batch_norms_and_tta(trained, run, tmp_path):
    done, found = trained('detection'), []
    std = 'model.data_preprocessor.std=[58.4,57.1,57.4]'
    for norm, more in (('InPlaceABN', []), ('BN', []), ('BN', [std, '--tta'])):
        out = tmp_path / 'predictions.pkl'
        options = ('--work-dir', norm, '--cfg-options', f'model.backbone.norm_cfg.type={norm}')
        result = run('test', done.config, done.checkpoint, '--out', out, *options, *more)
        assert result.code == 0, result.err
        found.append([p['pred_instances'] for p in mmengine.load(out)])
        said = 'were trained with another image normalization' in result.printed
        assert said == bool(more)
    assert [len(samples) for samples in found] == [6, 6, 6]
    for first, second, augmented in zip(*found, strict=True):
        assert len(first['scores']) > 0
        torch.testing.assert_close(first['scores'], second['scores'], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(first['bboxes'], second['bboxes'], rtol=1e-3, atol=1e-2)
        assert not torch.equal(augmented['scores'], second['scores'])


def test_from_scratch_is_printed_and_nothing_else_falls_back_to_it(tiny_config, run, monkeypatch):
    monkeypatch.setattr('huggingface_hub.hf_hub_download', unreachable)
    name = 'timm://tresnet_m.no_such_weights'
    init = dict(_delete_=True, type='Pretrained', checkpoint=name)
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


def test_published_weights_are_tested_as_the_checkpoint_is(trained, run, tmp_path):
    done = trained('classification')
    published = run('publish_weights', done.checkpoint, '--out-dir', tmp_path)
    assert published.code == 0, published.err
    out = tmp_path / 'figures.json'
    result = run('test', done.as_run, published.out.strip(), '--out', out, '--work-dir', 'test')
    assert result.code == 0, result.err
    metrics = json.loads(out.read_text())['metrics']
    assert metrics['accuracy/top1'] == done.logged('accuracy/top1')[-1]
    backbone = run('convert_weights', done.checkpoint, 'backbone.safetensors', '--to', 'timm')
    assert (backbone.code, backbone.out.split(':')[0]) == (0, 'backbone.safetensors')


@pytest.mark.parametrize(
    ('task', 'way'), [('detection', '--pretrained'), ('classification', 'init_cfg')]
)
def test_a_classifiers_training_is_what_another_starts_from(
    task, way, trained, tiny_config, run, tmp_path
):
    first = trained('classification')
    init = dict(type='Pretrained', checkpoint=find_checkpoint(first.work_dir))
    heads = dict(backbone=dict(init_cfg=dict(init, _delete_=True)), head=dict(init_cfg=init))
    model = heads if way == 'init_cfg' else {}
    options = [] if model else [way, first.work_dir]
    # With next to no learning rate the weights stay as they were loaded.
    still = [*ONE_EPOCH, 'optim_wrapper.optimizer.lr=1e-30']
    result = run('train', tiny_config(task, model=model), '--work-dir', 'next', *options, *still)
    assert result.code == 0, result.err
    given = torch.load(find_checkpoint(first.work_dir), weights_only=True)['state_dict']
    taken = torch.load(tmp_path / 'next/epoch_1.pth', weights_only=True)['state_dict']
    shared = {k for k in given if k.startswith('backbone.') and k.endswith('conv.weight')}
    shared |= {'head.fc.weight', 'head.fc.bias'} if model else set()
    assert len(shared) > 10
    # What is saved is the average (EMA) of equal weights: some processors round it.
    for key in shared:
        torch.testing.assert_close(taken[key], given[key], rtol=4 * 2**-23, atol=1e-28)


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
