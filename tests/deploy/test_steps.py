"""A test pipeline in the words of the runner without PyTorch, and the images of the check."""

import pytest

from tresnet_det.deploy.check import find_images
from tresnet_det.deploy.steps import UnknownStepError, read_steps, set_size
from tresnet_det.engine.config import find_test_dataset, load_config
from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.tasks import find_task


@pytest.mark.parametrize(
    ('name', 'task', 'steps'),
    [
        (
            'fcos_tresnet_m',
            'detection',
            [dict(type='fit', scale=[1333, 800], resampling='opencv')],
        ),
        (
            'imagenet_tresnet_m',
            'classification',
            [
                dict(type='short_side', size=256, resampling='bilinear'),
                dict(type='center_crop', size=[224, 224]),
            ],
        ),
        (
            'multilabel_tresnet_m_448',
            'multilabel',
            [dict(type='stretch', size=[448, 448], resampling='bilinear')],
        ),
    ],
)
def test_the_configs_test_pipelines_are_known(project_root, name, task, steps):
    cfg = load_config(project_root / f'configs/{name}.py')
    assert read_steps(find_test_dataset(cfg)['pipeline'], task) == steps


def test_every_config_has_a_known_test_pipeline(project_root):
    for path in sorted((project_root / 'configs').glob('*.py')):
        cfg = load_config(path)
        read_steps(find_test_dataset(cfg)['pipeline'], find_task(cfg).name)


@pytest.mark.parametrize(
    ('task', 'step', 'message'),
    [
        ('detection', dict(type='Pad', size=(64, 64)), 'Pad'),
        ('detection', dict(type='Resize', scale_factor=0.5), 'Resize'),
        (
            'detection',
            dict(type='Resize', scale=(64, 64), interpolation='bicubic'),
            "Resize with interpolation='bicubic'",
        ),
        ('detection', dict(type='LoadImage', to_float32=True), 'LoadImage with to_float32=True'),
        ('classification', dict(type='Grayscale'), 'Grayscale'),
        ('classification', dict(type='Resize', size=64, antialias=False), 'antialias=False'),
        ('classification', dict(type='Resize', size=64, interpolation='nearest'), 'nearest'),
    ],
    ids=str,
)
def test_what_the_runner_has_not_is_named(task, step, message):
    with pytest.raises(UnknownStepError, match=message):
        read_steps([step], task)


def test_stretching_keeps_height_and_width_apart():
    step = dict(type='Resize', scale=(320, 200), keep_ratio=False)  # width, height
    assert read_steps([step], 'detection') == [
        dict(type='stretch', size=[200, 320], resampling='opencv')
    ]


def test_another_size_reaches_resize_and_crop():
    detection = [dict(type='LoadImage'), dict(type='Resize', scale=(1333, 800), keep_ratio=True)]
    set_size(detection, 200, 320)
    assert detection[1]['scale'] == (320, 200)
    stretch = [dict(type='Resize', size=(448, 448))]
    set_size(stretch, 64, 96)
    assert stretch == [dict(type='Resize', size=(64, 96))]
    crop = [dict(type='Resize', size=256), dict(type='CenterCrop', size=224)]
    set_size(crop, 112, 112)
    assert crop == [dict(type='Resize', size=128), dict(type='CenterCrop', size=(112, 112))]
    with pytest.raises(InputError, match='no single Resize'):
        set_size([dict(type='LoadImage')], 64, 64)


def test_images_come_evenly_out_of_a_folder_and_those_below(project_root, tmp_path):
    cfg = load_config(project_root / 'configs/fcos_tresnet_m.py')
    for i in range(10):
        folder = tmp_path / f'part_{i // 5}'
        folder.mkdir(exist_ok=True)
        (folder / f'{i}.JPG').touch()
    (tmp_path / 'notes.txt').touch()
    found = find_images(cfg, str(tmp_path), 5)
    assert [path.stem for path in found] == ['0', '2', '4', '6', '8']
    assert len(find_images(cfg, str(tmp_path), 99)) == 10
    # Without a folder: where the config's test images are.
    cfg.test_dataloader.dataset.update(data_root=str(tmp_path), data_prefix=dict(img='part_1/'))
    assert [path.stem for path in find_images(cfg, None, 2)] == ['5', '7']
    cfg.test_dataloader.dataset.data_root = str(tmp_path / 'gone')
    with pytest.raises(MissingFileError, match='give --images DIR, --demo, or --no-check'):
        find_images(cfg, None, 2)


def test_a_config_without_test_data_says_so(project_root):
    cfg = load_config(project_root / 'configs/fcos_tresnet_m.py')
    cfg.test_dataloader = cfg.val_dataloader = None
    with pytest.raises(InputError, match='no test_dataloader'):
        find_test_dataset(cfg)
