"""`LoadImage`: as mmcv loads, but broken images are named or skipped and counted."""

import io
import logging

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from PIL import Image

from tresnet_det.datasets import LoadImage, transforms
from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.readers.files import is_whole


def encode(kind: str, **options) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, kind, **options)
    return data.getvalue()


def with_thumbnail(jpeg: bytes) -> bytes:
    """Put a whole small JPEG, with an end marker of its own, into an EXIF header."""
    exif = b'Exif\0\0' + encode('JPEG', quality=5)
    return jpeg[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + jpeg[2:]


WHOLE = {
    'jpeg': encode('JPEG'),
    'progressive': encode('JPEG', progressive=True),
    'restarts': encode('JPEG', restart_marker_rows=1),
    'thumbnail': with_thumbnail(encode('JPEG')),
    'png': encode('PNG'),
}


@pytest.mark.parametrize('name', WHOLE)
def test_whole_images_are_told_from_truncated_ones(name):
    data = WHOLE[name]
    assert is_whole(data)
    assert is_whole(data + b'\0' * 4096)
    assert is_whole(data + b'made by a camera')
    for kept in (len(data) - 2, len(data) - 100, len(data) * 2 // 3, len(data) // 2, 40):
        assert not is_whole(data[:kept]), kept


@pytest.mark.parametrize('stray', [b'\xff', b'\xff\xff', b'\0\0', b'ab', b'\xff\0', b'\xff\xd0'])
@pytest.mark.parametrize('marker', [b'\xff\xdb', b'\xff\xda'])
def test_bytes_between_headers_that_decoders_pass_over_are_passed_over(stray, marker):
    data = WHOLE['jpeg']
    at = data.index(marker)
    odd = data[:at] + stray + data[at:]
    assert cv2.imdecode(np.frombuffer(odd, np.uint8), cv2.IMREAD_COLOR) is not None
    assert is_whole(odd)
    assert not is_whole(odd[: len(odd) // 2])
    assert not is_whole(odd[:at])


def test_other_formats_are_left_to_the_decoder():
    assert is_whole(encode('BMP')[:100])
    assert is_whole(b'text')


@pytest.mark.real
def test_all_real_images_are_whole_and_none_is_when_cut(real_data):
    files = sorted((real_data / 'coco_subset/val2017').iterdir())
    for file in files:
        data = file.read_bytes()
        assert is_whole(data)
        assert not is_whole(data[: len(data) // 2])


OPTIONS = ({}, {'to_float32': True}, {'color_type': 'grayscale'}, {'imdecode_backend': 'pillow'})


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('name', ['jpeg', 'png'])
def test_good_images_load_as_by_mmcv(tmp_path, options, name):
    file = tmp_path / name
    file.write_bytes(WHOLE[name])
    ours = LoadImage(**options)({'img_path': str(file)})
    theirs = LoadImageFromFile(**options)({'img_path': str(file)})
    assert ours.keys() == theirs.keys()
    assert ours['img'].dtype == theirs['img'].dtype
    np.testing.assert_array_equal(ours['img'], theirs['img'])
    assert ours['img_shape'] == ours['ori_shape'] == theirs['img_shape'] == (40, 50)


BROKEN = {
    'cut.jpg': (WHOLE['jpeg'][:900], 'truncated'),
    'cut.png': (WHOLE['png'][:900], 'truncated'),
    'text.jpg': (b'<html>not found</html>', 'not an image'),
    'empty.jpg': (b'', 'empty file'),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_images_are_named_with_the_way_on(tmp_path, name):
    data, says = BROKEN[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        LoadImage()({'img_path': str(tmp_path / name)})
    message = str(caught.value)
    assert str(tmp_path / name) in message
    assert "set on_error='skip' in the LoadImage of the training pipeline" in message
    assert 'for a plain dataset: --cfg-options' in message
    assert 'on_error=skip' in message
    assert '\n' not in message


def test_missing_images_and_folders_are_named(tmp_path):
    with pytest.raises(MissingFileError, match='gone.jpg: the image does not exist'):
        LoadImage()({'img_path': str(tmp_path / 'gone.jpg')})
    with pytest.raises(InputError, match='cannot be read'):
        LoadImage()({'img_path': str(tmp_path)})


def test_the_option_that_the_message_names_sets_it():
    cfg = Config({'train_dataloader': {'dataset': {'pipeline': [{'type': 'LoadImage'}]}}})
    key, value = transforms.SKIP_OPTION.split()[1].split('=')
    cfg.merge_from_dict({key: value})
    assert cfg.train_dataloader.dataset.pipeline[0].on_error == 'skip'


def test_an_unknown_policy_is_refused():
    with pytest.raises(InputError, match="on_error is 'ignore'"):
        LoadImage(on_error='ignore')


def test_ignore_empty_stays_mmcvs_silent_switch(tmp_path, monkeypatch):
    monkeypatch.setattr(transforms, 'print_log', pytest.fail)
    assert LoadImage(ignore_empty=True)({'img_path': str(tmp_path / 'gone.jpg')}) is None


def test_skipping_warns_once_a_file_and_counts(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(transforms, 'print_log', lambda text, **kwargs: lines.append(text))
    load = LoadImage(on_error='skip')
    for name in ('a.jpg', 'b.jpg', 'a.jpg', 'b.jpg', 'a.jpg'):
        assert load({'img_path': str(tmp_path / name)}) is None
    assert [line.rsplit('; ')[-1] for line in lines] == [
        '1 file skipped so far on this process', '2 files skipped so far on this process'
    ]  # fmt: skip
    assert 'a.jpg' in lines[0]
    assert load.num_skipped == 2


@pytest.mark.parametrize(('first', 'level'), [(True, logging.WARNING), (False, logging.ERROR)])
def test_skipped_images_are_named_on_every_process(tmp_path, monkeypatch, first, level):
    # mmengine's loggers on ranks other than 0 pass errors alone
    levels = []
    monkeypatch.setattr(transforms, 'print_log', lambda text, level, **kwargs: levels.append(level))
    monkeypatch.setattr(transforms, 'is_main_process', lambda: first)
    assert LoadImage(on_error='skip')({'img_path': str(tmp_path / 'gone.jpg')}) is None
    assert levels == [level]


class Images(BaseDataset):
    def load_data_list(self):
        return [{'img_path': path, 'number': i} for i, path in enumerate(self.ann_file.split('|'))]


def make_dataset(tmp_path, load, test_mode=False) -> Images:
    names = []
    for number in range(8):
        names.append(str(tmp_path / f'{number}.png'))
        broken = number in (2, 5)
        (tmp_path / f'{number}.png').write_bytes(WHOLE['png'][: 500 if broken else None])
    return Images(ann_file='|'.join(names), pipeline=[load], test_mode=test_mode)


def numbers_of(batch: list[dict]) -> list[int]:
    return [sample['number'] for sample in batch]


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_the_count_is_shared_by_workers_and_epochs(tmp_path, method):
    load = LoadImage(on_error='skip')
    loader = torch.utils.data.DataLoader(
        make_dataset(tmp_path, load),
        batch_size=2,
        num_workers=2 if method == 'fork' else 1,  # spawned ones take seconds to start
        collate_fn=numbers_of,
        multiprocessing_context=method,
        persistent_workers=method == 'spawn',
    )
    for _ in range(2):
        taken = [number for batch in loader for number in batch]
        assert len(taken) == 8
        assert not {2, 5} & set(taken)
    assert load.num_skipped == 2


def test_test_mode_cannot_skip(tmp_path):
    dataset = make_dataset(tmp_path, LoadImage(on_error='skip'), test_mode=True)
    assert dataset[0]['number'] == 0
    with pytest.raises(Exception, match='Test time pipline'):
        dataset[2]
