"""Several processes measure what one does, to the last bit, and make what they need once."""

import json
import shutil

import pytest
import torch
from distributed_children import evaluate, evaluate_together, make_then_read, run_tool
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from tresnet_det.engine import config as edit

ALL = '--launcher', 'pytorch'


@pytest.mark.parametrize(('images', 'count'), [(13, 2), (13, 4), (1, 2)])
def test_figures_of_processes_are_those_of_one(start, digits, tmp_path, images, count):
    # With one image, the second process has none of its own and gets the first one's.
    content = json.loads((digits / 'annotations/instances_val2017.json').read_text())
    content['images'] = content['images'][:images]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    ann_file = str(tmp_path / 'truth.json')
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    assert kept == set(range(1, images + 1))

    results = start(count, evaluate_together, images, ann_file, str(tmp_path / 'figures'))
    assert [result.code for result in results] == [0] * count, results[0].err
    expected = json.loads(json.dumps(evaluate(images, ann_file)))
    assert len(expected) == 12 + 13 + 2 + 3
    for rank in range(count):
        found = json.loads((tmp_path / f'figures_{rank}.json').read_text())
        for key, value in expected.items():
            if 'table' not in key or rank == 0:
                assert found[key] == value, key
    if images == 13:
        assert 0 < expected['coco/bbox_mAP'] < 1
        assert 0 < expected['multilabel/mAP'] < 1


def test_the_others_read_what_the_first_has_written_whole(start, tmp_path):
    results = start(3, make_then_read, str(tmp_path / 'made'))
    assert [result.code for result in results] == [0] * 3, results[1].err


def test_the_tool_measures_a_detector_the_same_and_says_it_once(start, write_config, tmp_path):
    # All boxes count and have a size, so that random weights detect something.
    changes = dict(model=dict(test_cfg=dict(score_thr=0.0)), test_dataloader=dict(batch_size=1))
    config = write_config('detection', changes)
    init_default_scope('mmdet')
    model = MODELS.build(edit.load_config(config).model)
    model.init_weights()
    torch.nn.init.constant_(model.bbox_head.conv_reg.bias, 1.5)  # strides: the size of a digit
    checkpoint = tmp_path / 'random.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict()), checkpoint)
    arguments = ('test', config, checkpoint, '--out')
    (one,) = start(1, run_tool, *arguments, tmp_path / 'one.json', alone=True)
    two = start(2, run_tool, *arguments, tmp_path / 'two.json', *ALL)
    assert (one.code, [result.code for result in two]) == (0, [0, 0]), two[0].err
    expected, found = (json.loads((tmp_path / f'{n}.json').read_text()) for n in ('one', 'two'))
    assert found == expected
    assert found['metrics']['coco/bbox_AR@100'] > 0
    assert two[0].out.count('Tested ') == two[0].out.count('Average Precision (AP)    0.75') == 1
    assert 'on 13 images' in two[0].out
    assert (two[1].out, two[1].err) == ('', '')


def test_what_is_validated_is_saved_where_each_process_has_its_own_norms(
    start, write_config, tmp_path
):
    norm = dict(backbone=dict(norm_cfg=dict(sync=False)))
    hooks = [
        dict(type='EMAHook', momentum=0.1, update_buffers=True, priority=49),
        dict(type='RecordHook'),
        dict(type='ShareStatisticsHook'),
    ]
    config = write_config('multilabel', dict(model=norm, custom_hooks=hooks))
    length = dict(max_epochs=1, val_interval=1)
    options = [f'train_cfg.{key}={value}' for key, value in length.items()]
    work = tmp_path / 'work'
    arguments = ('train', config, '--work-dir', work, *ALL, '--cfg-options', *options)
    results = start(2, run_tool, *arguments)
    assert [result.code for result in results] == [0, 0], results[0].err
    first, second = (torch.load(work / f'statistics_{rank}.pth') for rank in (0, 1))
    (best,) = work.glob('best_*.pth')
    for file in (best, work / 'epoch_1.pth'):
        saved = torch.load(file, weights_only=True)['state_dict']
        for key, value in first.items():
            name = key.removeprefix('module.')
            assert torch.equal(value, second[key]), key
            assert torch.equal(value, saved[name]), key


@pytest.mark.slow
def test_a_folder_of_ones_own_is_prepared_once(start, write_config, digits, tmp_path):
    folder = tmp_path / 'mine'  # without a validation split: one is written to the work directory
    shutil.copytree(digits, folder)
    (folder / 'annotations/instances_val2017.json').unlink()
    config = write_config('detection')
    work = tmp_path / 'work'
    options = ['train_cfg.max_epochs=1', 'optim_wrapper.accumulative_counts=2']
    arguments = ('--data', folder, '--work-dir', work, *ALL, '--cfg-options', *options)
    results = start(2, run_tool, 'train', config, *arguments)
    assert [result.code for result in results] == [0, 0], results[0].err
    out = results[0].out
    assert out.count('--data: COCO') == 1
    assert {path.stem for path in (work / 'data').iterdir()} == {
        'instances_train_without_val',
        'instances_val_of_train',
    }
    # 2 processes x 8 images x 2 batches a step.
    assert 'learning rate 0.002 (0.001 for a batch of 16)' in out
    assert 'a step has 32 here: 2 processes x batch 8 x 2 accumulated. Scaling it by 2.' in out
    assert 'LR is set based on' not in out
    assert '1 epochs of 4 steps, batch 8 on each of 2 processes' in out
