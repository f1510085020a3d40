"""FCOS on TResNet-M on real images, small ones: from file to boxes, in onnxruntime and PyTorch."""

import pytest

from tresnet_det.deploy.check import FileCheck, find_images, prepare_images
from tresnet_det.deploy.steps import set_size
from tresnet_det.engine.config import find_test_dataset, load_config

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_fcos_tresnet_m_finds_the_same_boxes_on_20_images(real_data, project_root, export):
    cfg = load_config(project_root / 'configs/fcos_tresnet_m.py')
    cfg.model.backbone.init_cfg = None
    set_size(find_test_dataset(cfg)['pipeline'], 200, 320)
    file = export(cfg, 'detector')
    paths = find_images(cfg, str(real_data / 'coco_subset/val2017'), 20)
    check = FileCheck(file.path, file.model, file.module, prepare_images(cfg, paths))
    boxes = check.compare_onnx()['boxes']
    assert boxes.same > 1000
    assert boxes.is_same
    assert check.image_difference() == 0
