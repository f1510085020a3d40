"""TResNet-M overfits the labels of real COCO photographs, by the tools and the project's config."""

import json

import pytest
from tool_runs import logged

pytestmark = [pytest.mark.real, pytest.mark.slow]

# One after the other the same 16 images, and tested on them.
CONFIG = """
_base_ = '{configs}/multilabel_tresnet_m_448_coco2017.py'

pipeline = [dict(type='Resize', size=(96, 96))]
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


def test_it_overfits_16_photos_and_prints_a_table_of_80_classes(
    real_data, project_root, run, tmp_path
):
    source, root = real_data.resolve() / 'coco_subset', tmp_path / 'few'
    (root / 'annotations').mkdir(parents=True)
    (root / 'train2017').symlink_to(source / 'train2017')
    content = json.loads((source / 'annotations/instances_train2017.json').read_text())
    labelled = {annotation['image_id'] for annotation in content['annotations']}
    content['images'] = [i for i in content['images'] if i['id'] in labelled][:16]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    (root / 'annotations/few.json').write_text(json.dumps(content))
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(configs=project_root / 'configs'))
    result = run('train', config, '--from-scratch', '--work-dir', 'work', '--data-root', root)
    assert result.code == 0, result.err
    maps = logged(tmp_path / 'work', 'multilabel/mAP')
    print(f'mAP of 16 photographs after 12 and 24 epochs: {maps}')
    assert maps[-1] > 0.95
    table = result.printed[result.printed.index('name ') :]
    assert table.count('\nperson ') == table.count('\ntoothbrush ') == 2  # of each validation
