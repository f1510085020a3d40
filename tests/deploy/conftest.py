"""A tiny FCOS and a tiny classifier that find something, and their exported files."""

import copy
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.registry import init_default_scope
from torch import nn

from tresnet_det import ImageClassifier
from tresnet_det.deploy import build_export_module, trace, write_onnx
from tresnet_det.deploy.models import describe
from tresnet_det.engine.config import load_config
from tresnet_det.models.norms import iterate_norms

CLASSES = tuple('abcdefghij')
TINY_ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)


@pytest.fixture(autouse=True)
def _registered():
    register_all_modules(init_default_scope=True)


def with_random_norms(model):
    """Weights of both signs, biases and statistics as a training may leave them."""
    for norm in iterate_norms(model):
        nn.init.uniform_(norm.weight, -1, 1)
        nn.init.normal_(norm.bias, std=0.1)
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
    return model


def lively_detector(cfg):
    """Build a detector with random weights whose scores and boxes differ from place to place."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    detector = with_random_norms(MODELS.build(copy.deepcopy(cfg.model)))
    head = detector.bbox_head
    for layer, std, bias in (
        (head.conv_cls, 0.1, -5),
        (head.conv_reg, 0.05, 2),
        (head.conv_centerness, 0.1, 0),
    ):
        nn.init.normal_(layer.weight, std=std)
        nn.init.constant_(layer.bias, bias)
    return detector.eval()


def export(model, task, cfg, path):
    """Write a model as ONNX, as tools/export.py does."""
    module = build_export_module(model, task)
    program = trace(module)
    write_onnx(program, module, path, describe(cfg, module, {}, model))
    return SimpleNamespace(cfg=cfg, model=model, module=module, program=program, path=path)


@pytest.fixture(scope='session')
def detector_cfg(project_root):
    """FCOS with 64 channels: with 32, a group norm would have a single value on a 1x1 level."""
    cfg = load_config(project_root / 'configs/fcos_tresnet_m.py')
    cfg.model.backbone.update(arch=TINY_ARCH, init_cfg=None)
    cfg.model.neck.update(in_channels=[32, 256, 512], out_channels=64)
    cfg.model.bbox_head.update(
        num_classes=len(CLASSES), in_channels=64, feat_channels=64, stacked_convs=1
    )
    cfg.model.test_cfg.update(nms_pre=100, max_per_img=60)
    dataset = cfg.test_dataloader.dataset
    dataset.metainfo = dict(classes=CLASSES)
    dataset.pipeline[1].scale = (160, 96)
    return cfg


@pytest.fixture(scope='session')
def build_detector():
    """A function from a config to a detector that finds something."""
    return lively_detector


@pytest.fixture(scope='session')
def export_file():
    """The function :func:`export`."""
    return export


@pytest.fixture(scope='session')
def detector(detector_cfg):
    return lively_detector(detector_cfg)


@pytest.fixture
def photos(tmp_path):
    """Three PNG files of different shapes, smooth as photographs are."""
    rng = np.random.default_rng(0)
    paths = []
    for number, (height, width) in enumerate([(120, 200), (230, 150), (90, 90)]):
        coarse = rng.integers(256, size=(height // 8, width // 8, 3), dtype=np.uint8)
        path = tmp_path / f'photo_{number}.png'
        cv2.imwrite(str(path), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
        paths.append(path)
    return paths


@pytest.fixture(scope='session')
def detector_file(detector, detector_cfg, tmp_path_factory):
    return export(
        detector, 'detector', detector_cfg, tmp_path_factory.mktemp('export') / 'fcos.onnx'
    )


def build_classifier(cfg):
    cfg.model.backbone.arch = TINY_ARCH
    cfg.model.head.update(in_channels=512, num_classes=7)
    torch.manual_seed(0)
    config = {key: value for key, value in cfg.model.items() if key != 'type'}
    config['backbone'].pop('init_cfg', None)
    return with_random_norms(ImageClassifier(**config)).eval()


@pytest.fixture(scope='session')
def classifier_file(project_root, tmp_path_factory):
    cfg = load_config(project_root / 'configs/imagenet_tresnet_m.py')
    model = build_classifier(cfg)
    nn.init.normal_(model.head.fc.weight)
    return export(model, 'classifier', cfg, tmp_path_factory.mktemp('export') / 'classifier.onnx')


@pytest.fixture(scope='session')
def ml_decoder_file(project_root, tmp_path_factory):
    cfg = load_config(project_root / 'configs/ml_decoder_tresnet_l_448.py')
    cfg.model.head.embed_dims = 64
    model = build_classifier(cfg)
    path = tmp_path_factory.mktemp('export') / 'ml_decoder.onnx'
    return export(model, 'classifier', cfg, path)
