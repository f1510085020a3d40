import copy

import pytest
import torch

from tresnet_det.checkpoints import to_timm
from tresnet_det.deploy.check import FileCheck
from tresnet_det.deploy.models import build_model
from tresnet_det.deploy.photos import PhotoReader
from tresnet_det.errors import InputError


def file_check(file, photos, **changes):
    read = PhotoReader(file.cfg)
    model = changes.get('model', file.model)
    return FileCheck(file.path, model, file.module, [read(path) for path in photos])


def test_file_and_program_of_a_classifier_agree_with_its_model(classifier_file, photos):
    check = file_check(classifier_file, photos)
    for agreements in (check.compare_onnx(), check.compare_program(classifier_file.program)):
        assert list(agreements) == ['logits', 'scores']
        assert all(agreement.is_same for agreement in agreements.values())
    assert 0 <= check.image_difference() <= 1
    assert not check.finds_nothing


def test_a_detectors_program_is_not_compared_on_smaller_photos(detector_file, photos):
    check = file_check(detector_file, photos)
    assert check.compare_program(detector_file.program) == {}
    boxes = check.compare_onnx()['boxes']
    assert boxes.is_same
    assert boxes.same > 30
    assert check.image_difference() == 0


def test_a_file_of_other_weights_is_told(detector_file, photos):
    other = copy.deepcopy(detector_file.model)
    torch.nn.init.normal_(other.bbox_head.conv_reg.weight, std=0.05)
    assert not file_check(detector_file, photos, model=other).compare_onnx()['boxes'].is_same


def test_a_backbone_takes_its_weights_from_a_published_file(detector_cfg, detector, tmp_path):
    path = tmp_path / 'timm.pth'
    torch.save(to_timm(detector.state_dict()), path)
    with pytest.raises(InputError, match='does not fit the model'):
        build_model(copy.deepcopy(detector_cfg), str(path), 'detector')
    model, classes = build_model(copy.deepcopy(detector_cfg), str(path), 'backbone')
    assert classes is None
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, expected in zip(model.backbone(x), detector.backbone(x), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * expected.abs().max())
