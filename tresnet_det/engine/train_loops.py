"""Training loops that a resumed run enters where the interrupted one stood.

mmengine's loop over epochs begins an epoch again that was interrupted in its middle, its loop over
iterations reads all images of the past once more, and the random numbers of its workers depend on
when they were started. Here each batch has a number, the iteration that it is for: a run can begin
at any of them, and a batch is read under random numbers that depend on the run's seed and on its
own number alone, however many workers there are.

Two things look odd and are needed for that. ``BaseLoop.__init__`` runs twice: once to build the
loader, and once within mmengine's constructor, which must find a loader that is built and gives
nothing, since it starts the workers before the run's place is known. And ``__getitems__``, by which
torch reads a batch, is set on the dataset from outside: only there is the batch's number known in a
worker, whatever class the dataset is of.

The loop is also the first to know a config's schedulers and all steps: a warm-up ends in time.
"""

import contextlib
import copy
import itertools
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATA_SAMPLERS, LOOPS
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, get_worker_info

from ..tasks import type_name
from .config import iterate_dicts

# What keeps the rate down at first; at 1 it keeps nothing. The last one reaches it in one step.
WARMUPS = {'LinearLR': 'start_factor', 'ConstantLR': 'factor', 'QuadraticWarmupLR': None}
SHARE = 0.1  # of the training, where the config's own warm-up does not fit
# What a scheduler's config counts in epochs, or in steps: places of the training, and lengths.
PLACES = ('begin', 'end', 'milestones')
LENGTHS = ('T_max', 'step_size', 'periods', 'total_steps')


def random_states(model: nn.Module) -> dict[str, Any]:
    """Return the states of all that the model may draw random numbers from, as plain values.

    Args:
        model: On the device whose generator counts next to the CPU's.
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
    _set_states(states, random, np.random, torch.default_generator)
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'])


def are_random_states(states: Mapping[str, Any]) -> bool:
    """Whether :func:`set_random_states` could go back to what a file holds."""
    try:
        _set_states(states, random.Random(), np.random.RandomState(), torch.Generator())
    except Exception:  # each library has its own
        return False
    return True


def _set_states(
    states: Mapping[str, Any], python: Any, numpy: Any, default: torch.Generator
) -> None:
    version, keys, gauss = states['python']
    python.setstate((version, tuple(keys), gauss))
    name, keys, position, *rest = states['numpy']
    if not 0 <= position <= len(keys):  # at which numpy does not look
        raise ValueError(position)
    numpy.set_state((name, keys.numpy().astype(np.uint32), position, *rest))
    default.set_state(states['torch'])


def fit_warmup(schedulers: Any, steps: int, total: int, by_epochs: bool, most: float) -> list[str]:
    """Shorten the warm-ups of a config that are too long for the training.

    One that takes more than ``most`` of it, or lasts until the rate is lowered, becomes one of a
    tenth. MMEngine's schedulers of length 1 keep their first value for ever: one of an epoch is
    counted in steps, and one of a single step does nothing. A cycle ends with the training.

    Args:
        schedulers: ``param_scheduler`` of a config; changed in place.
        steps: Of an epoch.
        total: Of the training.
        by_epochs: Whether the loop has epochs, so that what is counted in them moves.
        most: Share of the training.

    Returns:
        What was changed, a line each.
    """
    parts = list(iterate_dicts(schedulers))

    def in_steps(part: dict[str, Any], length: float) -> float:
        return length * (steps if part.get('by_epoch', True) else 1)

    lowered = [
        in_steps(part, min([*part.get('milestones', ()), part.get('step_size', math.inf)]))
        for part in parts
    ]
    room, lines = min([total * most, *lowered]), []
    for part in parts:
        kind, end = _kind(part), part.get('end', 0)
        cycle = part.get('total_steps') if kind == 'OneCycleLR' else None
        left = total - in_steps(part, part.get('begin', 0))
        if cycle and in_steps(part, cycle) > left > 0:
            part['total_steps'] = max(1, int(left // in_steps(part, 1)))
            lines.append(
                f'a cycle of {part["total_steps"]} instead of {cycle}: the training ends there'
            )
        if not is_warmup(part):
            continue
        key = WARMUPS[kind]
        in_epochs = part.get('by_epoch', True)
        whole_epochs = in_epochs and not part.get('convert_to_iter_based')
        length = int(in_steps(part, end))
        moves = by_epochs or not whole_epochs
        if length <= room and moves and (end if whole_epochs else length) > 1:
            continue
        if length > room:
            length = max(1, round(min(total * SHARE, room)))
        if length > 1 or key or length < in_steps(part, end):
            new = f'warm-up of {length} steps' if length > 1 else 'no warm-up'
            unit = ' epochs' * in_epochs
            lines.append(f'{new} instead of {end}{unit}: the training has {total} steps')
        if length == 1 and key:
            part[key] = part.get('end_factor', 1.0)
        part.pop('convert_to_iter_based', None)
        part.update(by_epoch=False, end=length)
    return lines


def _kind(part: Mapping) -> str:
    kind = type_name(part)  # and the same by another name
    return kind.replace('ParamScheduler', 'LR') if part.get('param_name') == 'lr' else kind


def is_warmup(part: Mapping) -> bool:
    """Whether a scheduler's config lets the rate rise from the first step on, to an end."""
    rises = part.get(WARMUPS.get(_kind(part)), 0) < part.get('end_factor', 1)
    return _kind(part) in WARMUPS and rises and bool(part.get('end')) and not part.get('begin')


