"""TResNet under MMDetection's detectors: what each config changes, and that each detector runs."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn

from tresnet_det.cli.ending import run_tool
from tresnet_det.engine import config as edit

ROOT = Path(__file__).resolve().parents[2]
REUSE = sorted((ROOT / 'configs' / 'reuse').glob('*.py'))
NAMES = [path.stem.removesuffix('_tresnet_m') for path in REUSE]
# What a config may change, and no more.
CHANGED = {
    ('model', 'backbone'),
    ('model', 'neck', 'in_channels'),
    ('model', 'data_preprocessor', 'mean'),
    ('model', 'data_preprocessor', 'std'),
    ('model', 'data_preprocessor', 'bgr_to_rgb'),
    ('optim_wrapper', 'paramwise_cfg', 'flat_decay_mult'),
    ('optim_wrapper', 'paramwise_cfg', 'custom_keys'),
    ('custom_imports',),
}
SIZE = 64


@pytest.fixture(scope='module')
def sweep():
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location('sweep', ROOT / 'benchmarks' / 'reuse_sweep.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def coco_folder(tmp_path_factory):
    """Two random images a split with a box and its polygon each, as COCO is laid out."""
    root = tmp_path_factory.mktemp('coco')
    rng = np.random.default_rng(0)
    for split in ('train2017', 'val2017'):
        images, annotations = [], []
        (root / split).mkdir()
        for i in (1, 2):
            name = f'{i}.png'
            image = rng.integers(256, size=(SIZE, SIZE - 16, 3), dtype=np.uint8)
            cv2.imwrite(str(root / split / name), image)
            images.append(dict(id=i, file_name=name, height=SIZE, width=SIZE - 16))
            x, y, w, h = 4 * i, 6, 36, 48
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(id=i, image_id=i, category_id=i, bbox=[x, y, w, h], area=w * h, iscrowd=0,
                     segmentation=[corners])
            )  # fmt: skip
        (root / 'annotations').mkdir(exist_ok=True)
        content = dict(images=images, annotations=annotations, categories=coco_categories())
        (root / f'annotations/instances_{split}.json').write_text(json.dumps(content))
    return root


def coco_categories():
    names = CocoDataset.METAINFO['classes']
    return [dict(id=i, name=name) for i, name in enumerate(names, start=1)]


def base_of(path, tmp_path):
    """MMDetection's own config that one of ours is a child of."""
    (line,) = (line for line in path.read_text().splitlines() if line.startswith('_base_'))
    (tmp_path / 'base.py').write_text(line)
    return Config.fromfile(tmp_path / 'base.py')


def differences(first, second, place=()):
    """The keys at which two nests of dicts differ, as deep as both go."""
    if isinstance(first, dict) and isinstance(second, dict) and place != ('model', 'backbone'):
        for key in first.keys() | second.keys():
            yield from differences(first.get(key), second.get(key), (*place, key))
    elif isinstance(second, dict) and first is None and place == ('optim_wrapper', 'paramwise_cfg'):
        yield from ((*place, key) for key in second)
    elif first != second:
        yield place


@pytest.mark.parametrize('path', REUSE, ids=NAMES)
def test_a_config_changes_backbone_neck_and_normalisation_only(path, tmp_path):
    base, ours = base_of(path, tmp_path), Config.fromfile(path)
    places = set(differences(base.to_dict(), ours.to_dict()))
    assert ('model', 'backbone') in places
    assert {p for p in places if not any(p[: len(c)] == c for c in CHANGED)} == set()

    old, new = base.model.backbone, ours.model.backbone
    assert new.get('frozen_stages', -1) == old.get('frozen_stages', -1)
    # ResNet's own default is True, the others' False.
    assert new.get('norm_eval', False) == old.get('norm_eval', old.type == 'ResNet')
    learns = (old.get('norm_cfg') or {}).get('requires_grad', True)
    assert new.get('norm_cfg', {}).get('requires_grad', True) == learns
    assert new.init_cfg.checkpoint == 'timm://tresnet_m.miil_in1k'
    assert ours.custom_imports.imports == ['tresnet_det']
    assert not ours.get('load_from')
    preprocessor = ours.model.data_preprocessor
    assert (preprocessor.mean, preprocessor.std) == ([0, 0, 0], [255, 255, 255])
    assert preprocessor.bgr_to_rgb


