"""Keep a training step from being made with numbers that are not finite."""

import enum
import functools
import math
from collections.abc import Callable, MutableMapping
from typing import Any

import torch
from mmengine.optim import ApexOptimWrapper, OptimWrapper, OptimWrapperDict
from torch import nn

from ...errors import InputError
from ..resume_state import random_states, set_random_states


class Outcome(enum.Enum):
    """What became of an iteration's step."""

    NONE = 'none yet: gradients are accumulated'
    MADE = 'made'
    SCALED_DOWN = 'left out by the gradient scaler, which lowers its scale then'
    REFUSED = 'left out here'


class _NotFiniteError(Exception):
    """Leaves the optimiser wrapper's step before the optimiser's own."""


class StepGuard:
    """Stand between an optimiser wrapper and its optimiser.

    A loss that is not finite is made to give gradients that are not finite, whatever it depends on,
    so that the gradients' norm alone decides. It is the same number in all processes, which DDP has
    given the same gradients: they decide alike without asking each other. Where the wrapper clips
    by the norm, mmengine computes and reads that number anyway; elsewhere it is computed here. The
    losses are read by the same transfer and handed on as they were read, so that mmengine's hook,
    which reads each of them in each iteration, finds them on the CPU: the device is waited for once
    an iteration, before the step in place of after it.

    Under float16 mixed precision, torch's gradient scaler looks at the gradients and leaves out the
    steps itself; here it is only seen that it did.

    Args:
        wrapper: mmengine's ``OptimWrapper`` or ``AmpOptimWrapper``, or a child of theirs.
        model: What it trains, out of any wrapper for several processes.

    Attributes:
        outcome: Of the current iteration.
        norm: The gradients' norm in the current iteration, None where a scaler looked at them.
        losses: The current iteration's, as ``parse_losses`` names them; None without such a method.
        batch: What the data preprocessor gave to the model; None without a data preprocessor.
        random_states: From before the model ran, after its data preprocessor.
        refuse: Set to have the current iteration's gradients spoiled, as by a loss that is not
            finite, in this process and so in all.
        scaler: torch's gradient scaler, None where there is none or it is turned off.

    Raises:
        InputError: The wrapper is of another kind.
    """

    def __init__(self, wrapper: OptimWrapper, model: nn.Module) -> None:
        others = (OptimWrapperDict, ApexOptimWrapper)
        if not isinstance(wrapper, OptimWrapper) or isinstance(wrapper, others):
            raise InputError(
                'StopOnNonFiniteHook works with OptimWrapper and AmpOptimWrapper, not with '
                f'{type(wrapper).__name__}: take it out of custom_hooks'
            )
        self.wrapper, self.model = wrapper, model
        scaler = getattr(wrapper, 'loss_scaler', None)
        self.scaler: torch.amp.GradScaler | None = None
        if scaler is not None and scaler.is_enabled():
            self.scaler = scaler
        self._clips_norm = bool(wrapper.clip_grad_kwargs) and wrapper.grad_name == 'grad_norm'
        self._undo: list[Callable[[], object]] = []
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._found_inf: torch.Tensor | None = None
        self.begin()

    def install(self) -> None:
        """Take over, until :meth:`remove`."""
        self._replace(self.wrapper, 'update_params', self._update_params)
        self._replace(self.wrapper, 'step', self._step)
        if self._clips_norm and self.scaler is None:
            self._replace(self.wrapper, 'clip_func', self._clip)
        if hasattr(self.model, 'parse_losses'):
            self._replace(self.model, 'parse_losses', self._parse_losses)
        handles = [self.wrapper.optimizer.register_step_pre_hook(self._before_step)]
        preprocessor = getattr(self.model, 'data_preprocessor', None)
        if isinstance(preprocessor, nn.Module):
            handles.append(preprocessor.register_forward_hook(self._keep_batch))
        self._undo += [handle.remove for handle in handles]

    def _replace(self, owner: object, name: str, method: Callable) -> None:
        """Put ``method``, which takes the original first, before an object's own one."""
        original, own = getattr(owner, name), vars(owner)
        before = own.get(name)

        def put_back() -> None:
            if before is None:
                delattr(owner, name)
            else:
                setattr(owner, name, before)

        @functools.wraps(original)  # also the mark by which mmengine's schedulers know their own
        def replacement(*args: Any, **kwargs: Any) -> Any:
            return method(original, *args, **kwargs)

        setattr(owner, name, replacement)
        self._undo.append(put_back)

    def remove(self) -> None:
        """Give everything back; a second call does nothing."""
        while self._undo:
            self._undo.pop()()

    def begin(self) -> None:
        """Begin an iteration: keep what its forward pass changes besides the gradients."""
        self.outcome = Outcome.NONE
        self.refuse = False
        self.norm: float | None = None
        self.losses: MutableMapping[str, Any] | None = None
        self.batch: Any = None
        self.random_states = self._states_before = random_states(self.model)
        buffers = list(self.model.buffers())
        if [id(b) for b in buffers] != [id(b) for b, _ in self._buffers]:
            self._buffers = [(b, torch.empty_like(b)) for b in buffers]
        _copy(self._buffers, (1, 0))

    def end(self) -> None:
        """Let go of the batch, which would lie on the device during the next forward pass."""
        self.batch = None

    def restore(self) -> None:
        """Undo what the iteration's forward pass changed: running statistics, random states."""
        _copy(self._buffers, (0, 1))
        set_random_states(self._states_before)

    def scaler_left_out_step(self) -> bool:
        """Return whether the gradient scaler found gradients that are not finite."""
        if self._found_inf is not None:  # a fused optimiser asks the scaler itself, on the device
            return bool(self._found_inf)
        return self.outcome is Outcome.SCALED_DOWN

    def _keep_batch(self, preprocessor: nn.Module, args: tuple[Any, ...], batch: Any) -> None:
        if preprocessor.training:
            self.batch = batch
            self.random_states = random_states(self.model)

    def _parse_losses(
        self, original: Callable, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, MutableMapping[str, Any]]:
        loss, losses = original(*args, **kwargs)
        self.losses = losses
        return loss, losses

    def _update_params(
        self, original: Callable, loss: torch.Tensor, *args: Any, **kwargs: Any
    ) -> None:
        # A factor of 1, NaN where the loss is not finite. A loss that reaches no parameter by a
        # number that is not finite (an infinite constant) would have finite gradients.
        factor = math.nan if self.refuse else 1 + 0 * loss.detach()
        original(loss * factor, *args, **kwargs)
        if self.outcome is Outcome.NONE:
            self._read(self._gradient_norm())

    def _step(self, original: Callable, **kwargs: Any) -> None:
        self._found_inf = None
        if self.scaler is not None:
            self.outcome = Outcome.SCALED_DOWN
            original(**kwargs)
            return
        try:
            if not self._clips_norm:
                self._check(self._gradient_norm())
            original(**kwargs)
            self.outcome = Outcome.MADE
        except _NotFiniteError:
            self.outcome = Outcome.REFUSED

    def _clip(self, original: Callable, *args: Any, **kwargs: Any) -> float:
        return self._check(original(*args, **{**kwargs, 'error_if_nonfinite': False}))

    def _before_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        if self.scaler is not None:
            self.outcome = Outcome.MADE
            self._found_inf = getattr(optimizer, 'found_inf', None)
        elif self.norm is None:  # a wrapper that clips in a way of its own
            self._check(self._gradient_norm())

    def _check(self, norm: torch.Tensor) -> float:
        value = self._read(norm)
        if not math.isfinite(value):
            raise _NotFiniteError
        return value

    def _read(self, norm: torch.Tensor) -> float:
        """Read the norm and, by the same transfer, the losses, which stay tensors."""
        losses = {} if self.losses is None else self.losses
        found = {
            name: value.detach()
            for name, value in losses.items()
            if isinstance(value, torch.Tensor) and value.numel() == 1
        }
        exact = torch.float32 if norm.device.type == 'mps' else torch.float64
        values = [value.reshape(()).to(norm.device, exact) for value in (norm, *found.values())]
        norm, *values = torch.stack(values).cpu().unbind()
        self.norm = float(norm)
        for name, value in zip(found, values, strict=True):
            losses[name] = value
        return self.norm

    @torch.no_grad()
    def _gradient_norm(self) -> torch.Tensor:
        """Return a number that is finite where all gradients are, ``()``."""
        groups = self.wrapper.optimizer.param_groups
        grads = [p.grad for group in groups for p in group['params'] if p.grad is not None]
        # The norm of half-precision values is one itself, and overflows early.
        grads = [g.float() if g.dtype == torch.float16 else g for g in grads]
        grads = [g.coalesce().values() if g.is_sparse else g for g in grads]
        if not grads:
            return torch.zeros(())
        norms = torch._foreach_norm(grads)
        return torch.stack([n.to(norms[0].device, torch.float32) for n in norms]).sum()


def _copy(pairs: list[tuple[torch.Tensor, torch.Tensor]], order: tuple[int, int]) -> None:
    target, source = ([pair[i] for pair in pairs] for i in order)
    if pairs:
        with torch.no_grad():
            torch._foreach_copy_(target, source)
