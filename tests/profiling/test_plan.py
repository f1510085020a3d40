"""The plan's arithmetic, against figures worked out by hand, and what it reads."""

import csv
import dataclasses
import statistics

import pytest

from tresnet_det.engine import config as edit
from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.profiling import plan_inputs
from tresnet_det.profiling.counts import count_parameters
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
from tresnet_det.profiling.process_scaling import compare_with_plan, fit_link

# 25 M parameters are 100 MB of gradients, which go in 4 messages of 25 MiB at most.
MODEL = Footprint(
    parameters=25_000_000,
    trainable=25_000_000,
    buffers=0,
    optimizer_values=1,
    averaged=True,
    kept_per_picture=20e6,
    kept_once=50e6,
)
TRAINING = Training(
    pictures=128_000,
    epochs=90,
    batch_size=100,
    drop_last=True,
    lr=0.1,
    base_batch_size=400,
    warmup_steps=0,
    workers=4,
    file_bytes=100_000,
    pictures_per_core=250,
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
    # 100 pictures at 5000 a second: 20 ms, 13.33 of them backward. Sending: 1.75 + 10 ms, and
    # 4 messages x 2 hops x 1 ms: 19.75 ms, of which 0.3 x 13.33 = 4 ms are hidden.
    assert row['compute_seconds'] == pytest.approx(0.020)
    assert row['communication_seconds'] == pytest.approx(0.01975)
    assert row['step_seconds'] == pytest.approx(0.03575)
    assert row['efficiency'] == pytest.approx(20 / 35.75)
    # 128000 / 16 = 8000 pictures are 80 steps; 90 epochs of them 7200 steps of 35.75 ms: 257.4 s.
    assert row['steps_per_epoch'] == 80
    assert row['hours'] == pytest.approx(257.4 / 3600)
    assert row['gpu_hours'] == pytest.approx(16 * 257.4 / 3600)
    # Between all of the backward pass (20 + 19.75 - 13.33 ms) and none of it (39.75 ms).
    assert row['hours_min'] == pytest.approx(7200 * (0.03975 - 0.02 * 2 / 3) / 3600)
    assert row['hours_max'] == pytest.approx(7200 * 0.03975 / 3600)
    # 1600 pictures each 35.75 ms, of 100 kB; a core decodes 250 a second.
    assert row['img_per_s'] == pytest.approx(1600 / 0.03575)
    assert row['read_bytes_per_s'] == pytest.approx(160e6 / 0.03575)
    assert row['cores'] == pytest.approx(6.4 / 0.03575)
    # Four times the 400 pictures that the learning rate of 0.1 is for.
    assert (row['global_batch'], row['lr']) == (1600, pytest.approx(0.4))


def test_memory_worked_out_by_hand():
    # Weights, gradients, momentum, average: 4 x 100 MB. DDP's buckets: 100 MB more.
    assert MODEL.state_bytes(distributed=False) == 400e6
    assert MODEL.state_bytes(distributed=True) == 500e6
    # And 50 MB + 100 pictures x 20 MB; a fifth on top.
    assert MODEL.memory_bytes(100, True, 0.2) == pytest.approx(1.2 * 2550e6)
    # 1 GB / 1.25 = 800 MB, less 400 and 50: 350 MB, 17 pictures.
    assert MODEL.largest_batch(1e9, False, 0.25) == 17
    assert MODEL.largest_batch(1e8, False, 0.25) == 0


def test_frozen_parameters_have_no_gradient_and_buffers_are_averaged():
    frozen = Footprint(10, 6, 2, 2, True, kept_per_picture=1)
    # 10 weights and 2 buffers, twice; of 6 the gradient, two values of Adam's, and the bucket.
    assert frozen.state_bytes(distributed=True) == 4 * (2 * 12 + 6 * 4)
    assert frozen.gradient_bytes == 24


@pytest.mark.parametrize(('drop_last', 'steps'), [(True, 2), (False, 3)])
def test_an_epoch_has_the_steps_of_the_sampler(drop_last, steps):
    # 17 pictures on 3 GPUs: 6 each. In batches of 4 one is whole; of 2 there are three.
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
    assert note.startswith('from 64 GPUs on, a step of 6400 pictures is 16 times the 400')
    assert '--max-global-batch 3200' in note


def test_a_warm_up_that_fills_the_training_and_too_few_workers_are_warned_of():
    training = Training(117_266, 12, 8, False, 0.01, None, 1000, 1, 1, 100)
    assumed = Assumptions(150, CLUSTER)
    rows = [plan(training, MODEL, assumed, gpus) for gpus in (8, 64)]
    # 117266 / 64 = 1833 pictures, 230 steps of 8; 12 epochs: 2760 steps.
    warmup, workers = remarks(training, rows, assumed)
    assert warmup.startswith('from 64 GPUs on, the warm-up of 1000 steps is 36%')
    assert '1.5 cores' in workers


def test_pictures_that_fill_no_step_are_spoken_of():
    assumed = Assumptions(500, CLUSTER)
    training = dataclasses.replace(TRAINING, base_batch_size=None)
    rows = [plan(training, MODEL, assumed, gpus) for gpus in (8, 512)]
    # 128000 / 512 = 250 pictures each, two steps of 100: a fifth is left out.
    (note,) = remarks(training, rows, assumed)
    assert note.startswith('from 512 GPUs on, 20% of the pictures')


def test_a_file_without_bytes_is_refused():
    with pytest.raises(InputError, match='128000 pictures of 0 bytes'):
        dataclasses.replace(TRAINING, file_bytes=0)


@pytest.mark.parametrize(
    ('gpus', 'changes', 'message'),
    [
        (0, {}, '0 GPUs cannot train'),
        (12, {}, '12 GPUs do not fill nodes of 8'),
        (8, dict(speed=0), '0 pictures a second'),
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


def read(project_root, name):
    return edit.load_config(project_root / 'configs' / name)


def test_imagenet_s_config_is_read(project_root):
    training = plan_inputs.read_training(read(project_root, 'imagenet_tresnet_m.py'))
    assert (training.pictures, training.epochs, training.batch_size) == (1_281_167, 300, 128)
    assert (training.base_batch_size, training.lr, training.drop_last) == (1024, 0.4, True)
    assert training.file_bytes == pytest.approx(115e3, rel=0.01)


@pytest.mark.parametrize(
    ('name', 'pictures', 'epochs'),
    [
        ('imagenet21k_tresnet_l.py', 11_797_632, 80),
        ('imagenet_tresnet_xl_448.py', 1_281_167, 10),
        ('fcos_tresnet_m.py', 117_266, 12),
        ('fcos_tresnet_m_70e.py', 117_266, 70),
        ('multilabel_tresnet_l_448.py', 82_081, 40),
        ('multilabel_tresnet_m_448_coco2017.py', 117_266, 40),
    ],
)
def test_data_set_and_epochs_of_the_configs(project_root, name, pictures, epochs):
    training = plan_inputs.read_training(read(project_root, name))
    assert (training.pictures, training.epochs) == (pictures, epochs)


def test_keeping_pictures_without_annotations_keeps_all_of_coco(project_root):
    cfg = read(project_root, 'multilabel_tresnet_m_448.py')
    cfg.train_dataloader.dataset.filter_empty = False
    assert plan_inputs.read_training(cfg).pictures == 82_783


def test_data_of_one_s_own_needs_its_size(project_root):
    cfg = read(project_root, 'bccd/fcos_tresnet_m_bccd.py')
    with pytest.raises(InputError, match='give --pictures N'):
        plan_inputs.read_training(cfg)
    training = plan_inputs.read_training(cfg, pictures=255, picture_kb=20)
    assert (training.pictures, training.file_bytes) == (255, 20_000)
    assert training.base_batch_size is None  # its learning rate stays


def test_a_config_that_trains_by_steps_is_refused(project_root):
    cfg = read(project_root, 'fcos_tresnet_m.py')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=10)
    with pytest.raises(InputError, match=r'no train_cfg\.max_epochs'):
        plan_inputs.read_training(cfg)


@pytest.mark.parametrize(
    ('name', 'typical', 'largest'),
    [
        ('imagenet_tresnet_m.py', 224 * 224, 224 * 224),
        ('ml_decoder_tresnet_xl_640.py', 640 * 640, 640 * 640),
        # A 4:3 photo at (1333, 800) is 1067 x 800; padded to multiples of 32.
        ('fcos_tresnet_m.py', 1088 * 800, 1344 * 800),
        # Short sides from 480 to 960: 960 x 720 on the mean, 1333 x 960 at most.
        ('fcos_tresnet_m_70e.py', 960 * 736, 1344 * 960),
        # At every multiple of 32 from 480 to 800.
        ('reuse/dino_tresnet_m.py', 864 * 640, 1344 * 800),
        ('reuse/rtmdet_tresnet_m.py', 640 * 640, 640 * 640),
    ],
)
def test_picture_sizes_of_the_configs(project_root, name, typical, largest):
    assert plan_inputs.read_picture_size(read(project_root, name)) == (typical, largest)


def test_a_pipeline_without_a_size_is_refused(project_root):
    cfg = read(project_root, 'fcos_tresnet_m.py')
    cfg.train_dataloader.dataset.pipeline = [dict(type='LoadImage')]
    with pytest.raises(InputError, match='says how large'):
        plan_inputs.read_picture_size(cfg)


def test_a_classifier_without_memory_keeps_what_one_with_it_keeps(tiny, tiny_arch, project_root):
    from tresnet_det.profiling.counts import kept_bytes_per_picture

    cfg = read(project_root, 'imagenet_tresnet_m.py')
    cfg.model.backbone.arch = dict(tiny_arch)
    cfg.model.head.update(in_channels=tiny.backbone.out_channels[-1], num_classes=5)
    cfg.optim_wrapper.type = 'OptimWrapper'
    size = plan_inputs.PictureSize(64 * 64, 64 * 64)
    model = plan_inputs.count_model(cfg, size)
    assert model.parameters == model.trainable == count_parameters(tiny)
    kept = kept_bytes_per_picture(tiny, 64, batch=4, channels_last=True)
    assert model.kept_per_picture + model.kept_once / 4 == pytest.approx(kept, rel=0.01)
    assert model.averaged
    assert model.optimizer_values == 1
    cfg.optim_wrapper.type, cfg.optim_wrapper.dtype = 'AmpOptimWrapper', 'bfloat16'
    halved = plan_inputs.count_model(cfg, size)
    assert halved.kept_per_picture == pytest.approx(model.kept_per_picture / 2, rel=0.02)
    # The convolutions' and the classifier's weights once more, of two bytes.
    assert halved.kept_once == pytest.approx(2 * model.parameters, rel=0.1)


def test_a_detector_is_counted_by_its_area_and_without_its_frozen_stages(project_root, tiny_arch):
    cfg = read(project_root, 'fcos_tresnet_m.py')
    cfg.model.backbone.update(arch=dict(tiny_arch), frozen_stages=-1, norm_eval=False)
    cfg.model.neck.update(in_channels=[32, 256, 512], out_channels=32)
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=1)
    one, four = (plan_inputs.PictureSize(area, area) for area in (256**2, 512**2))
    learning = plan_inputs.count_model(cfg, one)
    at_four = plan_inputs.count_model(cfg, four)
    assert at_four.kept_per_picture == pytest.approx(4 * learning.kept_per_picture)
    cfg.model.backbone.frozen_stages = 1
    frozen = plan_inputs.count_model(cfg, one)
    assert frozen.parameters == learning.parameters
    assert frozen.trainable < learning.trainable
    assert frozen.kept_per_picture < learning.kept_per_picture
    assert cfg.model.backbone.init_cfg.type == 'Pretrained'  # the config is not changed


def test_a_loss_that_needs_a_training_does_not_hinder_the_count(project_root, tiny_arch):
    cfg = read(project_root, 'reuse/tood_tresnet_m.py')  # its assigner follows the epoch
    cfg.model.backbone.update(arch=dict(tiny_arch), init_cfg=None)
    cfg.model.neck.update(in_channels=[16, 32, 256, 512], out_channels=32)
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=2)
    model = plan_inputs.count_model(cfg, plan_inputs.PictureSize(256**2, 256**2))
    assert model.kept_per_picture > 1e6


