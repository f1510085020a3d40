"""Compare a checkpoint's keys with a model's; pure functions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Shape = tuple[int, ...]


@dataclass
class KeyMatch:
    """What of a model's state a checkpoint brings; keys are spelled as their owner spells them.

    Attributes:
        matched: The model's keys that the checkpoint has in the same shape.
        missing: The model's keys that it has not.
        reshaped: The model's keys that it has in another shape: (model's, checkpoint's).
        class_count: The keys of ``reshaped`` in a head that differ in the number of outputs alone.
        unexpected: The checkpoint's keys that the model has not.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    reshaped: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    class_count: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Every key of the model is there with its shape."""
        return not self.missing and not self.reshaped

    @property
    def share(self) -> float:
        """Share of the model's keys that match, in [0, 1], less those of another class count."""
        counted = len(self.matched) + len(self.missing) + len(self.reshaped) - len(self.class_count)
        return len(self.matched) / counted if counted else 0.0

    @property
    def first_problem(self) -> str:
        """The first key that does not fit, in words."""
        for key, (ours, theirs) in self.reshaped.items():
            if key not in self.class_count or len(self.class_count) == len(self.reshaped):
                return f'{key} is {ours} in the model and {theirs} in the file'
        return f'{self.missing[0]} is not in the file' if self.missing else 'none'


def match_keys(model: Mapping, checkpoint: Mapping) -> KeyMatch:
    """Compare names and shapes.

    A leading ``module.`` (DDP, test-time augmentation) goes from both, as when mmengine loads.
    ``X.abn.weight`` and ``X.bn.weight`` are one norm in two notations, between which the modules
    convert when they load, and count as the same. ``num_batches_tracked`` does not count.

    Args:
        model: The model's state dict.
        checkpoint: The checkpoint's state dict.
    """
    ours, theirs = _by_name(model), _by_name(checkpoint)
    result = KeyMatch(unexpected=[key for name, (key, _) in theirs.items() if name not in ours])
    for name, (key, shape) in ours.items():
        if name not in theirs:
            result.missing.append(key)
        elif shape == theirs[name][1]:
            result.matched.append(key)
        else:
            result.reshaped[key] = (shape, theirs[name][1])
            if 'head' in key and _only_outputs_differ(name, ours, theirs):
                result.class_count.append(key)
    return result


def _only_outputs_differ(name: str, ours: Mapping, theirs: Mapping) -> bool:
    """Whether a tensor, or the weight whose bias it is, differs in dimension 0 alone.

    A vector tells no class count from a width: the weight of its layer does.
    """
    if len(ours[name][1]) == 1:
        name = f'{name.rpartition(".")[0]}.weight'
    (_, a), (_, b) = ours.get(name, ('', ())), theirs.get(name, ('', ()))
    return len(a) > 1 and a != b and a[1:] == b[1:]


def _by_name(state: Mapping) -> dict[str, tuple[str, Shape]]:
    """Key and shape of each tensor, by a name that is the same in both notations."""
    named = {}
    for key, value in state.items():
        if key.endswith('num_batches_tracked') or not hasattr(value, 'shape'):
            continue
        bare = re.sub(r'^module\.', '', key)
        named[re.sub(r'(^|\.)abn\.', r'\1bn.', bare)] = (bare, tuple(value.shape))
    return named
