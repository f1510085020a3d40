"""SGD with decoupled weight decay, the "true weight decay" of TResNet's recipe."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmengine.registry import OPTIMIZERS

from ..values import check_value


@OPTIMIZERS.register_module()
class SGDW(torch.optim.SGD):
    """SGD that shrinks the weights by ``lr * weight_decay`` a step, apart from the momentum.

    As AdamW is to Adam (Loshchilov and Hutter, ICLR 2019, algorithm 1 with the learning rate as
    the schedule's multiplier). torch's SGD adds the decay to the gradient, where a momentum of 0.9
    makes ten times as much of it: a ``weight_decay`` of 1e-4 there is 1e-3 here.

    Args:
        params: Parameters or groups of them, as torch takes them.
        lr: Learning rate.
        weight_decay: From 0 to 10.
        **kwargs: torch's ``momentum``, ``dampening``, ``nesterov``, ``maximize``, ``foreach``.

    Raises:
        InputError: ``weight_decay`` is out of its range (a ``ValueError``).
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_value('optim_wrapper.optimizer.weight_decay', weight_decay)
        # Groups keep their decay under the usual name, where config and logs look for it.
        super().__init__(params, lr=lr, weight_decay=weight_decay, **kwargs)

    @torch.no_grad()
    def step(  # type: ignore[override]  # torch declares it twice, with and without a closure
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Shrink the weights that have a gradient, then step as SGD without decay does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        decays = [group['weight_decay'] for group in self.param_groups]
        try:
            for group in self.param_groups:
                weights = [p for p in group['params'] if p.grad is not None]
                if weights and group['weight_decay']:
                    torch._foreach_mul_(weights, 1 - group['lr'] * group['weight_decay'])
                group['weight_decay'] = 0.0
            super().step()
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group['weight_decay'] = decay
        return loss