def count_in_steps(schedulers: Any, steps: int) -> None:
    """Let a scheduler count in steps, where it counts parts of epochs, which mmengine does not.

    Args:
        schedulers: ``param_scheduler`` of a config; changed in place.
        steps: Of an epoch.
    """
    for part in iterate_dicts(schedulers):
        counts = {  # an end may be infinity
            key: np.minimum(part[key], 10**9) for key in (*PLACES, *LENGTHS) if part.get(key)
        }
        if part.get('by_epoch', True) and any((n % 1).any() for n in counts.values()):
            part.update(
                {key: (n * steps).round().astype(int).tolist() for key, n in counts.items()}
            )
            part['by_epoch'] = False
            part.pop('convert_to_iter_based', None)
            if _kind(part) == 'ExponentialLR':
                part['gamma'] **= 1 / steps


class NumberedBatch(list):
    """The indices of a batch's images, and ``seed``, under which they are read."""

    seed: int


@DATA_SAMPLERS.register_module()
class NumberedBatchSampler(BatchSampler):
    """Number the batches of another batch sampler, and begin at any of them.

    Args:
        sampler: Of the data loader.
        batch_size: Images a batch.
        drop_last: Whether a last batch that is not full is skipped.
        batch_sampler: Config of the other one, None for torch's own.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        drop_last: bool = False,
        batch_sampler: dict[str, Any] | None = None,
    ) -> None:
        self.sampler = sampler  # here mmengine looks for what wants to know the epoch
        if batch_sampler is None:
            self.batches = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.batches = DATA_SAMPLERS.build(
                batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        self.begin(0, 0, seed=0)

    def begin(self, number: int, skip: int, seed: int) -> None:
        """Set where the next pass begins.

        Args:
            number: Of the first batch, the training's iteration.
            skip: How many batches are skipped before it.
            seed: Of the run.
        """
        self._number, self._skip, self._seed = number, skip, seed

    def __iter__(self) -> Iterator[list[int]]:
        skip, self._skip = self._skip, 0
        for batch in itertools.islice(self.batches, skip, None):
            numbered = NumberedBatch(batch)
            entropy = np.random.SeedSequence([self._seed, get_rank(), self._number])
            numbered.seed = int(entropy.generate_state(1, np.uint64)[0])
            self._number += 1
            yield numbered

    def __len__(self) -> int:
        return len(self.batches)


class _SeededReading:
    """A dataset's ``__getitems__``, by which torch reads a batch: under the batch's seed."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.read = getattr(dataset, '__getitems__', None)

    def __call__(self, batch: list[int]) -> list[Any]:
        # Without workers, the model's random numbers continue as if nothing had been read.
        before = random_states(nn.Identity()) if get_worker_info() is None else None
        if isinstance(batch, NumberedBatch):
            random.seed(batch.seed)
            np.random.seed(batch.seed % 2**32)
            torch.default_generator.manual_seed(batch.seed)  # torch.manual_seed: of devices too
        try:
            return self.read(batch) if self.read else [self.dataset[i] for i in batch]
        finally:
            if before is not None:
                set_random_states(before)


