"""Refuse a checkpoint that does not fit the model."""

from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint
from mmengine.runner.checkpoint import get_state_dict
from torch import nn

from ..checkpoints.img_norm import read_img_norm, warn_of_other_img_norm
from ..checkpoints.load import Checkpoint, fit_weights
from ..errors import InputError


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Refuse a checkpoint that does not fit the model.

    mmengine loads what fits and logs the rest, so that a checkpoint of another network gives an
    AP of nearly 0 and no error. Testing and resuming need every tensor; for ``load_from``, the
    start of a fine-tuning, a share of ``min_share`` is enough, in which the parts of a head
    that depend on the number of classes do not count. Checkpoints that it is there to save hold
    the model's image normalization; loading one under another is a warning.

    Args:
        min_share: The share of the model's tensors, in [0, 1], that ``load_from`` needs.
    """

    priority = 'HIGH'  # before the EMA hook, which loads the weights itself

    def __init__(self, min_share: float = 0.95) -> None:
        self.min_share = min_share

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write down what the weights were trained with, in ``meta['input']``."""
        preprocessor = getattr(_unwrapped(runner.model), 'data_preprocessor', None)
        if preprocessor is not None:
            checkpoint['meta']['input'] = read_img_norm(preprocessor)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare, when the file is read and before its weights go into the model.

        mmengine then loads the model's own state dict with everything in it that fits, and has
        nothing to report itself.

        Raises:
            InputError: The checkpoint does not fit.
        """
        found = Checkpoint(_checkpoint_name(runner), checkpoint)
        report, state_dict = fit_weights(get_state_dict(runner.model), found.weights, found.source)
        if _needs_all(runner):
            if not report.complete:
                raise report.refuse()
        elif report.share < self.min_share:
            raise InputError(
                f'{report.refuse()}. load_from needs {self.min_share:.0%} of the tensors; to '
                f'train all the same, set min_share (now {self.min_share:g}) of '
                'CheckpointGuardHook in custom_hooks lower'
            )
        if runner._resume:
            for key in ('epoch', 'iter'):
                if not isinstance(found.meta.get(key), int):
                    raise InputError(f'{found.source}: meta has no {key!r}: nothing to resume')
        report.log()
        warn_of_other_img_norm(_unwrapped(runner.model), found.meta.get('input'), found.source)
        checkpoint['state_dict'] = state_dict
        if 'ema_state_dict' in checkpoint:  # the EMA hook swaps the two by their keys
            checkpoint['ema_state_dict'] = {
                k: v
                for k, v in checkpoint['ema_state_dict'].items()
                if k == 'steps' or k.removeprefix('module.') in state_dict
            }


def _unwrapped(model: Any) -> nn.Module:
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _needs_all(runner: Runner) -> bool:
    """Whether the weights are loaded to be tested or resumed, not to be trained further.

    ``Runner.train``, ``val`` and ``test`` each build their loop before they load. A call of
    ``load_checkpoint`` before any of them may be the start of a fine-tuning.
    """
    if runner._resume:
        return True
    evaluates = any(isinstance(loop, BaseLoop) for loop in (runner._val_loop, runner._test_loop))
    return evaluates and not isinstance(runner._train_loop, BaseLoop)


def _checkpoint_name(runner: Runner) -> str:
    latest = find_latest_checkpoint(runner.work_dir) if runner._resume else None
    return str(runner._load_from or latest or 'The checkpoint')
