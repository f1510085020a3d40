"""What stands for images on a command line, and how it is read."""

import cv2
import numpy as np
import pytest

from tresnet_det.errors import InputError
from tresnet_det.inference.inputs import (
    count_images,
    download,
    find_sources,
    read_frames,
    read_images,
)


def test_a_folder_is_its_images_and_videos_by_name_and_a_file_is_taken_whatever_its_ending(
    tmp_path,
):
    for name in ('b.JPG', 'a.png', 'clip.MP4', 'notes.txt', '.hidden.png', 'odd[1].dat'):
        (tmp_path / name).touch()
    (tmp_path / 'below.png').mkdir()
    sources = find_sources([str(tmp_path), str(tmp_path / 'odd[1].dat')])
    found = [(s.name.removeprefix(f'{tmp_path}/'), s.kind) for s in sources]
    assert found == [
        ('a.png', 'image'),
        ('b.JPG', 'image'),
        ('clip.MP4', 'video'),
        ('odd[1].dat', 'image'),
    ]


def test_a_pattern_finds_images_at_any_depth_and_each_once(tmp_path):
    (tmp_path / 'x' / 'y').mkdir(parents=True)
    for name in ('1.png', 'x/2.png', 'x/y/3.png', 'x/y/4.txt'):
        (tmp_path / name).touch()
    sources = find_sources([str(tmp_path / '**' / '*'), str(tmp_path / 'x' / '..' / '1.png')])
    assert [s.name[-5:] for s in sources] == ['1.png', '2.png', '3.png']


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ('none.png', 'no image, folder or video at'),
        ('*.png', 'no image or video matches it'),
        ('empty', r"no image or video is in it.*below: '.*empty/\*\*/\*'"),
        ('ftp://host/a.png', 'only http:// and https:// are fetched'),
        ('https://host/a.mp4', 'has to be downloaded first'),
    ],
)
def test_what_names_no_image_is_said_before_anything_is_read(tmp_path, given, message):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match=message):
        find_sources([given if '://' in given else str(tmp_path / given)])


def write_video(path, frames, size=(48, 64), fps=10):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, size[::-1])
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((*size, 3), (0, 0, 30 * number), np.uint8))  # redder and redder
    writer.release()
    return str(path)


def test_every_so_manieth_frame_of_a_video_is_read_in_rgb_with_its_number(tmp_path):
    path = write_video(tmp_path / 'clip.mp4', 8)
    frames = list(read_frames(path, stride=3))
    assert [frame.name for frame in frames] == [f'{path}#{number}' for number in (0, 3, 6)]
    assert count_images(find_sources([path]), stride=3) == 3
    for frame, red in zip(frames, (0, 90, 180), strict=True):
        assert abs(frame.pixels.mean((0, 1)) - (red, 0, 0)).max() < 8
        assert frame.video.fps == pytest.approx(10 / 3)


def test_what_cannot_be_read_is_reported_and_passed_over_and_no_more_than_asked_is_read(tmp_path):
    (tmp_path / 'b.mp4').write_bytes(b'no video')
    reported, read = [], []

    def reader(path):
        read.append(path)
        if path.endswith('bad.png'):
            raise InputError(f'{path}: broken')
        return np.zeros((8, 8, 3), np.uint8)

    for name in ('bad.png', 'a.png'):
        (tmp_path / name).touch()
    sources = find_sources([str(tmp_path / n) for n in ('bad.png', 'b.mp4', 'a.png')])
    images = read_images(sources, reader, lambda name, error: reported.append(name))
    assert not read
    assert [p.name for p in images] == [str(tmp_path / 'a.png')]
    assert reported == [str(tmp_path / 'bad.png'), str(tmp_path / 'b.mp4')]


def test_a_download_has_a_limit_and_an_address_without_a_server_is_named(serve, tmp_path):
    (tmp_path / 'a.bin').write_bytes(b'0123456789')
    url = serve(tmp_path)
    assert download(f'{url}/a.bin') == b'0123456789'
    with pytest.raises(InputError, match='more than'):
        download(f'{url}/a.bin', largest=9)
    with pytest.raises(InputError, match='404'):
        download(f'{url}/none.bin')
    with pytest.raises(InputError, match='after 0.2 s'):
        download(f'{url}/drip', wait=0.2)
    with pytest.raises(InputError, match='cannot be had'):
        download('http://127.0.0.1:9/a.png', wait=1)
