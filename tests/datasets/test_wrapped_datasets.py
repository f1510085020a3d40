"""MMEngine's dataset wrappers around the classification datasets."""

import cv2
import numpy as np
import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules

import tresnet_det.datasets  # noqa: F401  (registers what the configs name)


@pytest.fixture
def one(tmp_path):
    register_all_modules(init_default_scope=True)
    for name in ('cat', 'dog'):
        (tmp_path / name).mkdir()
        for index in range(2):
            cv2.imwrite(str(tmp_path / name / f'{index}.png'), np.zeros((8, 8, 3), np.uint8))
    return dict(type='ImageFolderDataset', data_root=str(tmp_path), pipeline=[])


def labels(dataset):
    return [int(dataset[i]['data_samples'].gt_label) for i in range(len(dataset))]


def test_concatenated_they_follow_each_other(one):
    both = DATASETS.build(dict(type='ConcatDataset', datasets=[dict(one), dict(one)]))
    assert labels(both) == [0, 0, 1, 1, 0, 0, 1, 1]
    assert both.metainfo['classes'] == ('cat', 'dog')


def test_repeated_they_start_again(one):
    repeated = DATASETS.build(dict(type='RepeatDataset', dataset=one, times=3))
    assert labels(repeated) == [0, 0, 1, 1] * 3
    assert repeated.metainfo['classes'] == ('cat', 'dog')
