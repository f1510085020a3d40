"""Refuse a checkpoint that does not fit the model."""

from typing import Any

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint
from torch import nn

from ..errors import InputError
from ..input_convention import compare, read_convention
from .key_match import KeyMatch, match_keys


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Refuse a checkpoint that does not fit the model.

    mmengine loads what fits and logs the rest, so that a checkpoint of another network gives an
    AP of nearly 0 and no error. Testing and resuming need every tensor; for ``load_from``, the
    start of a fine-tuning, a share of ``min_share`` is enough, in which the parts of a head
    that depend on the number of classes do not count. Checkpoints that it is there to save hold
    the model's input convention; loading one under another is a warning.

    Args:
        min_share: The share of the model's tensors, in [0, 1], that ``load_from`` must bring.
    """

    priority = 'HIGH'  # before the EMA hook, which loads the weights itself

    def __init__(self, min_share: float = 0.95) -> None:
        self.min_share = min_share

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write down what the weights were trained on, in ``meta['input']``."""
        preprocessor = getattr(_unwrapped(runner.model), 'data_preprocessor', None)
        if preprocessor is not None:
            checkpoint['meta']['input'] = read_convention(preprocessor)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare, when the file is read and before its weights go into the model.

        Raises:
            InputError: The checkpoint does not fit.
        """
        self._compare_input(runner, checkpoint)
        match = match_keys(runner.model.state_dict(), checkpoint.get('state_dict', checkpoint))
        file = _checkpoint_name(runner)
        needs_all = _needs_all(runner)
        if match.complete if needs_all else match.share >= self.min_share:
            if not (match.complete and not match.unexpected):
                runner.logger.warning(f'{file}: {_count(match)}.')
            else:
                runner.logger.info(f'{file}: all {len(match.matched)} tensors fit.')
            return
        aim, go_on = 'test or resume needs every tensor', ''
        if not needs_all:
            aim = f'load_from needs {self.min_share:.0%} of the tensors'
            go_on = (
                f'; to train on all the same, set min_share (now {self.min_share:g}) of '
                'CheckpointGuardHook in custom_hooks lower'
            )
        raise InputError(
            f'{file} does not fit the model ({aim}): {_count(match)}; first: '
            f'{match.first_problem}; {_advice(match)}{go_on}.'
        )

    @staticmethod
    def _compare_input(runner: Runner, checkpoint: dict[str, Any]) -> None:
        trained_on = (checkpoint.get('meta') or {}).get('input')
        preprocessor = getattr(_unwrapped(runner.model), 'data_preprocessor', None)
        if trained_on is None or preprocessor is None:
            return
        name = f'the weights of {_checkpoint_name(runner)}'
        warning = compare(read_convention(preprocessor), trained_on, name)
        if warning:
            runner.logger.warning(warning)


def _unwrapped(model: Any) -> nn.Module:
    return model.module if is_model_wrapper(model) else model


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


def _count(match: KeyMatch) -> str:
    listed = {
        'missing': match.missing,
        'of another shape': list(match.reshaped),
        'not used': match.unexpected,
    }
    parts = [f'{len(match.matched)} tensors fit']
    for what, keys in listed.items():
        if keys:
            more = ', ...' if len(keys) > 3 else ''
            parts.append(f'{len(keys)} {what} ({", ".join(keys[:3])}{more})')
    return ', '.join(parts)


def _advice(match: KeyMatch) -> str:
    if not match.missing and len(match.class_count) == len(match.reshaped):
        return (
            'it was trained for another number of classes: give the config it was trained with, '
            'or use it as load_from to train on'
        )
    if not match.matched:
        return (
            'it holds another kind of model; weights of a backbone alone belong into '
            'model.backbone.init_cfg'
        )
    return 'it looks like a checkpoint of another arch: give the config it was trained with'
