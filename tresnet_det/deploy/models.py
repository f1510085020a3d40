"""A config's model with its weights, and what the file says of it."""

import contextlib
import logging
from collections.abc import Iterator, Sequence

from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ..checkpoints import load_backbone_weights, load_weights, read_checkpoint
from ..datasets.classification import resolve_classes
from ..engine import config as edit
from ..engine.building import config_errors
from ..errors import InputError
from ..models import TResNet
from ..tasks import find_task
from .images import UnknownStepError, find_test_dataset, read_steps

FORMAT = 1  # of the metadata, which onnx_runner.py holds against what it knows


def build_model(
    cfg: Config, checkpoint: str | None, task: str
) -> tuple[nn.Module, Sequence[str] | None]:
    """Build the model of a config, in evaluation mode, and load its weights.

    Args:
        cfg: The config; its pretrained weights are taken out.
        checkpoint: A checkpoint of this model; for ``task='backbone'`` also a published file or
            ``timm://NAME``; None for random weights, those that training would begin with.
        task: ``'detector'``, ``'classifier'`` or ``'backbone'``.

    Returns:
        The model and the checkpoint's classes, None where it does not say.

    Raises:
        MissingFileError: If there is no such checkpoint.
        InputError: If it does not fit, or the config's model cannot be built.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    edit.drop_pretrained(cfg)
    with config_errors(), _quiet():
        model = MODELS.build(cfg.model)
        model.init_weights()
    if checkpoint is None:
        return model.eval(), None
    weights = read_checkpoint(checkpoint)
    if task == 'backbone' and isinstance(model.backbone, TResNet):
        load_backbone_weights(model, weights)
    else:
        load_weights(model, weights)
    return model.eval(), weights.classes


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep mmengine from logging how every single parameter was initialised."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def describe(
    cfg: Config, module: nn.Module, trained_classes: Sequence[str] | None, model: nn.Module
) -> dict[str, object]:
    """Return the metadata of a file: plain values.

    Args:
        cfg: Of the model, as exported.
        module: What is exported.
        trained_classes: Of the checkpoint.
        model: That the module was made of.
    """
    from .. import __version__

    task = find_task(cfg).name
    try:
        steps, why = read_steps(find_test_dataset(cfg)['pipeline'], task), None
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
        classes=_find_classes(cfg, trained_classes),
        reader='opencv' if task == 'detection' else 'pillow',
        steps=steps,
        why_no_steps=why,
        divisor=module.divisor,
        border=module.normalization.border,
    )
    if module.task == 'classifier':
        described['multi_label'] = module.multi_label
    if module.task == 'detector':
        described.update(
            score_thr=module.score_thr,
            iou_threshold=module.iou_threshold,
            max_per_img=module.max_per_img,
        )
    return described


def _find_classes(cfg: Config, trained: Sequence[str] | None) -> Sequence[str] | None:
    """Return the classes of the checkpoint, of the config or of MS-COCO, None if it is none."""
    count = edit.get_num_classes(cfg)
    candidates = [trained]
    try:
        dataset = find_test_dataset(cfg)
    except InputError:
        dataset = {}
    candidates.append(resolve_classes(dataset.get('metainfo')))
    if dataset.get('type') == 'CocoDataset':
        candidates.append(CocoDataset.METAINFO['classes'])
    return next((list(c) for c in candidates if c is not None and len(c) == count), None)
