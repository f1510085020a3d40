"""The command line tools on classifiers: one label per image, several, and what they hand on."""

import copy
import json

import cv2
import numpy as np
import pytest
import torch
from tool_results import error_of

from tresnet_det.engine import config as edit
from tresnet_det.tasks import find_task

TINY = dict(_delete_=True, depths=(1, 1, 1, 1), width_factor=0.25)
LOADER = dict(batch_size=4, num_workers=0, persistent_workers=False, pin_memory=False)
CHANGES = dict(
    model=dict(backbone=dict(arch=TINY), head=dict(in_channels=512)),
    train_dataloader=LOADER,
    val_dataloader=LOADER,
    test_dataloader=LOADER,
    train_cfg=dict(max_epochs=2, val_interval=1),
    param_scheduler=[dict(type='ConstantLR', factor=1.0, by_epoch=True, end=2)],
    default_hooks=dict(logger=dict(interval=2)),
)
SMALL = [dict(type='Resize', size=(64, 64))]


def write_folders(root, classes, count, seed=0):
    """Class folders below train/ and val/, a colour for each class."""
    rng = np.random.default_rng(seed)
    for split in ('train', 'val'):
        for number, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                image = rng.integers(0, 80, (64, 64, 3), np.uint8)
                image[..., number % 3] += 120
                cv2.imwrite(str(folder / f'{index}.png'), image)
    return root


@pytest.fixture
def folders(tmp_path):
    return write_folders(tmp_path / 'folders', ('blue', 'green', 'red'), 4)


@pytest.fixture
def write_config(project_root, tmp_path):
    """Write a config of the project in miniature: ``write_config('imagenet_tresnet_m.py')``."""

    def write(name, weights=None, **changes):
        cfg = edit.load_config(project_root / 'configs' / name)
        edit.drop_pretrained(cfg)
        for loader in edit.LOADERS:
            cfg[loader]['dataset']['pipeline'] = SMALL
        for part in (CHANGES, changes):
            cfg.merge_from_dict(copy.deepcopy(part))
        if weights:
            init = dict(type='Pretrained', checkpoint=str(weights))
            cfg.model.backbone.init_cfg = cfg.model.head.init_cfg = init
        path = tmp_path / 'miniature.py'
        cfg.dump(path)
        return path

    return write


@pytest.fixture
def folders_config(write_config, folders):
    return write_config('transfer/tresnet_m_folders.py')


@pytest.fixture
def multilabel_config(write_config, pristine_data):
    names = dict(classes=list('0123456789'))
    return write_config(
        'multilabel_tresnet_m_448_coco2017.py',
        model=dict(head=dict(num_classes=10)),
        **{
            loader: dict(dataset=dict(data_root=str(pristine_data), metainfo=names))
            for loader in edit.LOADERS
        },
    )


def last_figure(log_dir, key):
    (scalars,) = log_dir.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    return [record[key] for record in records if key in record][-1]


def test_folders_train_by_one_option_which_counts_their_classes(folders_config, folders, run):
    result = run('train', folders_config, '--data-root', folders, '--work-dir', 'work')
    assert result.code == 0, result.err
    assert 'the data has 3 classes' in result.out + result.err
    # On a CPU, the recipe's bfloat16 gives way, and says so.
    assert 'training in float32 instead of mixed bfloat16' in result.out + result.err
    assert 'best accuracy/top1' in result.out
    as_run = folders.parent / 'work' / 'miniature.py'
    assert edit.load_config(as_run).model.head.num_classes == 3

    result = run('test', folders_config, 'work', '--data-root', folders)
    assert result.code == 0, result.err
    assert 'top-1, %' in result.out
    test_dir = folders.parent / 'work' / 'test'
    metrics = json.loads((test_dir / 'metrics.json').read_text())['metrics']
    assert set(metrics) == {'accuracy/top1', 'accuracy/top5'}
    assert metrics['accuracy/top5'] == 100

    out = folders.parent / 'predictions.pkl'
    assert run('test', as_run, 'work', '--out', out).code == 0
    assert out.stat().st_size
    out = folders.parent / 'figures.json'
    assert run('test', as_run, 'work/epoch_2.pth', '--out', out).code == 0
    written = json.loads(out.read_text())['metrics']['accuracy/top1']
    assert written == last_figure(folders.parent / 'work', 'accuracy/top1')
    assert (test_dir / 'predictions.png').is_file()


