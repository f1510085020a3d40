"""Image files of a few hundred bytes whose headers claim any size."""

import io
import struct
import zlib

from PIL import Image

FORMATS = ('JPEG', 'PNG', 'BMP', 'GIF', 'PPM', 'TIFF')


def encode(form: str, size: tuple[int, int] = (8, 8)) -> bytes:
    """A grey image of a format, without anything wrong."""
    file = io.BytesIO()
    Image.new('RGB', size, (90, 90, 90)).save(file, form)
    return file.getvalue()


def claim(form: str, width: int, height: int) -> bytes:
    """One of 8 x 8 that says it were larger."""
    data = bytearray(encode(form))
    if form == 'JPEG':
        at = data.find(b'\xff\xc0') + 5
        data[at : at + 4] = struct.pack('>HH', height, width)
    elif form == 'PNG':
        data[16:24] = struct.pack('>II', width, height)
        data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    elif form == 'BMP':
        data[18:26] = struct.pack('<ii', width, height)
    elif form == 'GIF':
        data[6:10] = struct.pack('<HH', width, height)
    elif form == 'PPM':
        data[:] = data.replace(b'8 8', b'%d %d' % (width, height))
    elif form == 'TIFF':
        start = struct.unpack('<I', data[4:8])[0]
        for at in range(start + 2, start + 2 + 12 * struct.unpack_from('<H', data, start)[0], 12):
            tag = struct.unpack_from('<H', data, at)[0]
            if tag in (256, 257):
                data[at + 2 : at + 12] = struct.pack('<HII', 4, 1, width if tag == 256 else height)
    return bytes(data)
