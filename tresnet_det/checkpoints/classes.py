"""A start from a model of other classes: the outputs of each class, matched by its name.

Where the rows of a class lie in a tensor is no part of a checkpoint. It is found by comparing the
model with the same one of one class more: what grows are the class outputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import few
from .formats import StateDict
from .load import LoadReport


@dataclass(frozen=True)
class ClassOutputs:
    """The rows of the classes in dimension 0 of a tensor.

    Attributes:
        each: Rows of each class: 1, the number of anchors, or 4 sides of a box for each class.
        more: Classes that are none of the data's, after these: 1 where there is a background.
        together: Whether the rows of a class follow each other, as in ``fc_reg`` of a box head;
            otherwise all classes of one anchor do.
    """

    each: int
    more: int
    together: bool

    def rows(self, numbers: Sequence[int], num_classes: int) -> torch.Tensor:
        """Return the rows of classes, one class after another."""
        of, each = torch.tensor(numbers, dtype=torch.long)[:, None], torch.arange(self.each)
        if self.together:
            return (of * self.each + each).flatten()
        return (each * (num_classes + self.more) + of).flatten()


def find_class_outputs(
    own: StateDict, wider: StateDict, num_classes: int
) -> dict[str, ClassOutputs]:
    """Return the tensors that depend on the classes.

    Args:
        own: The model's state dict.
        wider: That of the same model with one class more.
        num_classes: The model's own.
    """
    found = {}
    for key, value in own.items():
        each = wider[key].shape[0] - value.shape[0] if value.dim() else 0
        if each > 0:
            more = value.shape[0] // each - num_classes
            found[key] = ClassOutputs(each, more, together='fc_reg' in key)
    return found


def match_classes(
    own: StateDict,
    weights: StateDict,
    outputs: dict[str, ClassOutputs],
    classes: Sequence[str],
    theirs: Sequence[str],
) -> dict[str, torch.Tensor]:
    """Return a checkpoint's weights with the class outputs of the model.

    Args:
        own: The model's, as it is initialized.
        weights: The checkpoint's.
        outputs: As :func:`find_class_outputs` returns them.
        classes: The model's, in order.
        theirs: The checkpoint's.

    Returns:
        The checkpoint's weights; of the class outputs, its rows for the classes that both name (and
        the background), and the model's own for the others.
    """
    pairs = [(i, theirs.index(name)) for i, name in enumerate(classes) if name in theirs]
    matched = dict(weights)
    for key, output in outputs.items():
        given, value = weights.get(key), own[key].clone()
        expected = (output.each * (len(theirs) + output.more), *value.shape[1:])
        if given is None or tuple(given.shape) != expected:
            continue
        rest = [(len(classes) + i, len(theirs) + i) for i in range(output.more)]
        mine, others = zip(*pairs, *rest, strict=True) if pairs or rest else ((), ())
        rows = output.rows(others, len(theirs))
        value[output.rows(mine, len(classes))] = given[rows].to(value)
        matched[key] = value
    return matched


def describe_start(
    report: LoadReport, classes: Sequence[str] | None, theirs: Sequence[str] | None
) -> str:
    """Return the table of what a training begins with: copied, re-initialized, skipped.

    Args:
        report: Of the weights, after :func:`match_classes`.
        classes: The model's, None where it is not known, or nothing was matched.
        theirs: The checkpoint's.
    """
    mine, others = classes or (), theirs or ()
    lost = (*report.missing, *report.mismatched)
    table = {
        'copied': (report.loaded, [name for name in mine if name in others]),
        're-initialized': (lost, [name for name in mine if name not in others]),
        'skipped': (report.unexpected, [name for name in others if name not in mine]),
    }
    lines = [f'start from {report.source}:']
    for what, (keys, names) in table.items():
        tensors = f'{len(keys)} tensors' + f' ({few(keys, 3)})' * (what != 'copied' and bool(keys))
        of_classes = f'; {len(names)} classes: {few(names, 10)}' if names else ''
        lines.append(f'  {what:<14} {tensors}{of_classes}')
    return '\n'.join(lines)
