"""A config's model with its weights, and the metadata of its file."""

import logging
from collections.abc import Mapping
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ..checkpoints import load_backbone_weights, load_weights, read_checkpoint
from ..compat.log import print_log
from ..engine import config as edit
from ..engine.building import config_errors
from ..errors import InputError, few
from ..inference.pipeline import find_classes
from ..models import TResNet
from ..readers.findings import without
from ..tasks import find_task
from .modules import ExportModule
from .programs import quiet
from .steps import UnknownStepError, read_steps

FORMAT = 1  # of the metadata, which onnx_runner.py compares with what it reads


def build_model(
    cfg: Config, checkpoint: str | None, task: str
) -> tuple[nn.Module, Mapping[str, Any]]:
    """Build the model of a config, in evaluation mode, and load its weights.

    Args:
        cfg: The config; its pretrained weights are taken out.
        checkpoint: A checkpoint of this model; for ``task='backbone'`` also a published file or
            ``timm://NAME``; None for random weights, those that training would begin with.
        task: ``'detector'``, ``'classifier'`` or ``'backbone'``.

    Returns:
        The model and the ``meta`` of the checkpoint.

    Raises:
        MissingFileError: If there is no such checkpoint.
        InputError: If it does not fit, or the config's model cannot be built.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    edit.drop_pretrained(cfg)
    with config_errors():
        model = MODELS.build(cfg.model)
    if checkpoint is not None:
        weights = read_checkpoint(checkpoint)
        if task == 'backbone' and isinstance(model.backbone, TResNet):
            load_backbone_weights(model, weights)
        else:
            load_weights(model, weights)
        return model.eval(), weights.meta
    with quiet():  # mmengine logs how every single parameter was initialised
        model.init_weights()
    return model.eval(), {}


def describe(
    cfg: Config, module: ExportModule, meta: Mapping[str, Any], model: nn.Module
) -> dict[str, object]:
    """Return the metadata of a file: plain values.

    Args:
        cfg: Of the model, as exported.
        module: What is exported.
        meta: Of the checkpoint.
        model: That the module was made of.
    """
    from .. import __version__

    task, classes = find_task(cfg).name, find_classes(cfg, meta)
    try:
        steps, why = read_steps(edit.find_test_dataset(cfg)['pipeline'], task), None
    except (UnknownStepError, InputError) as error:
        steps, why = None, f'onnx_runner.py has no {error}'
    backbone = cfg.model.backbone
    arch = backbone.get('arch')
    name = f'{backbone.type} {arch}' if isinstance(arch, str) else backbone.type
    network = name if module.task == 'backbone' else f'{type(model).__name__} of {name}'
    sides = f'multiples of {module.divisor}'
    described = dict(
        format=FORMAT,
        producer=f'tresnet_det {__version__}',
        task=module.task,
        network=network,
        input=f'images (N, 3, H, W): RGB in 0..255, not normalised, sides {sides}; the image at '
        'the left upper corner, the rest in the colour of border',
        classes=classes,
        reader='opencv' if task == 'detection' else 'pillow',
        steps=steps,
        why_no_steps=why,
        divisor=module.divisor,
        border=module.normalization.border,
    )
    thresholds = meta.get('thresholds') or {}  # of test.py --keep-thresholds
    if thresholds and classes:
        if lacking := without(classes, thresholds):
            print_log(
                f'the checkpoint has no threshold of {few(lacking)}: the file gets none',
                logging.WARNING,
            )
        else:
            described['threshold'] = [thresholds[name] for name in classes]
    if module.task == 'classifier':
        described['multi_label'] = module.multi_label
    if module.task == 'detector':
        described.update(
            score_thr=module.score_thr,
            iou_threshold=module.iou_threshold,
            max_per_img=module.max_per_img,
        )
    return described
