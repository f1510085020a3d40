"""What tools/train.py and tools/test.py do with a config."""

import json

import mmengine
import torch
from tool_results import error_of

from tresnet_det import TResNet
from tresnet_det.checkpoints import to_timm

WORK = 'work'


def val_maps(log_dir):
    """bbox mAP of each validation, from the log that mmengine writes."""
    (scalars,) = log_dir.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    return [r['coco/bbox_mAP'] for r in records if 'coco/bbox_mAP' in r]


def unreachable(*arguments):
    """What the hub's client does without a network, at once."""
    raise ConnectionError('no route to the hub')


def losses(log_dir):
    (scalars,) = log_dir.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    return [r['loss'] for r in records if 'loss' in r]


def test_train_then_test_gives_the_last_validations_map(config, run, tmp_path):
    work = tmp_path / WORK
    result = run('train', config, '--work-dir', work)
    assert result.code == 0
    assert (work / 'epoch_2.pth').is_file()
    assert (work / 'curves.png').read_bytes().startswith(b'\x89PNG')
    assert list(work.glob('*/vis_data/events.out.tfevents.*'))
    assert 'Scaling the original LR by' in result.out + result.err
    assert f'{WORK}/curves.png' in result.out
    maps = val_maps(work)
    assert len(maps) == 2
    meta = torch.load(work / 'epoch_2.pth', weights_only=True)['meta']
    assert meta['input'] == dict(mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True)

    out = tmp_path / 'figures.json'
    result = run(
        'test', config, work / 'epoch_2.pth', '--work-dir', tmp_path / 'test', '--out', out
    )
    assert result.code == 0
    written = json.loads(out.read_text())
    assert written['metrics']['coco/bbox_mAP'] == maps[-1]
    assert len([k for k in written['metrics'] if k.startswith('coco/bbox_')]) == 12
    assert {row['name'] for row in written['per_class']} == set('0123456789')
    assert (tmp_path / 'test' / 'predictions.png').is_file()
    assert 'Average Recall' in result.out + result.err


