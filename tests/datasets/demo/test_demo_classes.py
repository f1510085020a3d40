import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tresnet_det.datasets import ImageFolderDataset
from tresnet_det.datasets.demo.classes import make_demo_classes
from tresnet_det.datasets.demo.digits import make_demo_data
from tresnet_det.errors import InputError


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    return make_demo_classes(tmp_path_factory.mktemp('demo') / 'demo')


def samples(folder, split) -> dict[int, int]:
    """Index in load_digits() of each image, with the class folder that it lies in."""
    return {int(p.stem): int(p.parent.name) for p in (folder / split).glob('*/*.png')}


def digests(folder) -> dict:
    files = sorted(p for p in folder.rglob('*') if p.is_file())
    return {str(p.relative_to(folder)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


def test_each_digit_sample_is_there_once_in_its_class_folder(demo):
    train, val = samples(demo, 'train'), samples(demo, 'val')
    assert (len(train), len(val)) == (1438, 359)
    assert train | val == dict(enumerate(load_digits().target.tolist()))
    assert {p.name for p in demo.iterdir()} == {'info.json', 'train', 'val'}


def test_image_folder_dataset_reads_it(demo):
    data = ImageFolderDataset(str(demo), data_prefix=dict(img='val'), test_mode=True)
    assert len(data) == 359
    assert data.metainfo['classes'] == tuple('0123456789')


def test_splits_are_those_of_the_detection_data_of_the_same_seed(tmp_path):
    detection = make_demo_data(tmp_path / 'coco', num_train=300, num_val=150, size=32, seed=4)
    classes = make_demo_classes(tmp_path / 'classes', size=32, seed=4)
    for split in ('train', 'val'):
        file = detection / f'annotations/instances_{split}2017.json'
        used = {a['sample'] for a in json.loads(file.read_text())['annotations']}
        assert len(used) > 150
        assert used <= set(samples(classes, split))


def test_one_whole_bright_digit_on_a_dim_photograph(demo):
    sides, corners, colours = [], [], []
    for file in sorted((demo / 'val').glob('*/*.png')):
        with Image.open(file) as image:
            assert (image.size, image.mode) == ((64, 64), 'RGB')
            pixels = np.asarray(image)
        # the photographs end at 0.35 * 255 = 89; ink that covers half a pixel adds at least 117
        left, top, right, bottom = Image.fromarray(pixels.max(2) > 150).getbbox()
        sides.append(max(right - left, bottom - top) / 64)
        corners.append((left, top))
        colours.append(pixels[pixels.max(2) > 225].mean(0))
        assert (pixels.max(2) <= 90).mean() > 0.3
    assert min(sides) == pytest.approx(0.45, abs=0.03)
    assert max(sides) == pytest.approx(0.9, abs=0.03)
    assert np.min(corners) < 3
    assert np.max(corners) > 30
    assert np.ptp(colours, axis=0).min() > 150


def test_same_arguments_give_the_same_bytes_and_another_seed_others(tmp_path):
    first, second, third = (
        digests(make_demo_classes(tmp_path / name, size=32, seed=seed))
        for name, seed in (('a', 1), ('b', 1), ('c', 2))
    )
    assert first == second
    assert len(first) == 1797 + 1
    assert not set(first.values()) & set(third.values())


def test_complete_data_is_reused_and_nothing_is_left_beside_it(demo):
    before = {p: p.stat().st_mtime_ns for p in demo.rglob('*')}
    assert make_demo_classes(demo) == demo
    assert {p: p.stat().st_mtime_ns for p in demo.rglob('*')} == before
    assert list(demo.parent.iterdir()) == [demo]


def test_info_says_how_it_was_made_and_where_it_comes_from(demo):
    content = json.loads((demo / 'info.json').read_text())
    assert (content['info']['seed'], content['info']['size']) == (0, 64)
    assert 'disjoint' in content['info']['description']
    assert 'Creative Commons' in content['licenses'][1]['name']


def test_other_content_is_named_and_not_overwritten(tmp_path):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').write_text('precious')
    with pytest.raises(InputError, match='mine is there and is no demo data of classes'):
        make_demo_classes(tmp_path / 'mine')
    assert [p.name for p in (tmp_path / 'mine').iterdir()] == ['thesis.txt']
    make_demo_classes(tmp_path / 'demo', size=32)
    with pytest.raises(InputError, match=r'size 32 \(asked: 64\)'):
        make_demo_classes(tmp_path / 'demo')
    (tmp_path / 'demo/train/0/0000.png').unlink()
    with pytest.raises(InputError, match=r'lacks 1 of 1797 images, the first train/0/0000\.png'):
        make_demo_classes(tmp_path / 'demo', size=32)


def test_detection_data_is_not_taken_for_it(tmp_path):
    make_demo_data(tmp_path / 'coco', 1, 1)
    with pytest.raises(InputError, match='no demo data of classes'):
        make_demo_classes(tmp_path / 'coco')


def test_an_interrupted_making_leaves_nothing(tmp_path, monkeypatch):
    from tresnet_det.datasets.demo import classes as demo_classes

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_classes, 'write_png', fail)
    with pytest.raises(KeyboardInterrupt):
        make_demo_classes(tmp_path / 'demo')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('wrong', [{'size': 31}, {'size': 1025}, {'seed': -1}])
def test_arguments_out_of_range_are_named(tmp_path, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        make_demo_classes(tmp_path / 'demo', **wrong)
