"""Demo data of boxes: COCO's layout, tight boxes, splits without a common digit."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from sklearn.datasets import load_digits

from tresnet_det.datasets.demo.digits import make_demo_data


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    return make_demo_data(tmp_path_factory.mktemp('demo') / 'demo', num_train=60, num_val=20)


def read(folder, split) -> COCO:
    return COCO(str(folder / f'annotations/instances_{split}2017.json'))


@pytest.mark.parametrize(('split', 'count'), [('train', 60), ('val', 20)])
def test_layout_is_cocos_and_pycocotools_reads_it(demo, split, count):
    coco = read(demo, split)
    assert len(coco.imgs) == len(list((demo / f'{split}2017').iterdir())) == count
    names = [c['name'] for c in coco.loadCats(sorted(coco.cats))]
    assert sorted(coco.cats) == list(range(1, 11))
    assert names == list('0123456789')
    for image in coco.imgs.values():
        with Image.open(demo / f'{split}2017' / image['file_name']) as opened:
            assert opened.size == (image['width'], image['height']) == (96, 96)
            assert opened.mode == 'RGB'


def test_every_image_has_one_to_three_digits_inside_it(demo):
    coco = read(demo, 'train')
    assert {len(coco.imgToAnns[i]) for i in coco.imgs} == {1, 2, 3}
    boxes = np.array([a['bbox'] for a in coco.anns.values()])
    assert boxes.min() >= 0
    assert (boxes[:, :2] + boxes[:, 2:]).max() <= 96
    longest = boxes[:, 2:].max(1)
    assert longest.min() < 26
    assert longest.max() > 48
    assert (longest >= 18).all()
    assert (longest <= 60).all()


def test_boxes_hardly_overlap(demo):
    from pycocotools import mask

    coco = read(demo, 'train')
    for image in coco.imgs:
        boxes = np.array([a['bbox'] for a in coco.imgToAnns[image]], np.float64)
        overlap = mask.iou(boxes, boxes, [0] * len(boxes)) - np.eye(len(boxes))
        assert overlap.max() < 0.1


def test_boxes_are_tight_around_the_bright_ink(demo):
    coco = read(demo, 'train')
    alone = [anns[0] for anns in coco.imgToAnns.values() if len(anns) == 1]
    assert len(alone) > 10
    for annotation in alone:
        file = demo / 'train2017' / coco.imgs[annotation['image_id']]['file_name']
        value = np.asarray(Image.open(file)).max(2)
        # the photographs end at 0.35 * 255 = 89; ink that covers half a pixel adds at least 117
        left, top, right, bottom = Image.fromarray(value > 150).getbbox()
        x, y, w, h = annotation['bbox']
        assert np.abs(np.subtract((left, top, right, bottom), (x, y, x + w, y + h))).max() <= 1


def test_digits_are_labelled_as_scikit_learn_does_and_the_splits_are_disjoint(demo):
    target = load_digits().target
    used = {}
    for split in ('train', 'val'):
        annotations = read(demo, split).anns.values()
        assert all(target[a['sample']] == a['category_id'] - 1 for a in annotations)
        used[split] = {a['sample'] for a in annotations}
    assert not used['train'] & used['val']


def test_info_says_how_it_was_made_and_what_is_shared(demo):
    info = json.loads((demo / 'annotations/instances_val2017.json').read_text())['info']
    assert (info['seed'], info['num_train'], info['num_val'], info['size']) == (0, 60, 20, 96)
    assert 'disjoint' in info['description']
    assert 'shared' in info['description']


def test_a_faster_twin_process_is_no_error(tmp_path, monkeypatch):
    from tresnet_det.datasets.demo import digits as demo_digits

    write = demo_digits._write_all

    def write_while_a_twin_finishes(root, info):
        write(root, info)
        monkeypatch.setattr(demo_digits, '_write_all', write)
        make_demo_data(tmp_path / 'demo', 4, 2)

    monkeypatch.setattr(demo_digits, '_write_all', write_while_a_twin_finishes)
    make_demo_data(tmp_path / 'demo', 4, 2)
    assert [p.name for p in tmp_path.iterdir()] == ['demo']


@pytest.mark.parametrize('size', [32, 500])
def test_other_sizes_work(tmp_path, size):
    coco = read(make_demo_data(tmp_path / 'demo', 3, 1, size=size), 'train')
    assert {(i['width'], i['height']) for i in coco.imgs.values()} == {(size, size)}
    assert coco.anns
