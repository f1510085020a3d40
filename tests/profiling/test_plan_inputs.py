"""What a plan reads: configs, models, measured speeds."""

import csv
import statistics

import pytest

from tresnet_det.engine import config as edit
from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.profiling import plan_inputs
from tresnet_det.profiling.counts import count_parameters


def read(project_root, name):
    return edit.load_config(project_root / 'configs' / name)


def test_imagenet_s_config_is_read(project_root):
    training = plan_inputs.read_training(read(project_root, 'imagenet_tresnet_m.py'))
    assert (training.images, training.epochs, training.batch_size) == (1_281_167, 300, 128)
    assert (training.base_batch_size, training.lr, training.drop_last) == (1024, 0.4, True)
    assert training.file_bytes == pytest.approx(115e3, rel=0.01)


@pytest.mark.parametrize(
    ('name', 'images', 'epochs'),
    [
        ('imagenet21k_tresnet_l.py', 11_797_632, 80),
        ('imagenet_tresnet_xl_448.py', 1_281_167, 10),
        ('fcos_tresnet_m.py', 117_266, 12),
        ('fcos_tresnet_m_70e.py', 117_266, 70),
        ('multilabel_tresnet_l_448.py', 82_081, 40),
        ('multilabel_tresnet_m_448_coco2017.py', 117_266, 40),
    ],
)
def test_data_set_and_epochs_of_the_configs(project_root, name, images, epochs):
    training = plan_inputs.read_training(read(project_root, name))
    assert (training.images, training.epochs) == (images, epochs)


def test_keeping_images_without_annotations_keeps_all_of_coco(project_root):
    cfg = read(project_root, 'multilabel_tresnet_m_448.py')
    cfg.train_dataloader.dataset.filter_empty = False
    assert plan_inputs.read_training(cfg).images == 82_783


def test_data_of_one_s_own_needs_its_size(project_root):
    cfg = read(project_root, 'bccd/fcos_tresnet_m_bccd.py')
    with pytest.raises(InputError, match='give --num-images N'):
        plan_inputs.read_training(cfg)
    training = plan_inputs.read_training(cfg, images=255, image_kb=20)
    assert (training.images, training.file_bytes) == (255, 20_000)
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
def test_image_sizes_of_the_configs(project_root, name, typical, largest):
    assert plan_inputs.read_image_size(read(project_root, name)) == (typical, largest)


def test_a_pipeline_without_a_size_is_refused(project_root):
    cfg = read(project_root, 'fcos_tresnet_m.py')
    cfg.train_dataloader.dataset.pipeline = [dict(type='LoadImage')]
    with pytest.raises(InputError, match='says how large'):
        plan_inputs.read_image_size(cfg)


def test_a_classifier_without_memory_keeps_what_one_with_it_keeps(tiny, tiny_arch, project_root):
    from tresnet_det.profiling.counts import kept_bytes_per_image

    cfg = read(project_root, 'imagenet_tresnet_m.py')
    cfg.model.backbone.arch = dict(tiny_arch)
    cfg.model.head.update(in_channels=tiny.backbone.out_channels[-1], num_classes=5)
    cfg.optim_wrapper.type = 'OptimWrapper'
    size = plan_inputs.ImageSize(64 * 64, 64 * 64)
    model = plan_inputs.count_model(cfg, size)
    assert model.parameters == model.trainable == count_parameters(tiny)
    kept = kept_bytes_per_image(tiny, 64, batch=4, channels_last=True)
    assert model.kept_per_image + model.kept_once / 4 == pytest.approx(kept, rel=0.01)
    assert model.averaged
    assert model.optimizer_values == 1
    cfg.optim_wrapper.type, cfg.optim_wrapper.dtype = 'AmpOptimWrapper', 'bfloat16'
    halved = plan_inputs.count_model(cfg, size)
    assert halved.kept_per_image == pytest.approx(model.kept_per_image / 2, rel=0.02)
    # The convolutions' and the classifier's weights once more, of two bytes.
    assert halved.kept_once == pytest.approx(2 * model.parameters, rel=0.1)


def test_a_detector_is_counted_by_its_area_and_without_its_frozen_stages(project_root, tiny_arch):
    cfg = read(project_root, 'fcos_tresnet_m.py')
    cfg.model.backbone.update(arch=dict(tiny_arch), frozen_stages=-1, norm_eval=False)
    cfg.model.neck.update(in_channels=[32, 256, 512], out_channels=32)
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=1)
    one, four = (plan_inputs.ImageSize(area, area) for area in (256**2, 512**2))
    learning = plan_inputs.count_model(cfg, one)
    at_four = plan_inputs.count_model(cfg, four)
    assert at_four.kept_per_image == pytest.approx(4 * learning.kept_per_image)
    cfg.model.backbone.frozen_stages = 1
    frozen = plan_inputs.count_model(cfg, one)
    assert frozen.parameters == learning.parameters
    assert frozen.trainable < learning.trainable
    assert frozen.kept_per_image < learning.kept_per_image
    assert cfg.model.backbone.init_cfg.type == 'Pretrained'  # the config is not changed


def test_a_loss_that_needs_a_training_does_not_hinder_the_count(project_root, tiny_arch):
    cfg = read(project_root, 'reuse/tood_tresnet_m.py')  # its assigner follows the epoch
    cfg.model.backbone.update(arch=dict(tiny_arch), init_cfg=None)
    cfg.model.neck.update(in_channels=[16, 32, 256, 512], out_channels=32)
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=2)
    model = plan_inputs.count_model(cfg, plan_inputs.ImageSize(256**2, 256**2))
    assert model.kept_per_image > 1e6


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
        assert plan_inputs.IMAGES_PER_CORE[task] == round(statistics.median(speeds))
    (row,) = [r for r in rows('detectors_cpu.csv') if r['model'] == 'fcos_tresnet_m']
    assert plan_inputs.IMAGES_PER_CORE['detection'] == round(float(row['loading_img_per_s']))


def test_the_data_sets_of_coco_are_those_of_the_download(project_root):
    from tresnet_det.datasets.coco_download import IMAGES, SIZES

    for year, name in (('2017', 'instances_train2017'), ('2014', 'instances_train2014')):
        known = plan_inputs.DATA_SETS[name, False]
        assert known.images == IMAGES[f'train{year}']
        assert known.file_bytes == SIZES[f'train{year}.zip'] / known.images
