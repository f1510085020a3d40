"""Processes of one machine held against the plan."""

import pytest

from tresnet_det.profiling.plan import (
    Link,
    ring_seconds,
)
from tresnet_det.profiling.process_scaling import compare_with_plan, fit_link


def test_a_link_is_found_from_its_own_times():
    link = Link(2e9, 5e-5)
    seconds = {size: ring_seconds(size, 4, link) for size in (1024, 2**20, 2**25)}
    assert fit_link(4, seconds) == pytest.approx(link)


def test_processes_beyond_the_cores_compute_and_send_the_longer():
    # Two cores. Alone, 4 images take 1 s; 100 MB in a ring of two at 1 GB/s without latency
    # 0.1 s. Four processes take twice 1 s, and twice the 0.15 s of a ring of four.
    found = {
        'gradient_bytes': 100e6,
        'compute': {'1': [1.0, 1.2], '2': [1.0, 1.2], '4': [2.0, 2.4]},
        'step': {'1': [1.0, 1.2], '2': [1.1, 1.3], '4': [2.2, 2.7]},
        'all_reduce': {
            n: {str(size): [size * hops / 1e9] * 2 for size in (10**6, 10**8)}
            for n, hops in (('2', 1), ('4', 3))
        },
    }
    rows, link = compare_with_plan(found, [1, 2, 4], batch_size=4, cores=2)
    assert (link.bandwidth, link.latency) == (pytest.approx(1e9), pytest.approx(0, abs=1e-9))
    steps = [row for row in rows if row['what'] == 'step']
    assert [row['planned_seconds'] for row in steps] == pytest.approx([1.1, 1.2, 2.5])
    assert [row['planned_seconds_min'] for row in steps] == pytest.approx([1.0, 1.1, 2.3])
    # In the second round 2 x 1.2 + 0.3 s of 2.7.
    assert steps[2]['error'] == pytest.approx((2.3 / 2.2 - 1 + 0) / 2)
    sums = [row for row in rows if row['what'] == 'all_reduce']
    assert all(row['error'] == pytest.approx(0) for row in sums)


def test_one_process_alone_has_nobody_to_send_to():
    found = {'gradient_bytes': 1e6, 'compute': {'1': [1.0]}, 'step': {'1': [1.0]}, 'all_reduce': {}}
    (row,), _ = compare_with_plan(found, [1], batch_size=4, cores=2)
    assert row['planned_seconds'] == 1
