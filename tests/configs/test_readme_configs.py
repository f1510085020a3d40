"""The README's configs, as they stand."""

import re

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules

from tresnet_det.engine import config as edit


@pytest.fixture
def blocks(project_root, tmp_path, monkeypatch):
    monkeypatch.chdir(project_root)
    register_all_modules(init_default_scope=True)
    text = (project_root / 'README.md').read_text()
    found = {}
    for code in re.findall(r'```python\n(.*?)```', text, re.DOTALL):
        code = code.replace("'configs/", f"'{project_root}/configs/")
        name = re.search(r'mmdet::(\w+)|configs/(\w+)', code)
        path = tmp_path / f'block_{len(found)}.py'
        path.write_text(code)
        found[name[1] or name[2]] = path
    return found


def test_the_backbone_in_mmdetections_own_config(blocks):
    cfg = edit.load_config(blocks['retinanet'])
    detector = MODELS.build(cfg.model)
    assert detector.backbone.out_channels == tuple(cfg.model.neck.in_channels)
    with torch.no_grad():
        assert len(detector.eval().extract_feat(torch.rand(1, 3, 64, 64))) == 5


def test_your_own_data(blocks):
    cfg = edit.load_config(blocks['fcos_tresnet_m'])
    assert edit.get_num_classes(cfg) == 2
    for name in ('train', 'val', 'test'):
        dataset = cfg[f'{name}_dataloader'].dataset
        assert dataset.metainfo.classes == ('cat', 'dog')
        assert dataset.data_root == 'data/mine/'
        assert dataset.type == 'CocoDataset'
    assert cfg.test_evaluator.ann_file == 'data/mine/val.json'
    assert cfg.test_evaluator.type == 'CocoTwelveMetric'
