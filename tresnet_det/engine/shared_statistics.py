"""Norm statistics that all processes have measured, in what is validated and saved."""

from mmdet.registry import HOOKS
from mmengine.dist import all_reduce_params, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import nn

STATISTICS = ('running_mean', 'running_var')


@HOOKS.register_module()
class ShareStatisticsHook(Hook):
    """Give each process the mean of all processes' running statistics.

    A norm that does not share its statistics at each step has measured its own process's images
    only. Without this hook the processes validate with different models, of which the first one's
    is saved: a test of the checkpoint then gives another metric than the validation did.

    It works at the end of each epoch and before a validation; checkpoints that an iteration-based
    training saves without one are the first process's. MMEngine's ``SyncBuffersHook`` does this to
    the model, and not to the average of :class:`~mmengine.hooks.EMAHook`, which is what is
    validated and saved.
    """

    def __init__(self) -> None:
        self._shared_at = -1

    def after_train_epoch(self, runner: Runner) -> None:
        """Share them, before the checkpoint is saved."""
        self._share(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        """Share them, unless the epoch's end has: what is validated is what was saved."""
        self._share(runner)

    def _share(self, runner: Runner) -> None:
        if get_world_size() == 1 or runner.iter == self._shared_at:
            return
        self._shared_at = runner.iter
        averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        shared = [buffer for model in (runner.model, *averages) for buffer in _statistics(model)]
        if shared:
            all_reduce_params(shared, op='mean')


def _statistics(model: nn.Module) -> list:
    return [buffer for name, buffer in model.named_buffers() if name.endswith(STATISTICS)]
