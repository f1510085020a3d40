"""The arithmetic of timing, with clocks that are told what to say."""

import pytest

from tresnet_det.profiling.timing import (
    Spread,
    Workload,
    images_per_second,
    measure_interleaved,
    order_of_round,
    ratios,
)


def test_ratios_are_taken_within_each_round():
    # The machine halves its speed in the second round: both lose, the ratio stays.
    assert ratios([30, 15, 33], base=[20, 10, 20]) == Spread(1.5, 1.5, 1.65)


def test_spread_has_the_median_and_the_ends():
    assert Spread.of([5.0, 1.0, 2.0, 4.0]) == Spread(3.0, 1.0, 5.0)


def test_every_round_takes_every_model_once_in_another_order():
    orders = [order_of_round(number, 3) for number in range(6)]
    assert orders == [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1], [2, 0, 1], [1, 0, 2]]
    assert order_of_round(6, 3) == orders[0]


def test_a_step_is_repeated_until_the_time_is_up():
    steps = []

    def clock(step, repeats):
        for _ in range(repeats):
            step()
        return 0.2 * repeats

    workload = Workload(
        lambda: steps.append('step'), images=8, before=lambda: steps.append('before')
    )
    assert images_per_second(workload, 0.5, clock) == pytest.approx(8 / 0.2)
    assert steps == ['before', 'step', 'step', 'step']


def test_even_without_a_least_time_a_step_is_measured_once():
    assert images_per_second(Workload(lambda: None, 3), 0, lambda step, repeats: 1.5) == 2


def test_models_take_turns_and_the_warm_up_is_thrown_away():
    calls = []
    contestants = [{'a': Workload(lambda n=name: calls.append(n), 1)} for name in 'xy']
    speeds = measure_interleaved(contestants, rounds=2, min_seconds=0)
    assert ''.join(calls) == 'xy' + 'xy' + 'yx'
    assert [len(workloads['a']) for workloads in speeds] == [2, 2]
