"""FCOS on TResNet-M on real COCO photographs, small ones, by the tools and the project's config."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]

SMALL = '(160,96)'
OPTIONS = [
    'train_cfg.max_epochs=1',
    f'train_dataloader.dataset.pipeline.2.scale={SMALL}',
    f'val_dataloader.dataset.pipeline.1.scale={SMALL}',
    f'test_dataloader.dataset.pipeline.1.scale={SMALL}',
    'train_dataloader.num_workers=1',
    'val_dataloader.num_workers=1',
    'test_dataloader.num_workers=1',
    'default_hooks.logger.interval=10',
]


def run(*arguments, cwd):
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, 'GOMP_SPINCOUNT': '10000'},  # as in the Makefile
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout + result.stderr


def test_an_epoch_from_scratch_and_a_test_of_its_checkpoint_give_one_map(
    real_data, project_root, tmp_path
):
    data = ['--data-root', real_data.resolve() / 'coco_subset']
    config = project_root / 'configs/fcos_tresnet_m.py'
    work = tmp_path / 'work'
    log = run(
        project_root / 'tools/train.py',
        config,
        *('--from-scratch', '--work-dir', work),
        *data,
        *('--cfg-options', *OPTIONS),
        cwd=tmp_path,
    )
    # 340 of the 343 images have annotations: 43 steps of 8.
    assert '/43]' in log
    assert 'Scaling the original LR by 0.5' in log
    (scalars,) = work.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    validated = [r['coco/bbox_mAP'] for r in records if 'coco/bbox_mAP' in r]
    run(
        project_root / 'tools/test.py',
        config,
        *(work / 'epoch_1.pth', '--work-dir', tmp_path / 'test'),
        *data,
        *('--cfg-options', *OPTIONS),
        cwd=tmp_path,
    )
    tested = json.loads((tmp_path / 'test/metrics.json').read_text())
    assert tested['metrics']['coco/bbox_mAP'] == validated[-1]
    assert len(tested['per_class']) == 80
