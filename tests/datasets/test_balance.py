"""``BalancedSampler``: what is drawn, by theory; datasets that say their classes in any way."""

import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules

from tresnet_det.datasets import BalancedSampler
from tresnet_det.datasets.balance import find_labels
from tresnet_det.errors import InputError

# 50:1, with images of both classes, and with none.
IMAGES = [{0}] * 480 + [{0, 1}] * 5 + [{1}] * 5 + [set()] * 20


class Listed:
    """Images of which one may ask for the classes."""

    metainfo = dict(classes=('cat', 'dog'))

    def __init__(self, images=IMAGES):
        self.images = images

    def __len__(self):
        return len(self.images)

    def get_cat_ids(self, index):
        return list(self.images[index]) * 2  # an object each


@pytest.mark.parametrize('power', [0.5, 1.0])
def test_shares_are_those_of_theory_in_epochs_of_the_same_length(power, capsys):
    sampler = BalancedSampler(Listed(), power=power, seed=3)
    repeat = (485 / 10) ** power  # of the rare class, and of images with it
    total = 480 + 10 * repeat + 20
    drawn, epochs = Counter(), []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert len(epochs[-1]) == len(sampler) == 510
        counts = Counter(tuple(IMAGES[index]) for index in epochs[-1])
        assert abs(counts[1,] + counts[0, 1] - 510 * 10 * repeat / total) <= 1
        drawn += counts
        each = Counter(epochs[-1])
        for index in range(510):  # rounded up or down
            expected = 510 * (repeat if 1 in IMAGES[index] else 1) / total
            assert abs(each[index] - expected) < 1
    for classes, count, factor in (
        ((0,), 480, 1),
        ((1,), 5, repeat),
        ((0, 1), 5, repeat),
        ((), 20, 1),
    ):
        assert drawn[classes] / (20 * 510) == pytest.approx(count * factor / total, abs=0.01)
    assert len({tuple(epoch) for epoch in epochs}) == 20
    assert epochs[0] != sorted(epochs[0])
    said = capsys.readouterr()
    share = f'{10 * repeat / total:.1%}'
    assert f"an epoch still draws 510 images; 2.0% of them with 'dog' become {share}" in (
        said.out + said.err
    )


def test_where_each_image_has_one_class_all_are_drawn_equally_often():
    images = [{0}] * 500 + [{1}] * 10 + [{2}] * 90
    sampler = BalancedSampler(Listed(images), power=1.0, seed=0)
    counts = Counter(min(images[index]) for index in sampler)
    assert all(abs(counts[label] - 200) <= 1 for label in range(3))


def test_an_epoch_is_the_same_again_and_processes_share_it(monkeypatch):
    whole = BalancedSampler(Listed(), seed=7)
    whole.set_epoch(4)
    assert list(whole) == list(whole)
    parts = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        part = BalancedSampler(Listed(), seed=7)
        part.set_epoch(4)
        parts.append(list(part))
    assert [index for pair in zip(*parts, strict=True) for index in pair] == list(whole)


def test_datasets_and_wrappers_say_their_classes(tmp_path, class_folders, demo_data):
    register_all_modules(init_default_scope=True)
    folders = dict(type='ImageFolderDataset', data_root=str(class_folders / 'train'), pipeline=[])
    one = [{label} for label in range(3) for _ in range(4)]
    (tmp_path / 'labels.csv').write_text('file,cat,dog\na.png,1,1\nb.png,0,-1\n')
    for name in 'ab':
        (tmp_path / f'{name}.png').write_bytes(next(class_folders.rglob('*.png')).read_bytes())
    several = dict(
        type='MultiLabelDataset', data_root=str(tmp_path), ann_file='labels.csv', pipeline=[],
        filter_empty=False,
    )  # fmt: skip
    file = demo_data / 'annotations/instances_train2017.json'
    content = json.loads(file.read_text())
    boxes = [
        {a['category_id'] - 1 for a in content['annotations'] if a['image_id'] == image['id']}
        for image in content['images']
    ]
    coco = dict(type='CocoDataset', ann_file=str(file), pipeline=[], data_prefix=dict(img='x/'))
    coco['metainfo'] = dict(classes=tuple(c['name'] for c in content['categories']))
    for config, expected in (
        (folders, one),
        (several, [{0, 1}, set()]),
        (coco, boxes),
        (dict(type='RepeatDataset', dataset=folders, times=2), one * 2),
        (dict(type='ConcatDataset', datasets=[folders, folders]), one * 2),
        (dict(type='MultiImageMixDataset', dataset=coco, pipeline=[]), boxes),
    ):
        dataset = DATASETS.build(config)
        assert find_labels(dataset) == expected
        assert len(list(BalancedSampler(dataset, seed=0))) == len(expected)
    with pytest.raises(InputError, match='--balance: list does not say which classes'):
        find_labels(np.zeros(3).tolist())


def test_a_subset_has_the_labels_of_its_images_and_a_wrong_power_is_named():
    whole = SimpleNamespace(gt_labels=[0, 1, 1, 1])
    subset = SimpleNamespace(dataset=whole, indices=[3, 0])
    assert find_labels(subset) == [{1}, {0}]
    for power in (0, -1, 2, True, None, 'x', float('nan')):
        with pytest.raises(InputError, match='power must be above 0, at most 1: got'):
            BalancedSampler(whole, power=power)
