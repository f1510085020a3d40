"""Several processes train and measure as one does, make what they need once, and speak once."""

import json
import shutil

import pytest
import torch
from distributed_children import evaluate, run_tool, take_steps, work_together
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from tresnet_det.engine import config as edit

ALL = '--launcher', 'pytorch'
IMAGES = 13, 1  # with one, the second process has none of its own and gets the first one's
LOSS = dict(_delete_=True, type='AsymmetricLoss', gamma_neg=4, gamma_pos=0, clip=0.05)


@pytest.fixture(scope='module')
def configs(write_config):
    paths = dict(fcos=write_config('detection'))
    for reduction in ('batch_mean', 'sum'):
        loss = dict(LOSS, reduction=reduction)
        paths[reduction] = write_config('multilabel', dict(model=dict(head=dict(loss=loss))))
    return paths


@pytest.fixture(scope='module')
def ann_files(digits, tmp_path_factory):
    """Annotations of so many images of the validation, by their number."""
    folder, files = tmp_path_factory.mktemp('annotations'), {}
    for count in IMAGES:
        content = json.loads((digits / 'annotations/instances_val2017.json').read_text())
        content['images'] = content['images'][:count]
        kept = {image['id'] for image in content['images']}
        assert kept == set(range(1, count + 1))
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
        path = folder / f'{count}.json'
        path.write_text(json.dumps(content))
        files[count] = str(path)
    return files


@pytest.fixture(scope='module')
def two(start, configs, ann_files, tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp('two')
    results = start(2, work_together, str(folder), configs, ann_files)
    assert [result.code for result in results] == [0, 0], results[0].err + results[1].err
    return [torch.load(folder / f'{rank}.pth') for rank in (0, 1)]


@pytest.mark.parametrize('name', ['fcos', 'batch_mean', 'sum'])
def test_gradients_and_steps_are_those_of_one_process_with_all_images(two, configs, name):
    one, parts = take_steps(configs[name]), [found[name] for found in two]
    # A sum over images is the processes' own; DDP takes their gradients' mean all the same.
    times = 2 if name == 'sum' else 1
    steps = 1 if name == 'sum' else 3  # then it is another step
    compared = [('gradients', times)] + [('state', 1)] * (name != 'sum')
    # Sums of up to 2 ** 20 products, in another order.
    bound = 2**20 * torch.finfo(torch.float64).eps
    if name == 'fcos':  # MMDetection adds this to each loss's denominator, which is above 1 here
        bound += torch.finfo(torch.float32).eps
    for losses in zip(*(part['losses'][:steps] for part in parts), one['losses'], strict=False):
        *shares, whole = losses
        assert sum(shares) / 2 * times == pytest.approx(whole, rel=bound)
    for key, factor in compared:
        largest = max(value.abs().max() for value in one[key].values() if value.numel())
        for part in parts:
            for tensor, expected in one[key].items():
                error = (part[key][tensor] * factor - expected).abs().max()
                assert error <= bound * largest, (key, tensor)
    assert any(value.any() for value in one['gradients'].values())


@pytest.mark.parametrize('images', IMAGES)
def test_metrics_of_processes_are_those_of_one_to_the_last_bit(two, ann_files, images):
    expected = evaluate(images, ann_files[images])
    assert len(expected) == 12 + 13 + 2 + 3
    for rank, found in enumerate(two):
        for key, value in expected.items():
            if 'table' not in key or rank == 0:
                assert found[images][key] == value, key
    if images == 13:
        assert 0 < expected['coco/bbox_mAP'] < 1
        assert 0 < expected['multilabel/mAP'] < 1


def test_the_others_read_what_the_first_has_written_whole(two):
    assert [found['read'] for found in two] == ['whole', 'whole']


@pytest.fixture(scope='module')
def training(start, write_config, tmp_path_factory):
    """The work directory and output of an epoch in two processes, each with norms of its own."""
    hooks = [
        dict(type='EMAHook', momentum=0.1, update_buffers=True, priority=49),
        dict(type='RecordHook'),
        dict(type='ShareStatisticsHook'),
    ]
    model = dict(backbone=dict(norm_cfg=dict(sync=False)))
    changes = dict(model=model, custom_hooks=hooks, train_dataloader=dict(batch_size=4))
    work = tmp_path_factory.mktemp('training') / 'work'
    config = write_config('multilabel', changes)
    results = start(2, run_tool, 'train', config, '--work-dir', work, *ALL)
    assert [result.code for result in results] == [0, 0], results[0].err
    return work, results


def test_each_step_has_the_images_of_one_process_and_the_rate_of_the_whole_batch(training, digits):
    work, _ = training
    parts = [json.loads((work / f'steps_{rank}.json').read_text()) for rank in (0, 1)]
    content = json.loads((digits / 'annotations/instances_train2017.json').read_text())
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))  # the sampler's
    names = [content['images'][i]['file_name'] for i in order.tolist()]
    for number, steps in enumerate(zip(*parts, strict=True)):
        assert sorted(steps[0]['files'] + steps[1]['files']) == sorted(names[8 * number :][:8])
        assert [step['rate'] for step in steps] == [0.001 * 8 / 16] * 2
    assert number == 7


def test_one_process_prints_logs_and_saves(training):
    work, (first, second) = training
    assert first.out.count('Epoch(train) [1][1/8]') == 1
    assert first.out.count('Saving checkpoint at 1 epochs') == 1
    assert 'error' not in first.err
    assert (second.out, second.err) == ('', '')
    (folder,) = (path for path in work.iterdir() if (path / 'vis_data').is_dir())
    assert len(list(folder.glob('*.log'))) == 1


def test_what_is_validated_is_saved_where_each_process_has_its_own_norms(training):
    work, _ = training
    first, second = (torch.load(work / f'statistics_{rank}.pth') for rank in (0, 1))
    (best,) = work.glob('best_*.pth')
    assert first
    for file in (best, work / 'epoch_1.pth'):
        saved = torch.load(file, weights_only=True)['state_dict']
        for key, value in first.items():
            assert torch.equal(value, second[key]), key
            assert torch.equal(value, saved[key.removeprefix('module.')]), key


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


@pytest.mark.slow
def test_a_folder_of_ones_own_is_prepared_once(start, write_config, digits, tmp_path):
    folder = tmp_path / 'mine'  # without a validation split: one is written to the work directory
    shutil.copytree(digits, folder)
    (folder / 'annotations/instances_val2017.json').unlink()
    config, work = write_config('detection'), tmp_path / 'work'
    options = ['--cfg-options', 'optim_wrapper.accumulative_counts=2']
    arguments = ('--data', folder, '--work-dir', work, *ALL, *options)
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
