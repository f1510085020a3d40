"""Warm-up and cosine of learning rate and momentum: full length, resumed, and what is refused."""

import copy

import pytest
import torch
from mmengine.runner import Runner

from tresnet_det.engine import WarmupCosineLR, WarmupCosineMomentum
from tresnet_det.errors import InputError


def make_optimizer(**options):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9, **options)


def step(optimizer, scheduler, name='lr'):
    value = optimizer.param_groups[0][name]
    optimizer.step()
    scheduler.step()
    return value


@pytest.mark.parametrize('end', [1, 2, 3, 10])
def test_the_shortest_training_reaches_the_full_rate_and_comes_down(end):
    optimizer = make_optimizer()
    scheduler = WarmupCosineLR(optimizer, end, warmup=0.2, eta_min_ratio=0.01, by_epoch=False)
    rates = [step(optimizer, scheduler) for _ in range(end)]
    assert max(rates) == 1
    assert rates[0] == (0.04 if end == 10 else 1)  # a warm-up of one step is none
    assert rates[max(1, rates.index(1)) :] == sorted(rates[max(1, rates.index(1)) :])[::-1]


@pytest.mark.parametrize('stop', [2, 9])  # in the rise, in the fall
@pytest.mark.parametrize(
    ('kind', 'name', 'options'),
    [
        (WarmupCosineLR, 'lr', dict(eta_min_ratio=0.01)),
        (WarmupCosineMomentum, 'momentum', dict(high=0.9, low=0.8)),
    ],
)
def test_a_saved_state_continues_with_the_same_values(kind, name, options, stop):
    def make():
        optimizer = make_optimizer()
        return optimizer, kind(optimizer, 12, warmup=0.5, by_epoch=False, **options)

    optimizer, scheduler = make()
    for _ in range(stop):
        step(optimizer, scheduler, name)
    state = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    expected = [step(optimizer, scheduler, name) for _ in range(stop, 12)]
    again, resumed = make()
    again.load_state_dict(state[0])
    resumed.load_state_dict(state[1])
    assert resumed.get_last_value() == [again.param_groups[0][name]]
    assert [step(again, resumed, name) for _ in range(stop, 12)] == expected


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(warmup=0.1), 'write by_epoch=False'),
        (dict(warmup=1.0, by_epoch=False), 'warmup is 1.0: give a number from 0, below 1'),
        (dict(warmup=0.1, length=0.5, by_epoch=False), 'length is 0.5: give a number from 1'),
    ],
)
def test_what_makes_no_cycle_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        WarmupCosineLR(make_optimizer(), 10, eta_min_ratio=0.01, **options)


def test_a_resumed_runner_takes_one_that_is_built():
    built = [WarmupCosineLR(make_optimizer(), 10, warmup=0.2, eta_min_ratio=0.01, by_epoch=False)]
    assert Runner._build_param_scheduler(None, built, None) == built
