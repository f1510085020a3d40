"""The project's configs in miniature, on 64 images of the demo."""

import pytest
import tool_runs

from tresnet_det.datasets.demo.digits import make_demo_data
from tresnet_det.engine import config as edit


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """64 images to train on, 13 to validate on, 64 pixels."""
    folder = tmp_path_factory.mktemp('digits') / 'data'
    return make_demo_data(folder, num_train=64, num_val=13, size=64)


@pytest.fixture(scope='session')
def write_config(digits, tmp_path_factory):
    """Write an epoch of a config without augmentation: ``write_config(task, *changes)``."""
    folder = tmp_path_factory.mktemp('configs')
    base = dict(
        model=dict(backbone=dict(norm_cfg=dict(type='InPlaceABN', sync=True))),
        train_cfg=dict(max_epochs=1),
        auto_scale_lr=dict(enable=True, base_batch_size=16),
        optim_wrapper=dict(
            _delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001, momentum=0.9)
        ),
        **{name: dict(batch_size=8) for name in edit.LOADERS},
    )

    def write(task, *changes, data_root=digits):
        path = folder / f'{task}_{len(list(folder.iterdir()))}.py'
        cfg = edit.load_config(tool_runs.write_config(task, path, data_root, **base))
        for change in changes:
            cfg.merge_from_dict(change)
        for name in edit.LOADERS:
            dataset = cfg[name].dataset
            dataset.pipeline = [step for step in dataset.pipeline if 'Random' not in step.type]
        cfg.dump(path)
        return path

    return write
