"""The plan: arithmetic worked out by hand, and what it reads from configs and models."""

import csv
import dataclasses

import pytest

from tresnet_det.engine import config as edit
from tresnet_det.errors import InputError
from tresnet_det.profiling import plan as planning
from tresnet_det.profiling.counts import count_parameters, kept_bytes_per_image
from tresnet_det.profiling.plan import Cluster, Footprint, Link, Training, plan

# 25 M parameters are 100 MB of gradients, which go in 4 messages of 25 MiB at most.
MODEL = Footprint(25_000_000, 25_000_000, 0, 1, True, kept_per_image=20e6)
TRAINING = Training(
    images=128_000,
    epochs=90,
    batch_size=100,
    drop_last=True,
    lr=0.1,
    base_batch_size=400,
    workers=4,
    file_bytes=100_000,
    images_per_core=250,
)
CLUSTER = Cluster(Link(100e9, 0), Link(10e9, 1e-3), gpus_per_node=8, overlap=0.3)


def test_a_plan_for_sixteen_gpus_worked_out_by_hand():
    row = plan(TRAINING, MODEL, CLUSTER, 5000, 16, price=2.5)
    # 100 images at 5000/s: 20 ms, 13.33 of them backward. Sending: 1.75 + 10 ms, and 4 messages x
    # 2 hops x 1 ms: 19.75 ms, of which 0.3 x 13.33 = 4 ms are hidden.
    assert row['compute_seconds'] == pytest.approx(0.020)
    assert row['communication_seconds'] == pytest.approx(0.01975)
    assert row['step_seconds'] == pytest.approx(0.03575)
    assert row['efficiency'] == pytest.approx(20 / 35.75)
    # 128000 / 16 = 8000 images are 80 steps; 90 epochs of them 7200 steps of 35.75 ms: 257.4 s.
    assert row['steps_per_epoch'] == 80
    assert row['hours'] == pytest.approx(257.4 / 3600)
    assert row['hours_max'] == pytest.approx(7200 * 0.03975 / 3600)
    assert row['cost'] == pytest.approx(2.5 * 16 * 257.4 / 3600)
    # 1600 images each 35.75 ms, of 100 kB; a core decodes 250/s.
    assert row['read_bytes_per_s'] == pytest.approx(160e6 / 0.03575)
    assert row['cores'] == pytest.approx(6.4 / 0.03575)
    # Four times the 400 images that the learning rate of 0.1 is for.
    assert (row['global_batch'], row['lr']) == (1600, pytest.approx(0.4))
    # Weights, gradients, momentum, average and DDP's buckets of 100 MB, 100 images; a fifth more.
    assert row['memory_bytes'] == pytest.approx(1.2 * (500e6 + 100 * 20e6))
    one = plan(TRAINING, MODEL, CLUSTER, 5000, 1)
    assert one['memory_bytes'] == pytest.approx(1.2 * (400e6 + 100 * 20e6))
    assert (one['step_seconds'], 'cost' in one) == (pytest.approx(0.02), False)


def test_memory_of_frozen_parameters_and_the_largest_batch():
    frozen = Footprint(10, 6, 2, 2, True, kept_per_image=1)
    # 10 weights and 2 buffers, twice; of 6 the gradient, two values of Adam's, and the bucket.
    assert frozen.state_bytes(distributed=True) == 4 * (2 * 12 + 6 * 4)
    # 1 GB / 1.2 = 833 MB, less 400: 21 images.
    assert MODEL.largest_batch(1e9, distributed=False) == 21
    assert MODEL.largest_batch(1e8, distributed=False) == 0


def test_an_epoch_has_the_steps_of_the_sampler():
    # 17 images on 3 GPUs: 6 each. In batches of 4 one is whole; of 2 there are three.
    training = dataclasses.replace(TRAINING, images=17)
    assert [training.steps_per_epoch(3, batch) for batch in (4, 2)] == [1, 3]
    training = dataclasses.replace(training, drop_last=False)
    assert [training.steps_per_epoch(3, batch) for batch in (4, 2)] == [2, 3]


def test_a_step_far_beyond_the_recipe_and_too_few_workers_are_warned_of():
    rows = [plan(TRAINING, MODEL, CLUSTER, 500, gpus) for gpus in (32, 64, 128)]
    assert planning.warnings(TRAINING, MODEL, rows[:1]) == []  # 3200 is 8 times 400
    (warning,) = planning.warnings(TRAINING, MODEL, rows)
    assert warning.startswith('from 64 GPUs on, a step of 6400 images is 16 times the 400')
    assert '--max-global-batch 3200' in warning
    training = dataclasses.replace(TRAINING, base_batch_size=None, workers=1)
    (warning,) = planning.warnings(training, MODEL, rows[:1])
    assert f'{rows[0]["cores"] / 32:.1f} cores' in warning


@pytest.mark.parametrize(
    ('gpus', 'changes', 'message'),
    [
        (12, {}, '12 GPUs do not fill nodes of 8'),
        (1024, dict(max_global_batch=512), '1024 GPUs: .* leave no batch'),
        (2048, {}, '2048 GPUs: .* leave no batch'),
    ],
)
def test_what_cannot_be_planned_is_refused(gpus, changes, message):
    with pytest.raises(InputError, match=message):
        plan(TRAINING, MODEL, CLUSTER, 100, gpus, **changes)


