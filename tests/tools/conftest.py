"""The command line tools on a detector of one block a stage and two dozen small images."""

import copy
import importlib.util
import json
import logging
import shutil
import sys
from types import SimpleNamespace

import pytest

from tresnet_det.cli.run import run_tool
from tresnet_det.datasets.demo.digits import make_demo_data
from tresnet_det.engine import config as edit

LOADER = dict(batch_size=4, num_workers=0, persistent_workers=False)
CHANGES = dict(
    model=dict(
        backbone=dict(
            arch=dict(_delete_=True, depths=(1, 1, 1, 1), width_factor=0.25),
            frozen_stages=-1,
            norm_eval=False,
            init_cfg=None,
        ),
        neck=dict(in_channels=[32, 256, 512], out_channels=32),
        bbox_head=dict(num_classes=10, in_channels=32, feat_channels=32, stacked_convs=1),
    ),
    train_dataloader=LOADER,
    val_dataloader=LOADER,
    test_dataloader=LOADER,
    train_cfg=dict(max_epochs=2, val_interval=1),
    param_scheduler=[dict(type='ConstantLR', factor=1.0, by_epoch=True, end=2)],
    default_hooks=dict(logger=dict(interval=2), checkpoint=dict(interval=1, max_keep_ckpts=3)),
)


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

    def change_annotations(split, change):
        path = folder / f'annotations/instances_{split}2017.json'
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return SimpleNamespace(folder=folder, edit=change_annotations)


@pytest.fixture
def config(data, project_root, tmp_path):
    """The project's FCOS config in miniature, as a file of the user's own."""
    configs = project_root / 'configs'
    cfg = edit.load_config(configs / 'fcos_tresnet_m.py')
    edit.put_over(cfg, edit.load_config(configs / '_base_' / 'demo_detection.py'))
    edit.set_data_root(cfg, data.folder)
    cfg.merge_from_dict(copy.deepcopy(CHANGES))  # merging takes _delete_ out
    path = tmp_path / 'tiny.py'
    cfg.dump(path)
    return path


@pytest.fixture
def run(project_root, monkeypatch, capfd, tmp_path):
    """Run a tool in this process: ``run('train', CONFIG, ...)`` returns code, stdout, stderr."""

    def call(tool, *arguments):
        if '/' in tool:
            path = project_root / f'{tool}.py'
            spec = importlib.util.spec_from_file_location(path.stem, path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            path = project_root / 'tools' / f'{tool}.py'
            module = importlib.import_module(f'tresnet_det.cli.{tool}')
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        monkeypatch.chdir(tmp_path)
        # Loggers of earlier runs in this process still hold the streams that pytest closed.
        monkeypatch.setattr(logging, 'raiseExceptions', False)
        capfd.readouterr()
        code = 0
        try:
            run_tool(module.main)
        except SystemExit as stop:
            code = stop.code
        output = capfd.readouterr()
        return SimpleNamespace(code=code, out=output.out, err=output.err)

    return call