SPEEDS = """# device: Some GPU
# precision: bf16 by autocast
# date: 2026-11-25
varies,model,size,batch_size,training_img_per_s,inference_img_per_s
size,tresnet_m,112,8,800,1
size,tresnet_m,224,8,200,1
batch,tresnet_m,224,128,300,1
size,fcos_tresnet_m,640,2,50,1
size,counted_only,224,2,,
"""


@pytest.fixture
def speeds(tmp_path):
    path = tmp_path / 'models_cuda.csv'
    path.write_text(SPEEDS)
    return path


def test_the_nearest_row_of_measured_speeds_serves(speeds):
    found = plan_inputs.read_speed(speeds, ['imagenet_tresnet_m', 'tresnet_m'], 128, 224 * 224)
    assert found.img_per_s == 300
    assert found.source == (
        'tresnet_m at 224 pixels, batch 128, models_cuda.csv: Some GPU, bf16 by autocast, '
        '2026-11-25'
    )


def test_a_speed_at_another_size_is_scaled_by_the_area_and_says_so(speeds):
    found = plan_inputs.read_speed(speeds, ['fcos_tresnet_m', 'tresnet_m'], 8, 1088 * 800)
    assert found.img_per_s == pytest.approx(50 * 640 * 640 / (1088 * 800))
    assert 'scaled by 0.471' in found.source


