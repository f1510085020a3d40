"""FCOS on TResNet-M on real photos, small ones: from file to boxes, in onnxruntime and PyTorch."""

import pytest

from tresnet_det.deploy.check import FileCheck
from tresnet_det.deploy.images import find_photos, find_test_dataset, set_size
from tresnet_det.deploy.photos import PhotoReader
from tresnet_det.engine.config import load_config

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_fcos_tresnet_m_finds_the_same_boxes_on_20_photos(
    real_data, project_root, tmp_path, build_detector, export_file
):
    cfg = load_config(project_root / 'configs/fcos_tresnet_m.py')
    cfg.model.backbone.init_cfg = None
    set_size(find_test_dataset(cfg)['pipeline'], 200, 320)
    model = build_detector(cfg)
    file = export_file(model, 'detector', cfg, tmp_path / 'fcos.onnx')
    read = PhotoReader(cfg)
    paths = find_photos(cfg, str(real_data / 'coco_subset/val2017'), 20)
    check = FileCheck(file.path, model, file.module, [read(path) for path in paths])
    boxes = check.compare_onnx()['boxes']
    print(f'\n{boxes}')
    assert boxes.same > 1000
    assert boxes.different == 0
    assert boxes.least_iou > 0.99
    assert boxes.score_difference < 1e-4
    assert check.image_difference() == 0