def weight_decays(path, sweep):
    """Of each norm of the backbone, weight decay and learning rate over the config's own."""
    cfg = edit.load_config(path)
    sweep.set_arch(cfg, sweep.TINY)
    model = nn.ModuleDict(dict(backbone=MODELS.build(dict(cfg.model.backbone, init_cfg=None))))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {id(p): g for g in wrapper.optimizer.param_groups for p in g['params']}
    lr = cfg.optim_wrapper.optimizer.lr
    return {
        (groups[id(p)]['weight_decay'], groups[id(p)]['lr'] / lr)
        for name, p in model.named_parameters()
        if '.abn.' in name and p.requires_grad
    }


@pytest.mark.parametrize('path', REUSE, ids=NAMES)
def test_no_norm_that_learns_is_decayed_or_hurried(path, sweep):
    assert weight_decays(path, sweep) <= {(0.0, 1.0)}


# The most that is left of each, wherever it stands in the model.
LIMITS = dict(
    stacked_convs=1,
    num_stacked_convs=1,
    num_convs=1,
    num_csp_blocks=1,
    num_layers=1,
    fc_out_channels=32,
    feedforward_channels=64,
    num_queries=20,
    num_proposals=20,
    num_dn_queries=10,
    nms_pre=100,
    max_per_img=20,
)


def cut_down(cfg):
    """Leave of each head what makes it that head: one layer, two stages, few queries."""
    model = cfg.model
    for part in edit.iterate_dicts(model):
        for key, most in LIMITS.items():
            # the layers of CondInst's masks are made of 169 numbers, no more and no less
            if isinstance(part.get(key), int) and part.get('type') != 'CondInstMaskHead':
                part[key] = min(part[key], most)
    roi_head = model.get('roi_head') or {}
    if roi_head.get('num_stages'):
        roi_head.num_stages = 2
        roi_head.stage_loss_weights = roi_head.stage_loss_weights[:2]
        roi_head.bbox_head = roi_head.bbox_head[:2]
        model.train_cfg.rcnn = model.train_cfg.rcnn[:2]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('path', REUSE, ids=NAMES)
def test_the_detector_builds_learns_predicts_and_is_evaluated(path, sweep, coco_folder):
    cfg = edit.load_config(path)
    edit.set_data_root(cfg, coco_folder)
    sweep.set_arch(cfg, sweep.TINY)
    cut_down(cfg)
    results, error = sweep.check_detector(cfg, size=SIZE, images=2)
    assert error is None, results
    assert results == dict.fromkeys(sweep.STEPS, 'yes')


@pytest.mark.filterwarnings('ignore')
def test_the_tool_prints_and_writes_the_table_and_fails_with_a_detector(
    sweep, coco_folder, tmp_path, monkeypatch, capsys
):
    retinanet = ROOT / 'configs' / 'reuse' / 'retinanet_tresnet_m.py'
    broken = tmp_path / 'broken.py'
    broken.write_text(f'_base_ = {str(retinanet)!r}\nmodel = dict(bbox_head=dict(in_channels=7))')
    table = tmp_path / 'table.csv'

    def run(*configs):
        options = ['--data-root', coco_folder, '--size', SIZE, '--out', table, '--device', 'cpu']
        monkeypatch.setattr(sys, 'argv', ['sweep', *map(str, [*configs, *options])])
        try:
            run_tool(sweep.main)
        except SystemExit as stop:
            return stop.code
        return 0

    assert run(broken, retinanet) == 1
    first, *rows = table.read_text().splitlines()
    assert '2 images' in first
    assert 'random weights' in first
    rows = {row['detector']: row for row in csv.DictReader(rows)}
    assert [rows['broken'][step][:13] for step in sweep.STEPS] == [
        'yes', 'RuntimeError:', '-', '-', '-'
    ]  # fmt: skip
    assert [rows['retinanet_tresnet_m'][step] for step in sweep.STEPS] == ['yes'] * 5
    out = capsys.readouterr()
    assert 'detector' in out.out
    assert 'Traceback' in out.err
    assert run(tmp_path / 'none.py') == 2
