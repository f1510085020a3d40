"""One cycle over the whole training: up in a line, down in a cosine, for learning rate or momentum.

MMEngine writes it as two schedulers whose ``begin``, ``end`` and ``T_max`` repeat the number of
epochs. These take the warm-up as a share of the training and the length from the runner, so that a
config states the number of epochs once, and ``train_cfg.max_epochs`` alone changes it.
"""

from typing import Any

from mmengine.optim.scheduler import (
    CosineAnnealingLR,
    CosineAnnealingMomentum,
    LinearLR,
    LinearMomentum,
)
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS

from ..errors import InputError
from ..values import check_value


class _WarmupCosine(_ParamScheduler):  # a resumed run takes nothing else that is built already
    """MMEngine's two schedulers, stepped one after the other.

    Args:
        optimizer: The optimizer or its wrapper.
        end: Steps of the training. The runner fills it in, for a config with ``by_epoch=False``.
        warmup: Share of the cycle that rises, in [0, 1).
        length: Length of the cycle relative to the training; at 2 the training ends half-way.
        by_epoch: False: the value changes with each step.
        linear: Arguments of the rise.
        cosine: Arguments of the fall.
    """

    rise: Any
    fall: Any
    by_epoch = False  # mmengine's hook asks for it

    def __init__(
        self,
        optimizer: Any,
        end: int,
        warmup: float,
        length: float = 1.0,
        by_epoch: bool = True,
        *,
        linear: dict[str, Any],
        cosine: dict[str, Any],
    ) -> None:
        if by_epoch:
            raise InputError(f'{type(self).__name__} changes with each step: write by_epoch=False')
        check_value('param_scheduler.warmup', warmup)
        check_value('param_scheduler.length', length)
        total = round(end * length)
        top = min(round(total * warmup), total - 1)
        self.parts = []
        if top > 1:  # LinearLR of one step would stay at its start
            self.parts = [self.rise(optimizer, end=top, by_epoch=False, **linear)]
        else:
            top = 0
        self.parts += [self.fall(optimizer, begin=top, end=total, by_epoch=False, **cosine)]

    def step(self) -> None:
        """Set the value of the next step."""
        for part in self.parts:
            part.step()

    def get_last_value(self) -> list[float]:
        """Return the value of each parameter group."""
        return self.parts[-1].get_last_value()

    def state_dict(self) -> dict[str, Any]:
        """Return where both parts are."""
        return dict(parts=[part.state_dict() for part in self.parts])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state of :meth:`state_dict`."""
        for part, state in zip(self.parts, state_dict['parts'], strict=True):
            part.load_state_dict(state)


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_WarmupCosine):
    """Learning rate from ``start_factor`` of the config's to all of it, then to ``eta_min_ratio``.

    Relative to the learning rate, which may be scaled to the batch size; OneCycleLR's peak is not.
    """

    rise, fall = LinearLR, CosineAnnealingLR

    def __init__(
        self, *args: Any, eta_min_ratio: float, start_factor: float = 0.04, **cycle: Any
    ) -> None:
        linear, cosine = dict(start_factor=start_factor), dict(eta_min_ratio=eta_min_ratio)
        super().__init__(*args, **cycle, linear=linear, cosine=cosine)


@PARAM_SCHEDULERS.register_module()
class WarmupCosineMomentum(_WarmupCosine):
    """Momentum, or Adam's beta1, from the optimizer's ``high`` to ``low`` and back."""

    rise, fall = LinearMomentum, CosineAnnealingMomentum

    def __init__(self, *args: Any, high: float, low: float, **cycle: Any) -> None:
        linear, cosine = dict(start_factor=1.0, end_factor=low / high), dict(eta_min=high)
        super().__init__(*args, **cycle, linear=linear, cosine=cosine)
