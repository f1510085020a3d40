"""What is said of a step that was not finite."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...compat.own_files import tool_command
from ...errors import shell_path
from .replay import Findings

_MOST_FILES = 8  # of a batch, or a list, that a message names


@dataclass
class Report:
    """What one process knows of it.

    Attributes:
        process: Its number.
        iteration: Counted from 1.
        losses: By name, the sum as ``loss`` first.
        files: Of its batch.
        in_batch: As :func:`tresnet_det.engine.non_finite.plain_batch.find_non_finite` gives them.
        findings: Of running the batch again.
    """

    process: int
    iteration: int
    losses: dict[str, float]
    files: list[str]
    in_batch: list[tuple[int | None, str]]
    findings: Findings

    @property
    def loss_is_finite(self) -> bool:
        """Whether the loss and all its parts are."""
        return all_finite(self.losses)

    @property
    def is_bad(self) -> bool:
        """Whether this process's own batch was not finite, or gave what was not."""
        return bool(self.in_batch) or not (self.loss_is_finite and self.findings.finite)


def read_losses(outputs: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the losses among what a model's ``train_step`` gives."""
    losses = {}
    for name, value in (outputs or {}).items():
        if 'loss' in name and (not isinstance(value, torch.Tensor) or value.numel() == 1):
            losses[name] = float(value.detach() if isinstance(value, torch.Tensor) else value)
    return losses


def all_finite(losses: Mapping[str, float]) -> bool:
    """Return whether all losses are."""
    return all(map(math.isfinite, losses.values()))


def choose(reports: Sequence[Report]) -> list[Report]:
    """Return the processes whose batch it was, or all where it cannot be told.

    Where norms share their statistics, one batch makes the losses of all processes NaN: then a
    number in the batch itself says more.
    """
    reports = list(reports)
    return (
        [report for report in reports if report.in_batch]
        or [report for report in reports if report.is_bad]
        or reports
    )


def describe(
    reports: Sequence[Report], kept: Sequence[str], of_several: bool, scale: float | None
) -> str:
    """Return one line: what was not finite, when, on which files, where first, what to do.

    Args:
        reports: Of the chosen processes.
        kept: The files that were written for a replay.
        of_several: Whether there are other processes.
        scale: The gradient scaler's, where it could not help.
    """
    first = reports[0]
    files = '; '.join(
        _list(report.files or ['(the batch does not name its files)'])
        + (f' (of process {report.process})' if of_several else '')
        for report in reports
    )
    parts = [f'{_what(first)} on the files {files}']
    if scale is not None and first.loss_is_finite and not first.in_batch:
        parts.append(f'a loss scale of {scale:g} does not help')
    in_batch = [_place(report, *place) for report in reports for place in report.in_batch]
    if in_batch:
        parts.append(f'not finite before the model saw it: {_list(in_batch)}')
    else:
        found = next((r.findings for r in reports if not r.findings.finite), first.findings)
        if found.module:
            parts.append(f'the first output that is not finite is that of {found.module}')
        if found.parameter:
            parts.append(f'the first gradient that is not finite is that of {found.parameter}')
    parts.append('the step was not made')
    if kept:
        parts.append(f'{tool_command("replay")} {shell_path(kept[0])} runs it again')
    return f'{"; ".join(parts)}. {_advice(bool(in_batch))}'


def _what(report: Report) -> str:
    loss = report.losses.get('loss', math.nan)
    if report.loss_is_finite and report.in_batch and report.findings.finite:
        return f'The batch is not finite at iteration {report.iteration} (loss = {loss:g})'
    if report.loss_is_finite:
        return f'The gradient is not finite at iteration {report.iteration} (loss = {loss:g})'
    bad = [
        f'{name} = {value:g}'
        for name, value in report.losses.items()
        if name != 'loss' and not math.isfinite(value)
    ]
    reason = ', '.join(bad) or 'all its parts are finite, their sum is not'
    return f'The loss is {loss:g} at iteration {report.iteration} ({reason})'


def _place(report: Report, number: int | None, name: str) -> str:
    if number is None:
        return name
    known = number < len(report.files)
    return f'{name} of {report.files[number] if known else f"image {number + 1}"}'


def _list(items: Sequence[str]) -> str:
    more = f' and {len(items) - _MOST_FILES} more' if len(items) > _MOST_FILES else ''
    return ', '.join(items[:_MOST_FILES]) + more


def _advice(in_batch: bool) -> str:
    if in_batch:
        return 'Mend this image, its annotations or the pipeline that made the number.'
    return (
        'Lower the learning rate, clip gradients (optim_wrapper.clip_grad), use bf16 in place of '
        'fp16, or check the annotations of these files.'
    )
