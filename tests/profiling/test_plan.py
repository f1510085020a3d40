"""The plan's arithmetic, against figures worked out by hand."""

import dataclasses

import pytest

from tresnet_det.errors import InputError
from tresnet_det.profiling.plan import (
    LINKS,
    Assumptions,
    Cluster,
    Footprint,
    Link,
    Training,
    all_reduce_seconds,
    exposed_seconds,
    parse_link,
    plan,
    remarks,
    ring_seconds,
    steps_per_epoch,
)

# 25 M parameters are 100 MB of gradients, which go in 4 messages of 25 MiB at most.
MODEL = Footprint(
    parameters=25_000_000,
    trainable=25_000_000,
    buffers=0,
    optimizer_values=1,
    averaged=True,
    kept_per_image=20e6,
    kept_once=50e6,
)
TRAINING = Training(
    images=128_000,
    epochs=90,
    batch_size=100,
    drop_last=True,
    lr=0.1,
    base_batch_size=400,
    warmup_steps=0,
    workers=4,
    file_bytes=100_000,
    images_per_core=250,
)
CLUSTER = Cluster(in_node=Link(100e9, 0), between_nodes=Link(10e9, 1e-3), gpus_per_node=8)


def test_a_ring_of_four_worked_out_by_hand():
    # Each sends 2 x 3/4 of 100 MB at 10 GB/s, 15 ms, in 6 hops of 10 microseconds.
    link = Link(10e9, 10e-6)
    assert ring_seconds(100e6, 4, link) == pytest.approx(0.015 + 0.00006, rel=1e-12)
    assert ring_seconds(100e6, 4, link, messages=3) == pytest.approx(0.015 + 0.00018, rel=1e-12)
    assert ring_seconds(100e6, 1, link) == 0


def test_two_nodes_share_their_link_worked_out_by_hand():
    # In the node 2 x 7/8 of 100 MB at 100 GB/s, 1.75 ms. Between two nodes 2 x 1/2 of 100 MB at
    # 10 GB/s, 10 ms, in 2 hops of 1 ms.
    assert all_reduce_seconds(100e6, 16, CLUSTER) == pytest.approx(0.00175 + 0.010 + 0.002)
    assert all_reduce_seconds(100e6, 8, CLUSTER) == pytest.approx(0.00175)
    assert all_reduce_seconds(100e6, 1, CLUSTER) == 0


def test_the_backward_pass_hides_what_fits_beside_it():
    # Two thirds of 0.9 s are backward: half of that hides 0.3 s.
    assert exposed_seconds(0.5, 0.9, 0.5) == pytest.approx(0.2)
    assert exposed_seconds(0.2, 0.9, 0.5) == 0
    assert exposed_seconds(0.5, 0.9, 0) == 0.5


def test_a_plan_for_sixteen_gpus_worked_out_by_hand():
    row = plan(TRAINING, MODEL, Assumptions(speed=5000, cluster=CLUSTER, overlap=0.3), 16)
    # 100 images at 5000 a second: 20 ms, 13.33 of them backward. Sending: 1.75 + 10 ms, and
    # 4 messages x 2 hops x 1 ms: 19.75 ms, of which 0.3 x 13.33 = 4 ms are hidden.
    assert row['compute_seconds'] == pytest.approx(0.020)
    assert row['communication_seconds'] == pytest.approx(0.01975)
    assert row['step_seconds'] == pytest.approx(0.03575)
    assert row['efficiency'] == pytest.approx(20 / 35.75)
    # 128000 / 16 = 8000 images are 80 steps; 90 epochs of them 7200 steps of 35.75 ms: 257.4 s.
    assert row['steps_per_epoch'] == 80
    assert row['hours'] == pytest.approx(257.4 / 3600)
    assert row['gpu_hours'] == pytest.approx(16 * 257.4 / 3600)
    # Between all of the backward pass (20 + 19.75 - 13.33 ms) and none of it (39.75 ms).
    assert row['hours_min'] == pytest.approx(7200 * (0.03975 - 0.02 * 2 / 3) / 3600)
    assert row['hours_max'] == pytest.approx(7200 * 0.03975 / 3600)
    # 1600 images each 35.75 ms, of 100 kB; a core decodes 250 a second.
    assert row['img_per_s'] == pytest.approx(1600 / 0.03575)
    assert row['read_bytes_per_s'] == pytest.approx(160e6 / 0.03575)
    assert row['cores'] == pytest.approx(6.4 / 0.03575)
    # Four times the 400 images that the learning rate of 0.1 is for.
    assert (row['global_batch'], row['lr']) == (1600, pytest.approx(0.4))


def test_memory_worked_out_by_hand():
    # Weights, gradients, momentum, average: 4 x 100 MB. DDP's buckets: 100 MB more.
    assert MODEL.state_bytes(distributed=False) == 400e6
    assert MODEL.state_bytes(distributed=True) == 500e6
    # And 50 MB + 100 images x 20 MB; a fifth on top.
    assert MODEL.memory_bytes(100, True, 0.2) == pytest.approx(1.2 * 2550e6)
    # 1 GB / 1.25 = 800 MB, less 400 and 50: 350 MB, 17 images.
    assert MODEL.largest_batch(1e9, False, 0.25) == 17
    assert MODEL.largest_batch(1e8, False, 0.25) == 0


