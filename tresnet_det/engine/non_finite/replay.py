"""Run the batch of a step again, and find where its numbers stop being finite."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.device import get_device
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from ...compat.checkpoint_io import load_checkpoint_file
from ...errors import InputError
from ...files import write_whole
from .. import config as edit
from ..building import config_errors
from ..resume_state import random_states, set_random_states
from .plain_batch import find_files, find_non_finite, from_plain

_KEYS = ('iteration', 'files', 'losses', 'batch', 'state_dict', 'random_states', 'autocast')


@dataclass
class Findings:
    """Where a forward and a backward pass were not finite.

    Attributes:
        losses: By name; ``loss`` is their sum.
        module: The first module, in the order of computing, whose output was not finite: its name
            and its class; None where there is none.
        module_input: Whether that module's own input was not finite either.
        parameter: The first parameter, in the order of the backward pass, whose gradient was not
            finite; None where there is none.
        error: What kept the passes from being made.
    """

    losses: dict[str, float] = field(default_factory=dict)
    module: str | None = None
    module_input: bool = False
    parameter: str | None = None
    error: str | None = None

    @property
    def finite(self) -> bool:
        """Whether losses and gradients all were."""
        return self.parameter is None and math.isfinite(self.losses.get('loss', 0.0))

    def verdict(self) -> str:
        """Return it in a few words."""
        if self.error:
            return f'cannot be run: {self.error}'
        loss = self.losses.get('loss', math.nan)
        if math.isfinite(loss) and self.parameter:
            return f'loss {loss:g}, a gradient that is not finite'
        return f'loss {loss:g}'

    def lines(self) -> list[str]:
        """Return what was found, to be read by people."""
        module = self.module or 'none'
        if self.module_input:
            module += ', whose input is not finite either'
        return [
            *(f'{name} = {value:g}' for name, value in self.losses.items()),
            f'first module with an output that is not finite: {module}',
            f'first parameter with a gradient that is not finite: {self.parameter or "none"}',
        ]


def run_again(
    model: BaseModel,
    batch: Any,
    states: dict[str, Any],
    context: Callable[[], AbstractContextManager] = nullcontext,
    loss_scale: float = 1.0,
) -> Findings:
    """Compute losses and gradients of a batch once more; the model stays as it was.

    Its gradients are None afterwards. What is compiled runs uncompiled, where hooks see modules.

    Args:
        model: Out of any wrapper for several processes.
        batch: As its data preprocessor gives it.
        states: Of the random numbers, before; see `random_states`.
        context: Of the forward pass, such as autocast.
        loss_scale: Of a gradient scaler.
    """
    findings = Findings()
    before = random_states(model)
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    set_random_states(states)
    model.zero_grad(set_to_none=True)
    try:
        with _watch(model, findings), _uncompiled(), torch.enable_grad():
            with context():
                named = isinstance(batch, dict)
                losses = model(**batch, mode='loss') if named else model(*batch, mode='loss')
            loss, log_vars = model.parse_losses(losses)
            findings.losses = {
                k: float(v.detach()) for k, v in log_vars.items() if isinstance(v, torch.Tensor)
            }
            if loss.requires_grad:
                (loss * loss_scale).backward()
    finally:
        model.zero_grad(set_to_none=True)
        set_random_states(before)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
    return findings


def _uncompiled() -> AbstractContextManager:
    set_stance = getattr(torch.compiler, 'set_stance', None)  # torch 2.6
    return nullcontext() if set_stance is None else set_stance('force_eager')


@contextmanager
def _watch(model: nn.Module, findings: Findings) -> Iterator[None]:
    """Fill in the first module and the first parameter."""
    names = {module: name for name, module in model.named_modules()}

    def see_output(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if findings.module is None and not _is_finite(output):
            name = names[module] or 'the model itself'
            findings.module = f'{name} ({type(module).__name__})'
            findings.module_input = not (_is_finite(args) and _is_finite(kwargs))

    def see_gradient(name: str) -> Callable[[torch.Tensor], None]:
        def see(gradient: torch.Tensor) -> None:
            if findings.parameter is None and not _is_finite(gradient):
                findings.parameter = name

        return see

    handles = [module.register_forward_hook(see_output, with_kwargs=True) for module in names]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            handles.append(parameter.register_hook(see_gradient(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(value.detach().isfinite().all())
    if isinstance(value, dict):
        value = list(value.values())
    return all(map(_is_finite, value)) if isinstance(value, (list, tuple)) else True


def save_step(content: dict[str, Any], path: Path) -> None:
    """Write a step's file, whole or not at all.

    Args:
        content: Plain values and tensors; see :func:`replay` for the keys.
        path: The file; its folder is made.

    Raises:
        OSError: It cannot be written.
    """
    file = io.BytesIO()
    torch.save(content, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, file.getvalue())


@dataclass
class Replay:
    """A step that was run again.

    Attributes:
        step: What the file holds.
        whole: What the whole batch gave.
        alone: For each image its file and what it gave alone; empty for other forms of batches.
    """

    step: dict[str, Any]
    whole: Findings
    alone: list[tuple[str, Findings]]

    def lines(self) -> list[str]:
        """Return all of it, to be read by people."""
        losses = ', '.join(f'{name} = {value:g}' for name, value in self.step['losses'].items())
        lines = [f'iteration {self.step["iteration"]}, as it was kept: {losses}']
        places = find_non_finite(self.step['batch'])
        files = self.step['files']
        for number, name in places:
            of = '' if number is None else f' of {dict(enumerate(files)).get(number, number + 1)}'
            lines.append(f'not finite before the model saw it: {name}{of}')
        lines += ['run again:', *(f'  {line}' for line in self.whole.lines())]
        if self.whole.finite and not places:
            lines.append('  all of it is finite this time: another device, or chance')
        if self.alone:
            lines.append('each image alone, its norms by their running statistics:')
        lines += [f'  {name}: {findings.verdict()}' for name, findings in self.alone]
        return lines


def replay(path: str | Path, config: str | Path | None = None) -> Replay:
    """Run a step that ``StopOnNonFiniteHook`` kept once more, and each of its images alone.

    Images alone are normalised by the running statistics: a batch of one has none of its own. A
    batch is not split where it is no ``inputs`` in one tensor with a data sample for each.

    Args:
        path: ``WORK_DIR/non_finite/iter_N.pth``; nothing in it is executed.
        config: The training's; None for the one that the work directory holds.

    Raises:
        InputError: The file is no such file, or does not fit the config (a ``ValueError``).
    """
    path = Path(path)
    step = load_checkpoint_file(path)
    missing = [key for key in _KEYS if key not in step]
    if missing:
        raise InputError(f'{path} is no file of StopOnNonFiniteHook: it has no {missing[0]!r}')
    batch = from_plain(step['batch'])
    if batch is None:
        raise InputError(f'{path} holds no batch: the model has no data preprocessor')
    device = get_device()
    model = _build_model(config or _find_config(path), step['state_dict'], path).to(device)
    batch = model.data_preprocessor.cast_data(batch)
    context: Callable[[], AbstractContextManager] = nullcontext
    if step['autocast']:
        context = partial(torch.autocast, device, getattr(torch, step['autocast']))
    arguments = (step['random_states'], context, step.get('loss_scale', 1.0))
    whole = run_again(model, batch, *arguments)
    for module in model.modules():
        if getattr(module, 'running_mean', None) is not None:
            module.eval()
    alone = []
    for name, part in _images(batch):
        try:
            alone.append((name, run_again(model, part, *arguments)))
        except (RuntimeError, ValueError) as error:  # a norm over one value
            alone.append((name, Findings(error=str(error))))
    return Replay(step, whole, alone)


def _find_config(path: Path) -> Path:
    work_dir = path.resolve().parents[1]
    found = sorted(work_dir.glob('*.py'))
    if len(found) != 1:
        raise InputError(
            f'{work_dir} holds {len(found)} configs: name the one of the training (--config FILE)'
        )
    return found[0]


def _build_model(config: str | Path, weights: dict[str, torch.Tensor], path: Path) -> BaseModel:
    cfg = edit.load_config(config)
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    edit.drop_pretrained(cfg)  # the file has all weights
    with config_errors():
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if '\n' in str(error) else str(error)
        raise InputError(f'{path} does not fit the model of {config}: {reason[:200]}') from error
    return model.train()


def _images(batch: Any) -> Sequence[tuple[str, Any]]:
    """Return the batch's images as batches of one, by file."""
    if not isinstance(batch, dict) or set(batch) != {'inputs', 'data_samples'}:
        return []
    inputs, samples = batch['inputs'], batch['data_samples']
    if not isinstance(inputs, torch.Tensor) or not isinstance(samples, (list, tuple)):
        return []
    if len(inputs) != len(samples):
        return []
    names = [(find_files(sample) or [f'image {i + 1}'])[0] for i, sample in enumerate(samples)]
    parts = [dict(inputs=inputs[i : i + 1], data_samples=[s]) for i, s in enumerate(samples)]
    return list(zip(names, parts, strict=True))
