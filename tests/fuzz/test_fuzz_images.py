"""Any bytes in place of an image: it is read in its own size, or one line names the file."""

import io
import os

import cv2
import numpy as np
from fuzz_mutations import PLACE_FAULTS, attempt, folder, place
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tresnet_det.datasets.decode import decode_rgb
from tresnet_det.datasets.transforms import LoadImage
from tresnet_det.inference.inputs import find_sources, read_images
from tresnet_det.readers.files import image_size


def encode(mode, kind, **options):
    noise = np.random.default_rng(0).integers(256, size=(24, 32, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(data, kind, **options)
    return data.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode('RGB', 'JPEG', exif=exif)


WHOLE = {
    'jpeg': encode('RGB', 'JPEG'),
    'progressive': encode('RGB', 'JPEG', progressive=True),
    'grey jpeg': encode('L', 'JPEG'),
    'cmyk': encode('CMYK', 'JPEG'),
    'turned': turned(),
    'png': encode('RGB', 'PNG'),
    'palette': encode('P', 'PNG'),
    'rgba': encode('RGBA', 'PNG'),
    'gif': encode('P', 'GIF'),
    'bmp': encode('RGB', 'BMP'),
    'webp': encode('RGB', 'WEBP'),
    'tiff': encode('RGB', 'TIFF'),
    'ppm': encode('RGB', 'PPM'),
}
NO_IMAGES = (
    b'', b'\0', b'\xff\xd8', b'\x89PNG\r\n\x1a\n', b'GIF89a', b'RIFF\0\0\0\0WEBP', b'<svg/>',
    b'PK\x03\x04', b'\x80\x04K\x01.', b'<html>404</html>', b'\xff\xd8\xff\xd9', b'BM' + bytes(60),
)  # fmt: skip


@st.composite
def images(draw):
    """Draw the bytes of an image file and whether they are those of a whole one."""
    kind = draw(st.sampled_from(sorted(WHOLE)))
    data = WHOLE[kind]
    action = draw(
        st.sampled_from(('whole', 'cut', 'cut', 'flip', 'header', 'insert', 'more', 'none', 'huge'))
    )
    at = draw(st.integers(0, len(data) - 1))
    if action == 'cut':
        data = data[:at]
    elif action == 'flip':
        data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    elif action == 'header':
        at = draw(st.integers(0, min(60, len(data) - 4)))
        data = data[:at] + draw(st.binary(min_size=4, max_size=4)) + data[at + 4 :]
    elif action == 'insert':
        data = data[:at] + draw(st.binary(min_size=1, max_size=9)) + data[at:]
    elif action == 'more':  # phones append videos
        data += draw(st.binary(max_size=40))
    elif action == 'none':
        data = draw(st.sampled_from(NO_IMAGES))
    elif action == 'huge':  # a PNG that says 60000 x 60000 in its header, with its right checksum
        data = huge()
    return data, action in ('whole', 'more')


def huge():
    import struct
    import zlib

    header = struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)
    data = WHOLE['png']
    return (
        data[:12] + b'IHDR' + header + struct.pack('>I', zlib.crc32(b'IHDR' + header)) + data[33:]
    )


def sizes(data):
    """Yield the sizes that decoders know the image in, as (width, height), turned or not."""
    with Image.open(io.BytesIO(data)) as image:
        yield from (image.size, image.size[::-1])
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if found is not None:
        yield found.shape[1::-1]


@given(images(), st.sampled_from(PLACE_FAULTS))
def test_fuzz_images(image, how):
    data, is_whole = image
    with folder() as root:
        path = root / 'image.bin'
        place(path, data, how)
        one = attempt(lambda: decode_rgb(path), path)
        loaded = attempt(lambda: LoadImage().transform(dict(img_path=str(path))), path)
        size = attempt(lambda: image_size(path), path)
        if how == 'file' and is_whole:
            assert one is not None
            assert size is not None
        if one is not None:
            assert (one.dim(), one.shape[0], str(one.dtype)) == (3, 3, 'torch.uint8')
            assert tuple(one.shape[:0:-1]) in {size, *sizes(data)}
        if loaded is not None:
            assert loaded['img'].dtype == np.uint8
            assert loaded['img_shape'] == loaded['img'].shape[:2]
        if is_whole and loaded is not None:
            assert loaded['img'].shape[1::-1] == size == tuple(one.shape[:0:-1])


@given(images(), st.sampled_from(PLACE_FAULTS))
def test_fuzz_images_to_predict(image, how):
    data, is_whole = image
    with folder() as root:
        path = root / 'image.jpg'
        place(path, data, how)
        place(root / 'good.png', WHOLE['png'], 'file')
        reported = []

        def report(name, error):
            reported.append(name)
            assert len(str(error).splitlines()) == 1
            assert str(path) in str(error)

        def read(name):
            return decode_rgb(name).permute(1, 2, 0).numpy()

        sources = attempt(lambda: find_sources([str(root)]), root)
        found = [p.name for p in read_images(sources, read, report)]
        assert {*found, *reported} == {s.name for s in sources}
        assert not {*found} & {*reported}
        assert str(root / 'good.png') in found
        if how == 'file':
            assert len(sources) == 2
            assert not is_whole or not reported
        assert os.listdir(root)