@pytest.mark.parametrize('name', ['tresnet_l', 'counted_only'])
def test_a_model_that_was_not_timed_is_named_beside_those_that_were(speeds, name):
    with pytest.raises(InputError, match=f'no training speed of {name}, but of tresnet_m, fcos'):
        plan_inputs.read_speed(speeds, [name], 8, 224 * 224)


def test_missing_and_foreign_files_of_speeds_are_refused(tmp_path):
    with pytest.raises(MissingFileError, match='no measured speeds at'):
        plan_inputs.read_speed(tmp_path / 'none.csv', ['tresnet_m'], 8, 224 * 224)
    (tmp_path / 'other.csv').write_text('a,b\n1,2\n')
    with pytest.raises(InputError, match='but of no model'):
        plan_inputs.read_speed(tmp_path / 'other.csv', ['tresnet_m'], 8, 224 * 224)


def test_the_decoding_speeds_are_those_of_the_benchmarks(project_root):
    def rows(name):
        lines = (project_root / 'benchmarks' / name).read_text().splitlines()
        return list(csv.DictReader(line for line in lines if not line.startswith('#')))

    for task, pipeline in (('classification', 'one_label_224'), ('multilabel', 'multi_label_448')):
        speeds = [
            float(row['tresnet_det_img_per_s'])
            for row in rows('data_pipeline.csv')
            if row['pipeline'] == pipeline
        ]
        assert plan_inputs.PICTURES_PER_CORE[task] == round(statistics.median(speeds))
    (row,) = [r for r in rows('detectors_cpu.csv') if r['model'] == 'fcos_tresnet_m']
    assert plan_inputs.PICTURES_PER_CORE['detection'] == round(float(row['loading_img_per_s']))


def test_a_link_is_found_from_its_own_times():
    link = Link(2e9, 5e-5)
    seconds = {size: ring_seconds(size, 4, link) for size in (1024, 2**20, 2**25)}
    assert fit_link(4, seconds) == pytest.approx(link)


def test_processes_beyond_the_cores_compute_and_send_the_longer():
    # Two cores. Alone, 4 pictures take 1 s; 100 MB in a ring of two at 1 GB/s without latency
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


def test_the_data_sets_of_coco_are_those_of_the_download(project_root):
    from tresnet_det.datasets.coco_download import PICTURES, SIZES

    for year, name in (('2017', 'instances_train2017'), ('2014', 'instances_train2014')):
        known = plan_inputs.DATA_SETS[name, False]
        assert known.pictures == PICTURES[f'train{year}']
        assert known.file_bytes == SIZES[f'train{year}.zip'] / known.pictures
