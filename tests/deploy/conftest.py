"""A tiny FCOS and tiny classifiers that find something, each exported once."""

import copy
from types import SimpleNamespace

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from torch import nn

from tresnet_det.backbone.norms import iterate_norms
from tresnet_det.deploy import build_export_module, trace, write_onnx
from tresnet_det.deploy.models import describe
from tresnet_det.engine.config import drop_pretrained, load_config

CLASSES = tuple('abcdefghij')
TINY_ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)


@pytest.fixture(autouse=True)
def _registered():
    register_all_modules(init_default_scope=True)


def randomize_norms(model):
    """Give norms weights of both signs, biases and statistics as a training may leave them."""
    for norm in iterate_norms(model):
        nn.init.uniform_(norm.weight, -1, 1)
        nn.init.normal_(norm.bias, std=0.1)
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
    return model


def build(cfg):
    """Build a model whose outputs differ from place to place and from class to class."""
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    model = randomize_norms(MODELS.build(copy.deepcopy(cfg.model)))
    if hasattr(model, 'bbox_head'):
        head = model.bbox_head
        for layer, std, bias in (
            (head.conv_cls, 0.1, -5),
            (head.conv_reg, 0.05, 2),
            (head.conv_centerness, 0.1, 0),
        ):
            nn.init.normal_(layer.weight, std=std)
            nn.init.constant_(layer.bias, bias)
    elif hasattr(model.head, 'fc'):
        nn.init.normal_(model.head.fc.weight)
    return model.eval()


@pytest.fixture(scope='session', name='build')
def _build():
    return build


@pytest.fixture(scope='session', name='randomize_norms')
def _randomize_norms():
    return randomize_norms


@pytest.fixture(scope='session')
def export(tmp_path_factory):
    """A function that writes the model of a config as ONNX, as tools/export.py does."""

    def write(cfg, task):
        model, path = build(cfg), tmp_path_factory.mktemp('export') / 'model.onnx'
        module = build_export_module(model, task)
        program = trace(module)
        write_onnx(program, module, path, describe(cfg, module, {}, model))
        return SimpleNamespace(cfg=cfg, model=model, module=module, program=program, path=path)

    return write


@pytest.fixture(scope='session')
def detector_cfg(project_root):
    """FCOS of three levels, with more than one value for each of 32 groups on a 1x1 one."""
    cfg = load_config(project_root / 'configs/fcos_tresnet_m.py')
    cfg.model.backbone.update(arch=TINY_ARCH, init_cfg=None)
    cfg.model.neck.update(in_channels=[32, 256, 512], out_channels=64, num_outs=3)
    cfg.model.bbox_head.update(
        num_classes=len(CLASSES),
        in_channels=64,
        feat_channels=64,
        stacked_convs=1,
        strides=[8, 16, 32],
        regress_ranges=((-1, 64), (64, 128), (128, 1e8)),
    )
    cfg.model.test_cfg.update(nms_pre=100, max_per_img=60)
    cfg.test_dataloader.dataset.metainfo = dict(classes=CLASSES)
    cfg.test_dataloader.dataset.pipeline[1].scale = (160, 96)
    return cfg


@pytest.fixture(scope='session')
def detector_file(detector_cfg, export):
    return export(detector_cfg, 'detector')


@pytest.fixture(scope='session')
def detector(detector_file):
    return detector_file.model


@pytest.fixture(scope='session')
def export_classifier(project_root, export):
    def write(name, stage=3, **head):
        cfg = load_config(project_root / f'configs/{name}.py')
        drop_pretrained(cfg)
        cfg.model.backbone.update(arch=TINY_ARCH, out_indices=(stage,))
        channels = (16, 32, 256, 512)[stage]
        cfg.model.head.update(in_channels=channels, num_classes=7, **head)
        return export(cfg, 'classifier')

    return write


@pytest.fixture(scope='session')
def classifier_file(export_classifier):
    return export_classifier('imagenet_tresnet_m')


@pytest.fixture(scope='session')
def ml_decoder_file(export_classifier):
    return export_classifier('ml_decoder_tresnet_l_448', stage=1, embed_dims=32)


@pytest.fixture(scope='session')
def files(tmp_path_factory):
    """Three PNG files of different shapes, smooth as real images are."""
    rng, folder, paths = np.random.default_rng(0), tmp_path_factory.mktemp('files'), []
    for number, (height, width) in enumerate([(120, 200), (230, 150), (90, 90)]):
        coarse = rng.integers(256, size=(height // 8, width // 8, 3), dtype=np.uint8)
        paths.append(folder / f'photo_{number}.png')
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(paths[-1]), smooth)
    return paths


@pytest.fixture(scope='session')
def run_onnx():
    """A function that runs an exported file on tensors, and returns its outputs."""

    def run(file, *inputs):
        session = onnxruntime.InferenceSession(str(file.path))
        names = file.module.input_names
        return session.run(None, {k: v.numpy() for k, v in zip(names, inputs, strict=True)})

    return run