def read(project_root, name):
    return edit.load_config(project_root / 'configs' / f'{name}.py')


@pytest.mark.parametrize(
    ('name', 'images', 'epochs', 'area'),
    [
        ('imagenet_tresnet_m', 1_281_167, 300, 224 * 224),
        ('imagenet21k_tresnet_l', 11_797_632, 80, 224 * 224),
        ('fcos_tresnet_m', 117_266, 12, 1344 * 800),  # 1333 padded to a multiple of 32
        ('fcos_tresnet_m_70e', 117_266, 70, 1344 * 960),
        ('reuse/dino_tresnet_m', 118_287, 12, 1344 * 800),
        ('reuse/rtmdet_tresnet_m', 117_266, 300, 640 * 640),
        ('multilabel_tresnet_l_448', 82_081, 40, 448 * 448),
    ],
)
def test_dataset_epochs_and_image_size_of_the_configs(project_root, name, images, epochs, area):
    cfg = read(project_root, name)
    training = planning.read_training(cfg)
    assert (training.images, training.epochs) == (images, epochs)
    assert planning.read_image_area(cfg) == area


def test_custom_data_needs_its_size(project_root):
    cfg = read(project_root, 'bccd/fcos_tresnet_m_bccd')
    with pytest.raises(InputError, match='give --num-images N'):
        planning.read_training(cfg)
    training = planning.read_training(cfg, images=255, image_kb=20)
    assert (training.images, training.file_bytes) == (255, 20_000)
    assert training.base_batch_size is None  # its learning rate stays
    cfg.train_dataloader.dataset.pipeline = [dict(type='LoadImage')]
    with pytest.raises(InputError, match='says how large'):
        planning.read_image_area(cfg)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=10)
    with pytest.raises(InputError, match=r'no train_cfg\.max_epochs'):
        planning.read_training(cfg, images=255)


def test_a_classifier_is_counted_in_the_config_s_precision(tiny, tiny_arch, project_root):
    cfg = read(project_root, 'imagenet_tresnet_m')
    cfg.model.backbone.arch = dict(tiny_arch)
    cfg.model.head.update(in_channels=tiny.backbone.out_channels[-1], num_classes=5)
    cfg.optim_wrapper.type = 'OptimWrapper'
    model = planning.count_model(cfg, 64 * 64)
    assert model.parameters == model.trainable == count_parameters(tiny)
    kept = kept_bytes_per_image(tiny, 256, batch=2, channels_last=True) / 16
    assert model.kept_per_image == pytest.approx(kept, rel=0.01)
    assert (model.averaged, model.optimizer_values) == (True, 1)
    cfg.optim_wrapper.type, cfg.optim_wrapper.dtype = 'AmpOptimWrapper', 'bfloat16'
    halved = planning.count_model(cfg, 64 * 64)
    assert halved.kept_per_image == pytest.approx(model.kept_per_image / 2, rel=0.02)


def test_a_detector_is_counted_by_its_area_and_without_its_frozen_stages(project_root, tiny_arch):
    cfg = read(project_root, 'fcos_tresnet_m')
    cfg.model.backbone.update(arch=dict(tiny_arch), frozen_stages=-1, norm_eval=False)
    cfg.model.neck.update(in_channels=[32, 256, 512], out_channels=32)
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=1)
    learning = planning.count_model(cfg, 256**2)
    cfg.model.backbone.frozen_stages = 1
    frozen = planning.count_model(cfg, 4 * 256**2)
    assert frozen.parameters == learning.parameters
    assert frozen.trainable < learning.trainable
    assert frozen.kept_per_image < 4 * learning.kept_per_image
    assert cfg.model.backbone.init_cfg.type == 'Pretrained'  # the config is not changed


def test_a_loss_that_needs_a_training_does_not_hinder_the_count(project_root, tiny_arch):
    cfg = read(project_root, 'reuse/tood_tresnet_m')  # its assigner follows the epoch
    cfg.model.backbone.update(arch=dict(tiny_arch), init_cfg=None)
    cfg.model.neck.update(in_channels=[16, 32, 256, 512], out_channels=32)
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=2)
    assert planning.count_model(cfg, 256**2).kept_per_image > 1e6


def test_the_constants_are_those_of_the_benchmarks_and_of_the_download(project_root):
    def rows(name):
        lines = (project_root / 'benchmarks' / name).read_text().splitlines()
        return list(csv.DictReader(line for line in lines if not line.startswith('#')))

    for task, pipeline in (('classification', 'one_label_224'), ('multilabel', 'multi_label_448')):
        (row,) = [
            row
            for row in rows('data_pipeline.csv')
            if (row['pipeline'], row['side']) == (pipeline, 'tresnet_det')
        ]
        assert planning.IMAGES_PER_CORE[task] == round(float(row['reading_img_per_s']))
    (row,) = [r for r in rows('detectors_cpu.csv') if r['model'] == 'fcos_tresnet_m']
    assert planning.IMAGES_PER_CORE['detection'] == round(float(row['loading_img_per_s']))
    from tresnet_det.datasets.coco_download import IMAGES, SIZES

    for year in ('2017', '2014'):
        images = IMAGES[f'train{year}']
        known = planning.DATASETS[f'instances_train{year}', False]
        assert known == (images, SIZES[f'train{year}.zip'] / images)
