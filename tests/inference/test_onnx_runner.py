"""How the runner without PyTorch reads and resizes images, next to OpenCV, mmcv and torchvision."""

import cv2
import mmcv
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tresnet_det.datasets import decode_rgb
from tresnet_det.inference import onnx_runner
from tresnet_det.inference.onnx_runner import apply_step, read_rgb, resize_bilinear


@pytest.mark.parametrize('size', [(480, 640), (333, 500), (640, 427), (50, 40)], ids=str)
def test_fitting_is_mmcvs_rescaling(size):
    image = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    step = dict(type='fit', scale=[320, 200], resampling='opencv')
    np.testing.assert_array_equal(apply_step(image, step), mmcv.imrescale(image, (320, 200)))


@pytest.mark.parametrize('size', [(37, 61), (200, 333), (90, 90)], ids=str)
def test_numpys_resizing_is_opencvs_within_one(size):
    image = np.random.default_rng(0).integers(256, size=(90, 121, 3), dtype=np.uint8)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    difference = resize_bilinear(image, *size).astype(int) - expected
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize('shape', [(120, 201), (201, 120)], ids=str)
@pytest.mark.parametrize(
    ('transforms', 'steps'),
    [
        (
            [v2.Resize(64), v2.CenterCrop(56)],
            [
                dict(type='short_side', size=64, resampling='bilinear'),
                dict(type='center_crop', size=[56, 56]),
            ],
        ),
        ([v2.Resize((48, 80))], [dict(type='stretch', size=[48, 80], resampling='bilinear')]),
        (
            [v2.Resize((48, 80), interpolation=v2.InterpolationMode.BICUBIC)],
            [dict(type='stretch', size=[48, 80], resampling='bicubic')],
        ),
    ],
    ids=['crop', 'stretch', 'bicubic'],
)
def test_a_classifiers_steps_are_torchvisions_within_rounding(shape, transforms, steps):
    image = np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8)
    expected = v2.Compose(transforms)(torch.from_numpy(image).permute(2, 0, 1))
    for step in steps:
        image = apply_step(image, step)
    difference = image.astype(int) - expected.permute(1, 2, 0).numpy()
    # Noise is the worst case: bicubic weights add up to more than 1 in absolute value.
    assert np.abs(difference).max() <= (3 if steps[0]['resampling'] == 'bicubic' else 1)


@pytest.mark.parametrize('prefer_opencv', [True, False])
def test_16_bits_are_halved_as_in_the_package_and_32_refused(tmp_path, prefer_opencv):
    path = tmp_path / 'deep.png'
    Image.fromarray(np.arange(0, 65536, 1024, np.uint16).reshape(8, 8)).save(path)
    expected = decode_rgb(path).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(read_rgb(path, prefer_opencv), expected)
    Image.new('I', (4, 4)).save(tmp_path / 'deeper.tif')
    with pytest.raises(ValueError, match='32 bits|decoded'):
        read_rgb(tmp_path / 'deeper.tif', prefer_opencv)


def test_an_image_of_one_line_is_too_narrow_to_fit():
    step = dict(type='fit', scale=[160, 96], resampling='opencv')
    with pytest.raises(ValueError, match='an image of 3000x1 is too narrow: crop it'):
        apply_step(np.zeros((1, 3000, 3), np.uint8), step)


@pytest.mark.parametrize('has_opencv', [True, False])
def test_exif_turns_an_image_with_and_without_opencv(tmp_path, monkeypatch, has_opencv):
    if not has_opencv:
        monkeypatch.setattr(onnx_runner, '_opencv', lambda: None)
    original = Image.new('RGB', (40, 24), (200, 30, 90))
    exif = original.getexif()
    exif[0x0112] = 6  # turned by a quarter
    path = tmp_path / 'turned.jpg'
    original.save(path, exif=exif, quality=100)
    image = read_rgb(path, prefer_opencv=True)
    assert image.shape == (40, 24, 3)
    difference = image.astype(int) - decode_rgb(path).permute(1, 2, 0).numpy()
    assert np.abs(difference).max() <= 2
