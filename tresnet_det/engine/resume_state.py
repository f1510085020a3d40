"""What a training's future depends on besides what mmengine saves, as plain values."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.utils import apply_to

from .random_states import random_states, set_random_states


def collect_random_states(runner: Runner) -> list[dict[str, Any]]:
    """Return the random states of all processes, by their rank; all of them must call this."""
    return all_gather_object(random_states(runner.model))


def collect(runner: Runner) -> dict[str, Any]:
    """Return what the early stopping has seen, and gradients that are still being accumulated.

    Those are of one process only: of several, each has its own.
    """
    stopping = [
        dict(monitor=hook.monitor, wait_count=hook.wait_count, best_score=hook.best_score)
        for hook in runner.hooks
        if isinstance(hook, EarlyStoppingHook)
    ]
    gradients = {}
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapper) and get_world_size() == 1 and not wrapper.should_update():
        named = runner.model.named_parameters()
        gradients = {name: p.grad.cpu() for name, p in named if p.grad is not None}
    return dict(early_stopping=stopping, gradients=gradients)


def restore(runner: Runner, state: Mapping[str, Any]) -> None:
    """Put back what :func:`collect` and :func:`collect_random_states` found.

    Args:
        runner: Before its first iteration.
        state: Both, the random states as ``random_states``.
    """
    state = apply_to(state, lambda x: isinstance(x, torch.Tensor), lambda x: x.cpu())
    for name, parameter in runner.model.named_parameters():
        if name in state['gradients']:
            parameter.grad = state['gradients'][name].to(parameter.device)
    for hook in runner.hooks:
        if isinstance(hook, EarlyStoppingHook):
            _restore_stopping(runner, hook, state['early_stopping'])
    if len(state['random_states']) == get_world_size():
        set_random_states(state['random_states'][get_rank()])
    else:
        runner.logger.warning(
            f'{get_world_size()} processes go on from {len(state["random_states"])}: the '
            'training is as good, but not the one that it would have been'
        )


def _restore_stopping(runner: Runner, hook: EarlyStoppingHook, saved: list[dict]) -> None:
    for entry in saved:
        if entry['monitor'] != hook.monitor:
            continue
        hook.wait_count, hook.best_score = entry['wait_count'], entry['best_score']
        reached = hook.stopping_threshold is not None and hook.rule_map[hook.rule](
            hook.best_score, hook.stopping_threshold
        )
        if reached or hook.wait_count >= hook.patience:
            runner.train_loop.stop_training = True
            runner.logger.info(
                f'the training was stopped early, by {hook.monitor}: raise patience (now '
                f'{hook.patience}) of EarlyStoppingHook to go on'
            )


def is_validation_due(runner: Runner) -> bool:
    """Whether the training stands where its loop, if it is one of mmengine's, validates."""
    loop = runner.train_loop
    if not isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop):
        return False
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, end = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
    loop._decide_current_val_interval()
    return bool(
        runner.val_loop is not None
        and done
        and done >= loop.val_begin
        and (done % loop.val_interval == 0 or done == end)
    )
