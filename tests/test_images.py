"""The header of an image is read first: one limit of pixels for all formats, readers and tools."""

import cv2
import numpy as np
import pytest
from claimed_sizes import FORMATS, claim, encode
from PIL import Image

from tresnet_det.datasets import decode_rgb
from tresnet_det.datasets.transforms import LoadImage
from tresnet_det.files import MAX_PIXELS
from tresnet_det.inference import onnx_runner
from tresnet_det.readers.files import image_size

READERS = dict(
    classification=decode_rgb,
    detection=lambda path: LoadImage()(dict(img_path=str(path))),
    header=image_size,
    runner=lambda path: onnx_runner.read_rgb(path, prefer_opencv=True),
    runner_without_opencv=lambda path: onnx_runner.read_rgb(path, prefer_opencv=False),
)


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('form', FORMATS)
def test_no_pixel_of_a_claimed_size_is_allocated(form, reader, tmp_path):
    path = tmp_path / f'bomb.{form.lower()}'
    path.write_bytes(claim(form, 30000, 20000))
    with pytest.raises(ValueError, match=f'{path.name}: .*30000 x 20000.*{MAX_PIXELS} pixels'):
        READERS[reader](path)


@pytest.mark.parametrize('reader', READERS)
def test_the_limit_is_ours_alone_and_can_be_set(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)  # of which Pillow refuses the double
    path = tmp_path / 'a.png'
    path.write_bytes(encode('PNG', (20, 10)))
    monkeypatch.setenv('TRESNET_DET_MAX_PIXELS', '200')
    READERS[reader](path)
    for limit, message in (
        ('199', '20 x 10, more than 199'),
        ('many', "is 'many'"),
        ('0', "is '0': give a whole number"),
    ):
        monkeypatch.setenv('TRESNET_DET_MAX_PIXELS', limit)
        with pytest.raises(ValueError, match=message):
            READERS[reader](path)
    assert Image.MAX_IMAGE_PIXELS == 10  # of whoever calls


def test_check_data_and_train_name_an_image_that_is_too_large(data, tiny_config, run):
    (image, *_) = sorted((data.folder / 'train2017').iterdir())
    image.write_bytes(claim('JPEG', 30000, 30000))
    result = run('check_data', tiny_config('detection', data.folder), '--workers', 0)
    assert result.code == 1
    assert f'{image.name}: the image is too large (30000 x 30000' in result.out
    config = tiny_config('detection', data.folder)
    assert f'{image.name}: the image is too large (30000 x 30000' in run('train', config).error


def test_a_video_is_measured_before_a_frame_is_decoded(tmp_path, monkeypatch):
    from tresnet_det.inference.inputs import read_frames

    path = tmp_path / 'a.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 5, (32, 16))
    writer.write(np.zeros((16, 32, 3), np.uint8))
    writer.release()
    assert len(list(read_frames(str(path)))) == 1
    monkeypatch.setenv('TRESNET_DET_MAX_PIXELS', '500')
    with pytest.raises(ValueError, match='32 x 16'):
        list(read_frames(str(path)))