def test_several_labels_train_and_test_with_a_table_of_classes(multilabel_config, run, tmp_path):
    result = run('train', multilabel_config, '--work-dir', 'work')
    assert result.code == 0, result.err
    assert 'best multilabel/mAP' in result.out
    out = tmp_path / 'figures.json'
    result = run('test', multilabel_config, 'work/epoch_2.pth', '--out', out)
    assert result.code == 0, result.err
    written = json.loads(out.read_text())
    assert written['metrics']['multilabel/mAP'] == last_figure(tmp_path / 'work', 'multilabel/mAP')
    figures = [f + top for f in ('CP', 'CR', 'CF1', 'OP', 'OR', 'OF1') for top in ('', '_top3')]
    assert {f'multilabel/{name}' for name in ['mAP', *figures]} == set(written['metrics'])
    assert [row['name'] for row in written['per_class']] == list('0123456789')
    assert (tmp_path / 'work' / 'test' / 'predictions.png').is_file()


def test_a_classifiers_training_is_what_a_detector_and_a_multi_label_model_start_from(
    folders_config, folders, multilabel_config, config, write_config, run, tmp_path
):
    """The chain: the backbone of one training under --pretrained of the next."""
    folders_config = write_config('transfer/tresnet_m_folders.py')
    one_epoch = ['--cfg-options', 'train_cfg.max_epochs=1']
    run('train', folders_config, '--data-root', folders, '--work-dir', 'first', *one_epoch)
    first = torch.load(next(tmp_path.glob('first/best_*.pth')), weights_only=True)['state_dict']
    stem = 'backbone.conv1.conv.weight'
    # With a learning rate of 0 the backbone stays as it was loaded.
    still = [*one_epoch, 'optim_wrapper.optimizer.lr=0']
    result = run('train', config, '--work-dir', 'det', '--pretrained', 'first', *still)
    assert result.code == 0, result.err
    detector = torch.load(tmp_path / 'det/epoch_1.pth', weights_only=True)['state_dict']
    assert torch.equal(detector[stem], first[stem])
    other = write_config(
        'multilabel_tresnet_m_448_coco2017.py',
        model=dict(head=dict(num_classes=10)),
        **{
            loader: dict(
                dataset=dict(
                    data_root=str(tmp_path / 'data'), metainfo=dict(classes=list('0123456789'))
                )
            )
            for loader in edit.LOADERS
        },
    )
    result = run('train', other, '--work-dir', 'several', '--pretrained', 'first', *still)
    assert result.code == 0, result.err
    several = torch.load(tmp_path / 'several/epoch_1.pth', weights_only=True)['state_dict']
    shared = {k for k in first if k.startswith('backbone.') and k.endswith('conv.weight')}
    assert len(shared) > 10
    assert all(torch.equal(several[k], first[k]) for k in shared)


def test_init_cfg_takes_a_classifiers_checkpoint_for_head_and_backbone(
    folders_config, folders, write_config, run, tmp_path
):
    short = ['--data-root', folders, '--cfg-options', 'train_cfg.max_epochs=1']
    run('train', folders_config, '--work-dir', 'first', *short)
    first = next(tmp_path.glob('first/best_*.pth'))
    config = write_config('transfer/tresnet_m_folders.py', weights=first)
    result = run('train', config, '--work-dir', 'second', *short, 'optim_wrapper.optimizer.lr=0')
    assert result.code == 0, result.err
    second = torch.load(tmp_path / 'second/epoch_1.pth', weights_only=True)['state_dict']
    weights = torch.load(first, weights_only=True)['state_dict']
    for key in ('backbone.conv1.conv.weight', 'head.fc.weight', 'head.fc.bias'):
        assert torch.equal(second[key], weights[key])


