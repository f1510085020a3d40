"""Weights meet the image normalization that they were trained with, or it is warned of."""

import logging

import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from torch import nn

from tresnet_det import TResNet
from tresnet_det.checkpoints import load_backbone_weights, load_weights
from tresnet_det.checkpoints.img_norm import read_img_norm

ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)
OURS = dict(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True)
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


class Detector(nn.Module):
    def __init__(self, preprocessor):
        super().__init__()
        self.backbone = TResNet(arch=ARCH)
        self.data_preprocessor = DetDataPreprocessor(**preprocessor)


@pytest.fixture
def warnings(monkeypatch):
    lines = []

    def collect(message, level):
        if level == logging.WARNING:
            lines.append(message)

    monkeypatch.setattr('tresnet_det.checkpoints.img_norm.print_log', collect)
    return lines


@pytest.mark.parametrize(
    ('preprocessor', 'named'),
    [
        (OURS, None),
        (IMAGENET, 'mean=[123.675'),
        (dict(OURS, bgr_to_rgb=False), 'bgr_to_rgb=False (not True)'),
        (dict(bgr_to_rgb=True), 'std='),
    ],
)
def test_loading_a_backbone_under_another_normalization_warns(preprocessor, named, warnings):
    detector = Detector(preprocessor)
    load_backbone_weights(detector, TResNet(arch=ARCH).state_dict())
    assert len(warnings) == (named is not None)
    if named:
        assert named in warnings[0]
        assert 'mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True' in warnings[0]
    # A checkpoint says itself what it was trained with.
    meta = dict(input=read_img_norm(detector.data_preprocessor))
    warnings.clear()
    load_weights(detector, dict(state_dict=detector.state_dict(), meta=meta))
    assert warnings == []
    load_weights(Detector(OURS), dict(state_dict=detector.state_dict(), meta=meta))
    assert len(warnings) == (named is not None)
    meta['input']['std'] = 'a\n' * 10**6
    load_weights(detector, dict(state_dict=detector.state_dict(), meta=meta))
    assert len(warnings[-1]) < 500
    assert warnings[-1].isprintable()


@pytest.mark.parametrize(
    ('scale', 'shift', 'warns'), [(1, 0, False), (255, 0, True), (4, -2, True)]
)
def test_init_cfg_warns_at_the_first_image_that_is_not_in_0_to_1(
    scale, shift, warns, warnings, tmp_path
):
    random = TResNet(arch=ARCH, out_indices=(0,))
    random(torch.rand(2, 3, 64, 64) * 255)  # random weights take any input
    torch.save(random.state_dict(), tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    backbone = TResNet(arch=ARCH, out_indices=(0,), init_cfg=init_cfg)
    backbone.init_weights()
    backbone(torch.rand(0, 3, 64, 64))  # tells nothing
    for _ in range(2):
        backbone(torch.rand(2, 3, 64, 64) * scale + shift)
    assert len(warnings) == warns  # once, not at every image
