import logging

import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from torch import nn

from tresnet_det import TResNet
from tresnet_det.checkpoints import load_backbone_weights
from tresnet_det.input_convention import CONVENTION, compare, read_convention

ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)
OURS = dict(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True)
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


class Detector(nn.Module):
    def __init__(self, **preprocessor):
        super().__init__()
        self.backbone = TResNet(arch=ARCH)
        self.data_preprocessor = DetDataPreprocessor(**preprocessor)


@pytest.fixture
def warnings(monkeypatch):
    lines = []

    def collect(message, logger=None, level=logging.INFO):
        if level == logging.WARNING:
            lines.append(message)

    monkeypatch.setattr('tresnet_det.checkpoints.print_log', collect)
    monkeypatch.setattr('tresnet_det.input_convention.print_log', collect)
    return lines


def test_the_convention_of_the_configs_is_read_as_it_stands():
    assert read_convention(DetDataPreprocessor(**OURS)) == CONVENTION
    without = read_convention(DetDataPreprocessor())
    assert without == dict(mean=[0.0] * 3, std=[1.0] * 3, bgr_to_rgb=False)


def test_equal_conventions_are_no_difference():
    assert compare(CONVENTION, CONVENTION, 'x') is None
    assert 'bgr_to_rgb=False (not True)' in compare(
        dict(CONVENTION, bgr_to_rgb=False), CONVENTION, 'x'
    )


@pytest.mark.parametrize(
    ('preprocessor', 'named'),
    [
        (OURS, None),
        (IMAGENET, 'mean='),
        (dict(OURS, bgr_to_rgb=False), 'bgr_to_rgb=False'),
        (dict(bgr_to_rgb=True), 'std='),
    ],
)
def test_loading_a_backbone_under_another_normalisation_warns(preprocessor, named, warnings):
    detector = Detector(**preprocessor)
    load_backbone_weights(detector, TResNet(arch=ARCH).state_dict())
    if named is None:
        assert warnings == []
    else:
        (line,) = warnings
        assert named in line
        assert 'mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True' in line


@pytest.mark.parametrize(
    ('scale', 'shift', 'warns'), [(1, 0, False), (255, 0, True), (4, -2, True)]
)
def test_init_cfg_warns_at_the_first_image_that_is_not_in_0_to_1(
    scale, shift, warns, warnings, tmp_path
):
    torch.save(TResNet(arch=ARCH).state_dict(), tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    backbone = TResNet(arch=ARCH, init_cfg=init_cfg)
    backbone.init_weights()
    backbone(torch.rand(0, 3, 64, 64))  # tells nothing
    for _ in range(2):
        backbone(torch.rand(2, 3, 64, 64) * scale + shift)
    assert len(warnings) == warns  # once, not at every image


def test_random_weights_take_any_input(warnings):
    TResNet(arch=ARCH)(torch.rand(2, 3, 64, 64) * 255)
    assert warnings == []
