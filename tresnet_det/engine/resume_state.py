"""What a training's future depends on besides what mmengine saves, as plain values."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.utils import apply_to
from torch import nn


def random_states(model: nn.Module) -> dict[str, Any]:
    """Return the states of all that the model may draw random numbers from, as plain values.

    Args:
        model: On the device whose generator counts beside the CPU's.
    """
    numpy = np.random.get_state(legacy=False)
    keys = torch.from_numpy(numpy['state']['key'].astype(np.int64))
    rest = (numpy['state']['pos'], numpy['has_gauss'], numpy['gauss'])
    states = {
        'python': random.getstate(),
        'numpy': (numpy['bit_generator'], keys, *rest),
        'torch': torch.get_rng_state(),
    }
    device = next((p.device for p in model.parameters()), torch.device('cpu'))
    if device.type == 'cuda':  # on the host: nothing waits for the device
        states['cuda'] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Go back to states of :func:`random_states`; the device's where there is one here."""
    version, keys, gauss = states['python']
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'])
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'])


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
            f'{get_world_size()} processes resume a training of {len(state["random_states"])}: the '
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
                f'{hook.patience}) of EarlyStoppingHook to continue'
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