def test_a_work_directory_stands_for_its_best_checkpoint_also_of_an_interrupted_training(
    config, run, tmp_path
):
    work = tmp_path / WORK
    run('train', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_epochs=1')
    (work / 'summary.json').unlink()
    result = run('test', config, work, '--work-dir', tmp_path / 'test')
    assert result.code == 0
    assert 'best_coco_bbox_mAP_epoch_1.pth' in result.out
    for best in work.glob('best_*.pth'):
        best.unlink()
    assert 'epoch_1.pth' in run('test', config, work, '--work-dir', tmp_path / 'test').out


def test_the_next_command_that_training_prints_works_as_it_stands(config, run, tmp_path):
    options = ['train_cfg.max_epochs=1', 'model.test_cfg.max_per_img=7']
    result = run('train', config, '--work-dir', tmp_path / WORK, '--cfg-options', *options)
    (line,) = (line for line in result.out.splitlines() if line.startswith('  next'))
    _, _, tool, *arguments = line.split()
    assert tool == 'tools/test.py'
    result = run('test', *arguments)
    assert result.code == 0
    assert (tmp_path / WORK / 'test' / 'metrics.json').is_file()


def test_out_may_name_a_folder_that_is_not_there_yet(config, run, tmp_path):
    run('train', config, '--work-dir', tmp_path / WORK, '--cfg-options', 'train_cfg.max_epochs=1')
    out = tmp_path / 'new' / 'figures.json'
    assert run('test', config, tmp_path / WORK, '--out', out).code == 0
    assert out.is_file()


def test_resume_goes_on_and_ends_where_the_config_says(config, run, tmp_path):
    work = tmp_path / WORK
    run('train', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_epochs=1')
    assert not (work / 'epoch_2.pth').exists()
    result = run('train', config, '--work-dir', work, '--resume')
    assert result.code == 0
    assert 'resumed epoch: 1' in result.out + result.err
    assert (work / 'epoch_2.pth').is_file()


def test_resume_needs_no_pretrained_weights_and_an_empty_folder_starts_anew(
    config, run, tmp_path, monkeypatch
):
    monkeypatch.setattr('huggingface_hub.hf_hub_download', unreachable)
    work = tmp_path / WORK
    result = run(
        'train',
        config,
        *('--work-dir', work, '--resume', '--cfg-options', 'train_cfg.max_epochs=1'),
    )
    assert result.code == 0
    assert f'no checkpoint in {work} yet' in result.out + result.err
    pretrained = tmp_path / 'pretrained.py'
    pretrained.write_text(
        f"_base_ = '{config}'\nmodel = dict(backbone=dict(\n"
        "    init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='timm://no_such')))\n"
    )
    assert run('train', pretrained, '--work-dir', work, '--resume').code == 0


def test_resume_takes_a_work_directory_too(config, run, tmp_path):
    first, second = tmp_path / 'first', tmp_path / 'second'
    run('train', config, '--work-dir', first, '--cfg-options', 'train_cfg.max_epochs=1')
    result = run('train', config, '--work-dir', second, '--resume', first)
    assert result.code == 0
    assert (second / 'epoch_2.pth').is_file()
    assert 'since the resume' in result.out


def test_predictions_are_kept_with_out_pkl_and_flipped_with_tta(config, run, tmp_path):
    work = tmp_path / WORK
    run('train', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_epochs=1')
    out = tmp_path / 'predictions.pkl'
    result = run('test', config, work, '--work-dir', tmp_path / 'test', '--out', out, '--tta')
    assert result.code == 0, result.err
    assert out.stat().st_size > 0


def test_the_figures_are_the_same_from_another_data_root(config, data, run, tmp_path):
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'default_hooks.logger.interval=1']
    here = ['--work-dir', tmp_path / 'here', *options, 'experiment_name=here']
    assert run('train', config, *here).code == 0
    moved = tmp_path / 'moved'
    data.folder.rename(moved)
    there = ['--work-dir', tmp_path / 'there', '--data-root', moved]
    assert run('train', config, *there, *options, 'experiment_name=there').code == 0
    assert losses(tmp_path / 'here') == losses(tmp_path / 'there')
    assert val_maps(tmp_path / 'here') == val_maps(tmp_path / 'there')


def test_from_scratch_is_printed_and_nothing_else_falls_back_to_it(
    config, run, project_root, tmp_path, monkeypatch
):
    pretrained = tmp_path / 'pretrained.py'
    pretrained.write_text(
        f"_base_ = '{config}'\n"
        'model = dict(backbone=dict(frozen_stages=1, norm_eval=True,\n'
        "    init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='timm://tresnet_m.no_such_weights')))\n"
    )
    monkeypatch.setattr('huggingface_hub.hf_hub_download', unreachable)
    options = ['--work-dir', tmp_path / WORK, '--cfg-options', 'train_cfg.max_epochs=1']
    message = error_of(run('train', pretrained, *options))
    assert 'timm://tresnet_m.no_such_weights' in message
    assert '--from-scratch' in message
    result = run('train', pretrained, '--from-scratch', *options)
    assert result.code == 0
    printed = result.out + result.err
    assert 'random weights instead of timm://tresnet_m.no_such_weights' in printed
    assert 'frozen_stages 1 -> -1' in printed
    assert 'norm_eval True -> False' in printed


def test_a_checkpoint_serves_a_network_of_ordinary_batch_norms(config, run, tmp_path):
    work = tmp_path / WORK
    run('train', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_epochs=1')
    found = {}
    for norm in ('InPlaceABN', 'BN'):
        out = tmp_path / f'{norm}.pkl'
        options = [f'model.backbone.norm_cfg.type={norm}', f'experiment_name={norm}']
        options.append('model.test_cfg.score_thr=0.0')  # an untrained head is sure of nothing
        assert run('test', config, work, '--out', out, '--cfg-options', *options).code == 0
        found[norm] = [p['pred_instances'] for p in mmengine.load(out)]
    for first, second in zip(*found.values(), strict=True):
        assert len(first['scores']) > 0
        torch.testing.assert_close(first['scores'], second['scores'], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(first['bboxes'], second['bboxes'], rtol=1e-3, atol=1e-2)
    again = run(
        'train',
        config,
        *('--work-dir', work, '--resume', '--cfg-options', 'model.backbone.norm_cfg.type=BN'),
    )
    assert again.code == 0
    assert 'resumed epoch: 1' in again.out + again.err


def test_a_checkpoint_under_another_normalisation_is_warned_of(config, run, tmp_path):
    work = tmp_path / WORK
    run('train', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_epochs=1')
    options = ['--cfg-options', 'model.data_preprocessor.std=[58.4,57.1,57.4]']
    result = run('test', config, work, *options)
    assert result.code == 0
    assert 'were trained on another input' in result.out + result.err


def test_published_weights_are_tested_as_the_checkpoint_is(config, run, tmp_path):
    work = tmp_path / WORK
    run('train', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_epochs=1')
    published = run('publish_weights', work / 'epoch_1.pth')
    assert published.code == 0
    figures = []
    for file in (work / 'epoch_1.pth', published.out.strip()):
        assert run('test', config, file, '--out', tmp_path / 'f.json').code == 0
        figures.append(json.loads((tmp_path / 'f.json').read_text())['metrics'])
    assert figures[0] == figures[1]
    backbone = run('convert_weights', work / 'epoch_1.pth', 'backbone.safetensors', '--to', 'timm')
    assert (backbone.code, backbone.out.split(':')[0]) == (0, 'backbone.safetensors')


def test_pretrained_weights_of_timms_format_are_loaded_and_reported(config, run, tmp_path):
    backbone = TResNet(arch=dict(depths=(1, 1, 1, 1), width_factor=0.25))
    file = tmp_path / 'timm.pth'
    torch.save(to_timm(backbone.state_dict()), file)
    pretrained = tmp_path / 'pretrained.py'
    pretrained.write_text(
        f"_base_ = '{config}'\nmodel = dict(backbone=dict(\n"
        f"    init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='{file}')))\n"
    )
    options = ['--work-dir', tmp_path / WORK, '--cfg-options', 'train_cfg.max_epochs=1']
    result = run('train', pretrained, *options)
    assert result.code == 0
    count = len(backbone.state_dict())
    report = f'{file} (timm format): {count} tensors loaded, 0 missing, 0 unexpected'
    assert report in result.out + result.err


# ---------------------------------------------------------------------------------------------
# What a user can get wrong