def test_cifar_10_trains_through_torchvisions_class_on_files_in_its_own_format(
    write_config, write_cifar10, run, tmp_path
):
    root = tmp_path / 'cifar10'
    write_cifar10(root)
    config = write_config('transfer/tresnet_xl_cifar10.py')
    result = run('train', config, '--data-root', root, '--work-dir', 'work')
    assert result.code == 0, result.err
    result = run('test', config, 'work', '--data-root', root)
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
def test_the_demo_of_each_task_has_its_own_data_and_metric(project_root, name, task):
    configs = project_root / 'configs'
    cfg = edit.load_config(configs / name)
    assert find_task(cfg).name == task
    edit.put_over(cfg, edit.load_config(find_task(cfg).overlay))
    edit.set_num_classes(cfg, 10)
    kinds = dict(
        detection=('CocoDataset', 'CocoTwelveMetric'),
        classification=('ImageFolderDataset', 'AccuracyMetric'),
        multilabel=('MultiLabelDataset', 'MultiLabelMetric'),
    )
    for loader in edit.LOADERS:
        assert cfg[loader].dataset.type == kinds[task][0]
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        (first, *_) = edit.iterate_dicts(evaluator)
        assert first['type'] == kinds[task][1]
    assert edit.get_num_classes(cfg) == 10
    assert cfg.optim_wrapper.type == 'OptimWrapper'


@pytest.mark.slow
def test_the_classification_demo_runs_as_it_stands(write_config, run, tmp_path):
    config = write_config('imagenet_tresnet_m.py')
    result = run(
        'train',
        *(config, '--demo', '--data-root', tmp_path / 'demo', '--work-dir', 'work'),
        *('--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1'),
    )
    assert result.code == 0, result.err
    result = run('test', config, 'work', '--demo', '--data-root', tmp_path / 'demo')
    assert result.code == 0, result.err
    assert 'on 359 images' in result.out


def test_a_head_for_another_number_of_classes_is_named_before_anything_is_built(
    write_config, folders, run
):
    config = write_config('imagenet_tresnet_m.py', val_dataloader=dict(dataset=dict(ann_file='')))
    line = error_of(run('train', config, '--data-root', folders, '--work-dir', 'work'))
    assert 'model.head.num_classes is 1000 and train_dataloader has 3 classes' in line
    assert 'set model.head.num_classes=3' in line


def test_a_validation_of_other_classes_is_named(folders_config, folders, run):
    (folders / 'val' / 'red').rename(folders / 'val' / 'rot')
    line = error_of(run('train', folders_config, '--data-root', folders))
    assert "val_dataloader does not have the classes of train_dataloader, it has 'rot' more" in line
    assert "lacks 'red'" in line


def test_an_empty_class_folder_is_named(folders_config, folders, run):
    for file in (folders / 'train' / 'green').iterdir():
        file.unlink()
    line = error_of(run('train', folders_config, '--data-root', folders))
    assert str(folders / 'train' / 'green') in line
    assert 'no image in this class folder' in line


def test_an_image_that_does_not_decode_is_named(folders_config, folders, run):
    bad = folders / 'train' / 'green' / '2.png'
    bad.write_bytes(bad.read_bytes()[:40])
    line = error_of(run('train', folders_config, '--data-root', folders, '--work-dir', 'work'))
    assert str(bad) in line


def test_a_head_that_does_not_fit_the_backbone_is_named(folders_config, folders, run):
    line = error_of(
        run(
            'train',
            *(folders_config, '--data-root', folders, '--work-dir', 'work'),
            *('--cfg-options', 'model.head.in_channels=2048'),
        )
    )
    assert 'model.head.in_channels is 2048, but the backbone gives 512' in line


@pytest.mark.parametrize('option', [['--tta'], ['--show-dir', 'drawn']])
def test_what_is_for_detectors_only_says_so(folders_config, folders, run, option):
    run(
        'train',
        *(folders_config, '--data-root', folders, '--work-dir', 'work'),
        *('--cfg-options', 'train_cfg.max_epochs=1'),
    )
    line = error_of(run('test', folders_config, 'work', '--data-root', folders, *option))
    assert option[0] in line


def test_pretrained_without_such_a_checkpoint_says_so(folders_config, folders, run, tmp_path):
    line = error_of(
        run('train', folders_config, '--data-root', folders, '--pretrained', tmp_path / 'none')
    )
    assert 'no checkpoint at' in line
