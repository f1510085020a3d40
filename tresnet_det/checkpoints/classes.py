"""A start from a model of other classes: the outputs of each class, matched by its name.

Where the rows of a class lie in a tensor is no part of a checkpoint. It is found by comparing the
model with the same one of one class more: what grows are the class outputs.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import few
from .formats import StateDict
from .load import LoadReport

Names = tuple[Sequence[str], Sequence[str], Sequence[str]]  # copied, re-initialized, skipped


@dataclass(frozen=True)
class ClassOutputs:
    """The rows of the classes in dimension 0 of a tensor.

    Attributes:
        each: Rows of each class: 1, the number of anchors, or 4 sides of a box for each class.
        more: Classes that are none of the data's, after these: 1 where there is a background.
        together: Whether the rows of a class follow each other, as in ``fc_reg`` of a box head;
            otherwise, in what classifies, all classes of one anchor do.
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
) -> dict[str, ClassOutputs | None]:
    """Return the tensors that depend on the classes; None where the rows of a class are not known.

    Args:
        own: The model's state dict.
        wider: That of the same model with one class more.
        num_classes: The model's own.
    """
    found: dict[str, ClassOutputs | None] = {}
    for key, value in own.items():
        (size, *rest), (more_size, *more_rest) = (x.shape or (1,) for x in (value, wider[key]))
        if (size, rest) == (more_size, more_rest):
            continue
        each = more_size - size
        more = size // each - num_classes if each > 0 else -1
        # More than a background and another are the sides of boxes, among the classes.
        known = rest == more_rest and 0 <= more <= 2 and size == each * (num_classes + more)
        found[key] = ClassOutputs(each, more, together='cls' not in key) if known else None
    return found


def match_classes(
    own: StateDict,
    weights: StateDict,
    outputs: Mapping[str, ClassOutputs | None],
    classes: Sequence[str],
    theirs: Sequence[str],
) -> tuple[StateDict, list[str]]:
    """Return a checkpoint's weights with the class outputs of the model.

    Args:
        own: The model's, as it is initialized.
        weights: The checkpoint's.
        outputs: As :func:`find_class_outputs` returns them.
        classes: The model's, in order.
        theirs: The checkpoint's.

    Returns:
        The checkpoint's weights; of the class outputs, its rows for the classes that both name (and
        the background), and the model's own for the others; without those whose rows are not known.
        And the names of the classes that were copied.
    """
    pairs = [(i, theirs.index(name)) for i, name in enumerate(classes) if name in theirs]
    matched: Any = copy.copy(weights)  # with its _metadata
    copied = False
    for key, output in outputs.items():
        given, value = matched.pop(key, None), own[key].clone()
        if given is None or output is None:
            continue
        expected = (output.each * (len(theirs) + output.more), *value.shape[1:])
        if tuple(given.shape) != expected:
            continue
        rest = [(len(classes) + i, len(theirs) + i) for i in range(output.more)]
        mine, others = zip(*pairs, *rest, strict=True) if pairs or rest else ((), ())
        rows = output.rows(others, len(theirs))
        value[output.rows(mine, len(classes))] = given[rows].to(value)
        matched[key], copied = value, True
    return matched, [classes[i] for i, _ in pairs] if copied else []


def describe_start(report: LoadReport, names: Names | None) -> str:
    """Return the table of what a training begins with: copied, re-initialized, skipped.

    Args:
        report: Of the weights, after :func:`match_classes`.
        names: Of the classes, likewise; None where classes were not matched.
    """
    lost = (*report.missing, *report.mismatched)
    table = {'copied': report.loaded, 're-initialized': lost, 'skipped': report.unexpected}
    lines = [f'start from {report.source}:']
    for (what, keys), classes in zip(table.items(), names or ((), (), ()), strict=True):
        parts = [f'{len(keys)} tensors' + f' ({few(keys, 3)})' * (what != 'copied')] if keys else []
        parts += [f'the outputs of {few(classes, 10)}'] if classes else []
        lines.append(f'  {what:<14} {", ".join(parts) or "nothing"}')
    return '\n'.join(lines)
