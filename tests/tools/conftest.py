"""The command line tools on a detector of one block a stage and two dozen small pictures."""

import importlib.util
import json
import shutil
import sys
from types import SimpleNamespace

import pytest

from tresnet_det.datasets.demo_digits import make_demo_data
from tresnet_det.engine import command_line

CONFIG = """
_base_ = ['{root}/configs/fcos_tresnet_m.py', '{root}/configs/_base_/demo.py']

model = dict(
    backbone=dict(
        arch=dict(depths=(1, 1, 1, 1), width_factor=0.25),
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[32, 256, 512], out_channels=32),
    bbox_head=dict(num_classes=10, in_channels=32, feat_channels=32, stacked_convs=1),
)
data_root = '{data}/'
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
                        dataset=dict(data_root=data_root))
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,
                      dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=2, val_interval=1)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True)]
default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=1))
"""


@pytest.fixture(scope='session')
def pristine_data(tmp_path_factory):
    return make_demo_data(
        tmp_path_factory.mktemp('demo') / 'data', num_train=12, num_val=6, size=64
    )


@pytest.fixture
def data(pristine_data, tmp_path):
    """A copy that a test may damage, with a way to rewrite an annotation file."""
    folder = tmp_path / 'data'
    shutil.copytree(pristine_data, folder)

    def edit(split, change):
        path = folder / f'annotations/instances_{split}2017.json'
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return SimpleNamespace(folder=folder, edit=edit)


@pytest.fixture
def config(data, project_root, tmp_path):
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG.format(root=project_root, data=data.folder))
    return path


@pytest.fixture
def run(project_root, monkeypatch, capfd, tmp_path):
    """Run a tool in this process: ``run('train', CONFIG, ...)`` returns code, stdout, stderr."""

    def call(tool, *arguments):
        path = project_root / 'tools' / f'{tool}.py'
        spec = importlib.util.spec_from_file_location(f'tools_{tool}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        capfd.readouterr()
        code = 0
        try:
            command_line.run_tool(module.main)
        except SystemExit as stop:
            code = stop.code
        output = capfd.readouterr()
        return SimpleNamespace(code=code, out=output.out, err=output.err)

    return call
