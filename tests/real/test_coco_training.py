"""FCOS on TResNet-M on real COCO photographs, small ones, by the tools and the project's config."""

import json

import pytest
from tool_runs import logged

pytestmark = [pytest.mark.real, pytest.mark.slow]

SMALL = '(96,64)'
OPTIONS = [
    'train_cfg.max_epochs=1',
    'train_dataloader.dataset.indices=96',
    f'train_dataloader.dataset.pipeline.2.scale={SMALL}',
    f'val_dataloader.dataset.pipeline.1.scale={SMALL}',
    f'test_dataloader.dataset.pipeline.1.scale={SMALL}',
    'train_dataloader.num_workers=1',
    'val_dataloader.num_workers=1',
    'test_dataloader.num_workers=1',
    'default_hooks.logger.interval=10',
]


def test_an_epoch_from_scratch_and_a_test_of_its_checkpoint_give_one_map(
    real_data, project_root, run, tmp_path
):
    config, work = project_root / 'configs/fcos_tresnet_m.py', tmp_path / 'work'
    data = ['--data-root', real_data.resolve() / 'coco_subset', '--cfg-options', *OPTIONS]
    trained = run('train', config, '--from-scratch', '--work-dir', work, *data)
    assert trained.code == 0, trained.err
    assert '/12]' in trained.printed  # 96 images in steps of 8
    assert 'Scaling the original LR by 0.5' in trained.printed
    tested = run('test', config, work / 'epoch_1.pth', '--work-dir', tmp_path / 'test', *data)
    assert tested.code == 0, tested.err
    found = json.loads((tmp_path / 'test/metrics.json').read_text())
    assert found['metrics']['coco/bbox_mAP'] == logged(work, 'coco/bbox_mAP')[-1]
    assert len(found['per_class']) == 80
