"""A training that starts from a whole model: which classes its outputs are of."""

import copy
from collections.abc import Mapping

import torch
from mmdet.registry import MODELS
from mmengine.runner import Runner

from ..checkpoints.classes import Names, find_class_outputs, match_classes
from ..checkpoints.load import Checkpoint, classes_of
from .config import drop_pretrained, get_num_classes, head_prefixes, set_num_classes


def match_runner(runner: Runner, own: Mapping, found: Checkpoint) -> tuple[Mapping, Names | None]:
    """Match a checkpoint's class outputs with the classes of the runner's data, by name.

    A head without outputs of its own for each class is re-initialized.

    Args:
        runner: Of a training; its loop may not be built yet.
        own: The state dict of its model.
        found: What the training starts from.

    Returns:
        The weights, and the names of the classes that are copied, re-initialized and skipped; the
        weights as they are, and None, where the classes are the same, or not known: a line says so.
    """
    classes, theirs = data_classes(runner._train_loop), found.classes or ()
    if classes == theirs:
        return found.weights, None
    number = get_num_classes(runner.cfg) if runner.cfg.get('model') else None
    reasons = {
        'the data names no classes': not classes,
        'it names no classes': not theirs,
        f'the data has {len(classes)}, and the first num_classes of the config is {number}': (
            number != len(classes)
        ),
    }
    if any(reasons.values()):
        reason = next(text for text, holds in reasons.items() if holds)
        runner.logger.warning(f'{found.source}: classes are matched by position: {reason}')
        return found.weights, None
    cfg = copy.deepcopy(runner.cfg)
    drop_pretrained(cfg)
    set_num_classes(cfg, len(classes) + 1)
    try:
        wider = _build_shapes(cfg.model)
        # One query for several classes: whose rows they are, no shape says.
        several = getattr(getattr(wider, 'head', None), 'num_groups', len(classes) + 1)
        matches = several > len(classes)
    except (AssertionError, TypeError, ValueError) as error:  # as word vectors for these classes
        runner.logger.warning(f'the head cannot have one class more ({error})')
        matches = False
    if matches:
        outputs = find_class_outputs(own, wider.state_dict(), len(classes))
    else:
        heads = head_prefixes(cfg.model)
        outputs = dict.fromkeys(key for key in own if key.startswith(heads))
    weights, copied = match_classes(own, found.weights, outputs, classes, theirs)
    new, lost = ([name for name in each if name not in copied] for each in (classes, theirs))
    return weights, (copied, new, lost)


def data_classes(loop: object) -> tuple[str, ...]:
    """Return the classes of a loop's data; empty where it is not built, or they have no names."""
    dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
    return classes_of(getattr(dataset, 'metainfo', None) or {}) or ()


def _build_shapes(model: Mapping) -> torch.nn.Module:
    """Build a model for its shapes; one that computes with values meanwhile needs memory."""
    try:
        with torch.device('meta'):
            return MODELS.build(model)
    except RuntimeError:
        with torch.random.fork_rng():
            return MODELS.build(model)
