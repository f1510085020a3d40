"""The project's configs in miniature, on 64 images of the demo."""

import pytest

from tresnet_det.datasets.demo.digits import make_demo_data
from tresnet_det.engine import config as edit

LOADER = dict(batch_size=8, num_workers=0, persistent_workers=False)
SOURCES = dict(detection='fcos_tresnet_m', multilabel='multilabel_tresnet_m_448')
# 64 channels: group norm has 32 groups, and an image one pixel at the last level.
MODELS = dict(
    detection=dict(
        neck=dict(in_channels=[32, 256, 512], out_channels=32),
        bbox_head=dict(in_channels=32, feat_channels=64, stacked_convs=1),
    ),
    multilabel=dict(head=dict(in_channels=512)),
)


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """64 images to train on, 13 to validate on, 64 pixels."""
    folder = tmp_path_factory.mktemp('digits') / 'data'
    return make_demo_data(folder, num_train=64, num_val=13, size=64)


@pytest.fixture(scope='session')
def write_config(digits, project_root, tmp_path_factory):
    """Write a config of the project without augmentation: ``write_config(task, *changes)``."""
    configs, folder = project_root / 'configs', tmp_path_factory.mktemp('configs')

    def write(task, *changes, data_root=digits):
        cfg = edit.load_config(configs / f'{SOURCES[task]}.py')
        edit.put_over(cfg, edit.load_config(configs / '_base_' / f'demo_{task}.py'))
        edit.set_data_root(cfg, data_root)
        edit.set_num_classes(cfg, 10)
        edit.use_random_weights(cfg)
        loaders = {f'{name}_dataloader': dict(LOADER) for name in ('train', 'val', 'test')}
        arch = dict(_delete_=True, depths=(1, 1, 1, 1), width_factor=0.25)
        backbone = dict(arch=arch, norm_cfg=dict(type='InPlaceABN', sync=True))
        hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
        train = dict(max_epochs=1, val_interval=1)
        base = dict(model=dict(backbone=backbone, **MODELS[task]), train_cfg=train)
        base |= dict(auto_scale_lr=dict(enable=True, base_batch_size=16))
        for change in (dict(base, default_hooks=hooks, **loaders), *changes):
            cfg.merge_from_dict(change)
        for name in loaders:
            pipeline = cfg[name].dataset.pipeline
            for step in pipeline:
                if step.type == 'Resize' and task == 'detection':
                    step.scale = (64, 64)
            cfg[name].dataset.pipeline = [step for step in pipeline if 'Random' not in step.type]
        path = folder / f'{task}_{len(list(folder.iterdir()))}.py'
        cfg.dump(path)
        return path

    return write
