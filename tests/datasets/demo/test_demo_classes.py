"""Demo data of classes: each digit once, in the folder of its class."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tresnet_det.datasets.demo.classes import make_demo_classes
from tresnet_det.datasets.demo.digits import make_demo_data
from tresnet_det.errors import InputError


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    return make_demo_classes(tmp_path_factory.mktemp('demo') / 'demo')


def samples(folder, split) -> dict[int, int]:
    """Index in load_digits() of each image, with the class folder that it lies in."""
    return {int(p.stem): int(p.parent.name) for p in (folder / split).glob('*/*.png')}


def test_each_digit_sample_is_there_once_in_its_class_folder(demo):
    train, val = samples(demo, 'train'), samples(demo, 'val')
    assert (len(train), len(val)) == (1438, 359)
    assert train | val == dict(enumerate(load_digits().target.tolist()))
    assert {p.name for p in demo.iterdir()} == {'info.json', 'train', 'val'}


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


def test_info_says_how_it_was_made_and_where_it_comes_from(demo):
    content = json.loads((demo / 'info.json').read_text())
    assert (content['info']['seed'], content['info']['size']) == (0, 64)
    assert 'disjoint' in content['info']['description']
    assert 'Creative Commons' in content['licenses'][1]['name']


def test_detection_data_is_not_taken_for_it(tmp_path):
    make_demo_data(tmp_path / 'coco', 1, 1)
    with pytest.raises(InputError, match='no demo data of classes'):
        make_demo_classes(tmp_path / 'coco')