class _Unstarted:
    """A loader that gives nothing: mmengine starts the workers when it builds the loop."""

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class _NumberedLoop(BaseLoop):
    """What both loops do with their loader.

    Args:
        runner: The runner.
        dataloader: Its config. One that is built already, or that has no config of a sampler, is
            taken as it is, and begins where mmengine lets it begin.
        **kwargs: Of mmengine's loop.
    """

    dataloader: DataLoader

    def __init__(
        self, runner: Runner, dataloader: DataLoader | dict[str, Any], **kwargs: Any
    ) -> None:
        BaseLoop.__init__(self, runner, _with_numbers(dataloader))
        loader = self.dataloader
        super().__init__(runner, _Unstarted(loader), **kwargs)
        self.dataloader = loader
        # The runner builds the schedulers next. Only what would never reach the rate is changed.
        by_epochs = isinstance(self, EpochBasedTrainLoop)
        if by_epochs:
            count_in_steps(runner.param_schedulers, len(loader))
        for line in fit_warmup(runner.param_schedulers, len(loader), self.max_iters, by_epochs, 1):
            print_log(line, 'current')
        self._seed = runner.seed
        batches = loader.batch_sampler
        self._batches = batches if isinstance(batches, NumberedBatchSampler) else None
        if self.can_skip:
            dataset: Any = loader.dataset  # torch's type does not have the method that torch calls
            with contextlib.suppress(AttributeError):  # of a list, which draws nothing either
                dataset.__getitems__ = _SeededReading(dataset)

    @property
    def can_skip(self) -> bool:
        """Whether it can begin at any batch."""
        return self._batches is not None

    def _begin(self, skip: int) -> None:
        if self._batches is None:
            return
        sampler = self._batches.sampler
        # The seed is the interrupted run's by now, also where the config does not say it.
        if hasattr(sampler, 'seed') and sampler.seed == self._seed:
            sampler.seed = self.runner.seed
        self._batches.begin(self.runner.iter, skip, self.runner.seed)


def _with_numbers(dataloader: DataLoader | dict[str, Any]) -> DataLoader | dict[str, Any]:
    if isinstance(dataloader, DataLoader) or not isinstance(dataloader.get('sampler'), Mapping):
        return dataloader
    config = copy.deepcopy(dict(dataloader))
    config.setdefault('batch_size', 1)  # torch's
    numbered = dict(type=NumberedBatchSampler, batch_sampler=config.pop('batch_sampler', None))
    if numbered['batch_sampler'] is None:
        numbered['drop_last'] = config.pop('drop_last', False)
    return dict(config, batch_sampler=numbered)


@LOOPS.register_module()
class ResumableEpochTrainLoop(_NumberedLoop, EpochBasedTrainLoop):
    """mmengine's loop over epochs, which can begin in the middle of one.

    ``first_batch``, the batches of the first epoch that are done, is set by
    :class:`SafeCheckpointHook`.
    """

    first_batch = 0

    def run_epoch(self) -> None:
        """Run an epoch, or the rest of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first, self.first_batch = self.first_batch, 0
        self._begin(first)
        for index, batch in enumerate(self.dataloader, first):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class ResumableIterTrainLoop(_NumberedLoop, IterBasedTrainLoop):
    """mmengine's loop over iterations, which reads no image of the past again."""

    def run(self) -> nn.Module:
        """Train."""
        self.dataloader_iterator = self._iterate(self._iter)
        return super().run()

    def _iterate(self, done: int) -> Iterator[Any]:
        passes = 0
        sampler: Any = getattr(self.dataloader.batch_sampler, 'sampler', None)
        ends = hasattr(sampler, 'epoch')  # an InfiniteSampler has none
        if self.can_skip:
            yield from itertools.repeat(None, done)  # mmengine's loop asks for them all again
            if ends:
                passes, done = divmod(done, len(self.dataloader))
        for epoch in itertools.count(passes):
            if ends:
                sampler.set_epoch(epoch)
            self._begin(done)
            done = 0
            yield from self.dataloader