def test_frozen_parameters_have_no_gradient_and_buffers_are_averaged():
    frozen = Footprint(10, 6, 2, 2, True, kept_per_image=1)
    # 10 weights and 2 buffers, twice; of 6 the gradient, two values of Adam's, and the bucket.
    assert frozen.state_bytes(distributed=True) == 4 * (2 * 12 + 6 * 4)
    assert frozen.gradient_bytes == 24


@pytest.mark.parametrize(('drop_last', 'steps'), [(True, 2), (False, 3)])
def test_an_epoch_has_the_steps_of_the_sampler(drop_last, steps):
    # 17 images on 3 GPUs: 6 each. In batches of 4 one is whole; of 2 there are three.
    training = Training(17, 1, 4, drop_last, 0.1, None, 0, 0, 1, 1)
    assert steps_per_epoch(training, 3, 4) == steps - 1
    assert steps_per_epoch(training, 3, 2) == 3


def test_the_batch_shrinks_to_the_largest_step():
    assumed = Assumptions(1000, CLUSTER, max_global_batch=3200)
    rows = [plan(TRAINING, MODEL, assumed, gpus) for gpus in (8, 32, 64)]
    assert [row['batch_size'] for row in rows] == [100, 100, 50]
    assert [row['global_batch'] for row in rows] == [800, 3200, 3200]
    (note,) = [r for r in remarks(TRAINING, rows, assumed) if 'smaller batch' in r]
    assert '100' in note


def test_a_step_far_beyond_the_recipe_is_warned_of_once():
    assumed = Assumptions(500, CLUSTER)
    rows = [plan(TRAINING, MODEL, assumed, gpus) for gpus in (32, 64, 128)]
    assert remarks(TRAINING, rows[:1], assumed) == []  # 3200 is 8 times 400
    (note,) = remarks(TRAINING, rows, assumed)
    assert note.startswith('from 64 GPUs on, a step of 6400 images is 16 times the 400')
    assert '--max-global-batch 3200' in note


def test_a_warm_up_that_fills_the_training_and_too_few_workers_are_warned_of():
    training = Training(117_266, 12, 8, False, 0.01, None, 1000, 1, 1, 100)
    assumed = Assumptions(150, CLUSTER)
    rows = [plan(training, MODEL, assumed, gpus) for gpus in (8, 64)]
    # 117266 / 64 = 1833 images, 230 steps of 8; 12 epochs: 2760 steps.
    warmup, workers = remarks(training, rows, assumed)
    assert warmup.startswith('from 64 GPUs on, the warm-up of 1000 steps is 36%')
    assert '1.5 cores' in workers


def test_images_that_fill_no_step_are_spoken_of():
    assumed = Assumptions(500, CLUSTER)
    training = dataclasses.replace(TRAINING, base_batch_size=None)
    rows = [plan(training, MODEL, assumed, gpus) for gpus in (8, 512)]
    # 128000 / 512 = 250 images each, two steps of 100: a fifth is left out.
    (note,) = remarks(training, rows, assumed)
    assert note.startswith('from 512 GPUs on, 20% of the images')


def test_a_file_without_bytes_is_refused():
    with pytest.raises(InputError, match='128000 images of 0 bytes'):
        dataclasses.replace(TRAINING, file_bytes=0)


@pytest.mark.parametrize(
    ('gpus', 'changes', 'message'),
    [
        (0, {}, '0 GPUs cannot train'),
        (12, {}, '12 GPUs do not fill nodes of 8'),
        (8, dict(speed=0), '0 images/s'),
        (8, dict(overlap=1.5), 'an overlap of 1.5'),
        (8, dict(workspace=-1), 'a workspace of -1'),
        (1024, dict(max_global_batch=512), '1024 GPUs: .* leave no batch'),
        (2048, {}, '2048 GPUs: .* leave no batch'),
    ],
)
def test_what_cannot_be_planned_is_refused(gpus, changes, message):
    with pytest.raises(InputError, match=message):
        plan(TRAINING, MODEL, Assumptions(**(dict(speed=100, cluster=CLUSTER) | changes)), gpus)


def test_links_are_presets_or_figures():
    assert parse_link('ethernet-100g') == Link(12.5e9, 30e-6)  # 100 Gb/s
    assert LINKS['infiniband-400g'].bandwidth * 8 == 400e9
    assert parse_link('1.5:20') == pytest.approx((1.5e9, 20e-6))
    for text in ('nvlink', '12.5', '0:1', '-1:1', '1:-1', 'nan:1', 'inf:1', '1:x'):
        with pytest.raises(InputError, match='unknown link .* use nvlink4, '):
            parse_link(text)
