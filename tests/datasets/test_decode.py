"""`decode_rgb`: the pixels of Pillow for every kind of image, one line for what is none."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from tresnet_det.datasets import decode, decode_rgb
from tresnet_det.errors import InputError, MissingFileError

ROWS, COLUMNS = np.mgrid[0:24, 0:40]
RGB = np.stack([COLUMNS * 6, ROWS * 10, (ROWS + COLUMNS) * 3], -1).astype(np.uint8)
IMAGE = Image.fromarray(RGB)
SEE_THROUGH = Image.fromarray(np.dstack([RGB, np.where(COLUMNS < 9, 0, 255).astype(np.uint8)]))
PALETTE = IMAGE.convert('P', palette=Image.Palette.ADAPTIVE, colors=16)


def encode(image: Image.Image, kind: str, orientation: int | None = None, **options) -> bytes:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
        options['exif'] = exif
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def expected(data: bytes) -> np.ndarray:
    """Pillow's idea of it, (H, W, 3)."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert('RGB'))


def read(tmp_path, data: bytes) -> np.ndarray:
    path = tmp_path / 'image.jpg'  # whatever is in it: the name must not matter
    path.write_bytes(data)
    image = decode_rgb(path)
    assert image.dtype == torch.uint8
    return image.permute(1, 2, 0).numpy()


KINDS = {
    'jpeg': encode(IMAGE, 'JPEG'),
    'jpeg, full chroma': encode(IMAGE, 'JPEG', subsampling=0),
    'jpeg, progressive': encode(IMAGE, 'JPEG', progressive=True),
    'jpeg, grey': encode(IMAGE.convert('L'), 'JPEG'),
    'jpeg, CMYK': encode(IMAGE.convert('CMYK'), 'JPEG'),
    'jpeg, RGB inside': encode(IMAGE, 'JPEG', keep_rgb=True),
    'png': encode(IMAGE, 'PNG'),
    'png, grey': encode(IMAGE.convert('L'), 'PNG'),
    'png, grey with alpha': encode(SEE_THROUGH.convert('LA'), 'PNG'),
    'png, RGBA': encode(SEE_THROUGH, 'PNG'),
    'png, one bit': encode(IMAGE.convert('1'), 'PNG'),
    'png, palette': encode(PALETTE, 'PNG'),
    'png, palette with a transparent colour': encode(PALETTE, 'PNG', transparency=3),
    'png, turned': encode(IMAGE, 'PNG', orientation=6),
    'gif': encode(PALETTE, 'GIF'),
    'gif, animated': encode(PALETTE, 'GIF', save_all=True, append_images=[PALETTE.rotate(180)]),
    'webp': encode(IMAGE, 'WEBP'),
    'webp, turned': encode(IMAGE, 'WEBP', orientation=6),
    'bmp': encode(IMAGE, 'BMP'),
    'tiff': encode(IMAGE, 'TIFF'),
    'tiff, turned': encode(IMAGE, 'TIFF', orientation=8),
    'tiff, CMYK': encode(IMAGE.convert('CMYK'), 'TIFF'),
    'ppm': encode(IMAGE, 'PPM'),
} | {f'jpeg, orientation {n}': encode(IMAGE, 'JPEG', orientation=n) for n in range(1, 9)}


@pytest.mark.parametrize('kind', KINDS)
def test_pixels_are_pillows(tmp_path, kind):
    want = expected(KINDS[kind])
    assert want.shape == ((40, 24, 3) if kind[-1] in '5678' or 'turned' in kind else (24, 40, 3))
    assert np.array_equal(read(tmp_path, KINDS[kind]), want)


def test_jpeg_does_not_need_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, 'decode_with_pillow', pytest.fail)
    for kind in ('jpeg', 'jpeg, CMYK'):
        read(tmp_path, KINDS[kind])


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_16_bits_keep_their_upper_8(tmp_path, suffix, channels):
    # Pillow's convert('RGB') would saturate a grey one: everything from 256 on is white.
    deep = np.random.default_rng(0).integers(0, 1 << 16, (8, 9, channels), np.uint16)
    data = cv2.imencode(suffix, deep)[1].tobytes()
    want = (deep >> 8).astype(np.uint8)
    want = want[..., 2::-1] if channels > 1 else want.repeat(3, -1)  # OpenCV writes BGR
    if suffix == '.tiff' and channels > 1:
        want = expected(data)  # here Pillow does it itself
    assert np.array_equal(read(tmp_path, data), want)


@pytest.mark.real
def test_real_photographs_have_pillows_pixels(real_data):
    for path in sorted((real_data / 'coco_subset/val2017').glob('*.jpg'))[:20]:
        image = decode_rgb(path).permute(1, 2, 0).numpy()
        assert np.array_equal(image, expected(path.read_bytes())), path


def flip(data: bytes, at: int) -> bytes:
    broken = bytearray(data)
    broken[at] ^= 1
    return bytes(broken)


BROKEN = {
    'jpeg, truncated': (KINDS['jpeg'][:-100], 'does not decode'),
    'png, truncated': (KINDS['png'][:-60], 'does not decode'),
    'png, one bit flipped': (flip(KINDS['png'], -30), 'does not decode'),
    'webp, truncated': (KINDS['webp'][:-60], 'does not decode'),
    'text': (b'<html>404 Not Found</html>', 'not an image that can be decoded'),
    'empty': (b'', 'an empty file'),
    'jpeg, start alone': (b'\xff\xd8', 'not an image'),
    'float': (encode(Image.fromarray(ROWS.astype(np.float32)), 'TIFF'), '32 bits a channel'),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_what_is_no_image_is_named_in_one_line(tmp_path, kind):
    data, message = BROKEN[kind]
    with pytest.raises(InputError, match=rf'image\.jpg: .*{message}') as caught:
        read(tmp_path, data)
    assert '\n' not in str(caught.value)


def test_a_missing_image_and_a_folder_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r'gone\.jpg: the image does not exist'):
        decode_rgb(tmp_path / 'gone.jpg')
    with pytest.raises(InputError, match=f'{tmp_path.name}: the image cannot be read'):
        decode_rgb(tmp_path)


def test_pillow_and_back_is_the_same_image():
    image = torch.from_numpy(RGB).permute(2, 0, 1)
    for layout in (image, image.contiguous()):
        assert np.array_equal(decode.to_pillow(layout), RGB)
        assert torch.equal(decode.to_tensor(decode.to_pillow(layout)), image)
