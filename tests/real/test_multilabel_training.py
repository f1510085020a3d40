"""TResNet-M on the labels of real COCO photographs, by the tools and the project's configs."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]

# Some iterations at 448 by the recipe itself, cut off after four.
SOME_ITERATIONS = """
_base_ = '{configs}/multilabel_tresnet_m_448_coco2017.py'

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4, val_interval=4)
param_scheduler = []
train_dataloader = dict(batch_size=4, num_workers=1)
val_dataloader = dict(batch_size=8, num_workers=1)
test_dataloader = val_dataloader
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=4, by_epoch=False)
)
"""
# 32 images, overfit: one after the other the same images, and tested on them.
BY_HEART = """
_base_ = '{configs}/multilabel_tresnet_m_448_coco2017.py'

pipeline = [dict(type='Resize', size=(128, 128))]
data = dict(ann_file='annotations/few.json', data_prefix=dict(img='train2017/'), pipeline=pipeline)
train_dataloader = dict(batch_size=16, num_workers=1, dataset=data)
val_dataloader = dict(batch_size=16, num_workers=1, dataset=data)
test_dataloader = val_dataloader
max_epochs = 24
train_cfg = dict(max_epochs=max_epochs, val_interval=12)
optim_wrapper = dict(optimizer=dict(lr=0.001))
auto_scale_lr = dict(enable=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=True, T_max=max_epochs),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=12))
"""


@pytest.fixture
def train(real_data, project_root, tmp_path):
    """Train a config's text from scratch; returns the log and the metrics by name."""

    def call(text, data_root=None):
        data_root = data_root or real_data.resolve() / 'coco_subset'
        config = tmp_path / 'config.py'
        config.write_text(text.format(configs=project_root / 'configs'))
        result = subprocess.run(
            [
                *(sys.executable, str(project_root / 'tools/train.py'), str(config)),
                *('--from-scratch', '--work-dir', 'work', '--data-root', str(data_root)),
            ],
            cwd=tmp_path,
            env={**os.environ, 'GOMP_SPINCOUNT': '10000'},  # as in the Makefile
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        (scalars,) = tmp_path.glob('work/*/vis_data/scalars.json')
        records = [json.loads(line) for line in scalars.read_text().splitlines()]
        return result.stdout + result.stderr, records

    return call


def test_the_recipe_runs_at_448_and_prints_its_metrics_and_a_table_of_80_classes(train):
    log, records = train(SOME_ITERATIONS)
    losses = [record['loss'] for record in records if 'loss' in record]
    assert len(losses) == 4
    (validated,) = (record for record in records if 'multilabel/mAP' in record)
    assert 0 < validated['multilabel/mAP'] < 1
    assert {'multilabel/CF1', 'multilabel/OF1_top3'} <= set(validated)
    assert 'skipped 3 of 343 images' in log
    assert 'skipped 2 of 206 images' in log
    table = log[log.index('name ') :].splitlines()
    assert sum(line.startswith(('person ', 'toothbrush ')) for line in table) == 2


def test_it_overfits_32_photos(train, real_data, tmp_path):
    source = real_data.resolve() / 'coco_subset'
    root = tmp_path / 'few'
    (root / 'annotations').mkdir(parents=True)
    (root / 'train2017').symlink_to(source / 'train2017')
    content = json.loads((source / 'annotations/instances_train2017.json').read_text())
    labelled = {annotation['image_id'] for annotation in content['annotations']}
    content['images'] = [i for i in content['images'] if i['id'] in labelled][:32]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    (root / 'annotations/few.json').write_text(json.dumps(content))
    log, records = train(BY_HEART, root)
    maps = [record['multilabel/mAP'] for record in records if 'multilabel/mAP' in record]
    print(f'mAP of 32 photographs after 12 and 24 epochs: {maps}')
    assert maps[-1] > 0.95
