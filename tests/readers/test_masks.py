"""Masks that would end the process in pycocotools' C code, or take a terabyte, are named first."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from mmdet.registry import TRANSFORMS
from PIL import Image
from pycocotools import mask as masks_of_coco
from small_coco import small_coco

from tresnet_det.datasets import annotations  # noqa: F401  (registers the transform)
from tresnet_det.evaluation.coco_metric import CocoTwelveMetric
from tresnet_det.readers.masks import find_mask_fault

NAN, INF = float('nan'), float('inf')
WIDTH, HEIGHT = 40, 30
SQUARE = [1, 1, 9, 1, 9, 9, 1, 9]
CODE = masks_of_coco.encode(np.asfortranarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)))
COMPRESSED = dict(size=[HEIGHT, WIDTH], counts=CODE['counts'].decode())


def code(counts, size=(HEIGHT, WIDTH)):
    return dict(size=[*size], counts=counts)


BAD = {
    'NaN first': ([[NAN, 1, 9, 1, 9, 9]], 'nan, far outside'),
    'NaN inside': ([[1, 1, 9, NAN, 9, 9]], 'nan, far outside'),
    'infinity': ([[1, 1, INF, 1, 9, 9]], 'inf, far outside'),
    'minus infinity': ([[1, 1, 9, -INF, 9, 9]], '-inf, far outside'),
    '1e9': ([[1, 1, 1e9, 1, 9, 9]], '1000000000.0, far outside'),
    'a long integer': ([[1, 1, 10**400, 1, 9, 9]], 'far outside'),
    'in the second polygon': ([SQUARE, [1, 1, -1e9, 1, 9, 9]], '-1000000000.0, far outside'),
    'a zigzag': ([[0, 0, 40, 30] * 400_000], '1600000 numbers|800000 points'),
    'two numbers': ([[1, 2]], 'of 2 numbers'),
    'a box for a polygon': ([[1, 2, 5, 6]], 'of 4 numbers'),
    'an odd number': ([[1, 2, 3, 4, 5, 6, 7]], 'of 7 numbers'),
    'text': ([['1', '2', '3', '4', '5', '6']], 'no list of numbers'),
    'a polygon that is text': (['1 2 3 4 5 6'], 'no list of numbers'),
    'null': ([[1, 2, None, 4, 5, 6]], 'no list of numbers'),
    'not nested': (SQUARE, 'no list of numbers'),
    'a text': ('polygon', 'neither polygons nor'),
    'a number': (7, 'neither polygons nor'),
    '2^20 x 2^20': (code([2**40], (2**20, 2**20)), r'size \[1048576, 1048576\]'),
    'turned': (code([1200], (WIDTH, HEIGHT)), r'its image is \[30, 40\]'),
    'no size': (dict(counts=[1200]), 'size None'),
    'a size of text': (code([1200], ('30', '40')), 'its image is'),
    'negative': (code([1300, -100]), 'negative count: -100'),
    'too few': (code([600, 599]), '1199 pixels'),
    'too many': (code([600, 2**31]), 'its image has 1200'),
    'no counts': (code([]), '0 pixels'),
    'counts of fractions': (code([0.5, 1199.5]), 'no run-length code'),
    'letters': (code('~~~~'), 'no run-length code'),
    'no letters': (code(''), 'no run-length code'),
    'another script': (code('é' * 8), 'no run-length code'),
    'truncated': (code(COMPRESSED['counts'][:9]), 'pixels, its image|no run-length'),
    'without an end': (code('o' * 30), 'no run-length code'),
    'compressed, too long': (code('0' * 5 + 'ooooo1'), 'its image has 1200|negative'),
}
GOOD = {
    'polygon': [SQUARE],
    'two, at the edge': [SQUARE, [-0.5, 0, 40.4, 30.2, 3, 3]],
    'all': code([0, 1200]),
    'compressed': COMPRESSED,
    'bytes': CODE,
}


@pytest.mark.parametrize('name', BAD)
def test_a_bad_mask_is_said_to_be_one(name):
    mask, expected = BAD[name]
    assert re.search(expected, find_mask_fault(mask, WIDTH, HEIGHT))


def test_a_size_that_no_image_may_have_is_none_for_a_mask():
    fault = find_mask_fault(code([2**40], (2**20, 2**20)), 2**20, 2**20)
    assert 'more than 200000000 pixels' in fault


SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=40)


@given(arrays(np.uint8, SHAPES, elements=st.integers(0, 1)))
def test_what_pycocotools_writes_is_good(pixels):
    height, width = pixels.shape
    flat = pixels.ravel(order='F')
    runs = np.diff(np.flatnonzero(np.diff(flat, prepend=0, append=1 - flat[-1])), prepend=0)
    written = masks_of_coco.encode(np.asfortranarray(pixels))
    for counts in (written['counts'], written['counts'].decode(), runs.tolist()):
        assert find_mask_fault(code(counts, pixels.shape), width, height) is None
    if pixels.any():  # one pixel less
        assert find_mask_fault(code(written['counts'], pixels.shape), width, height - 1)
        assert find_mask_fault(code([*runs[:-1].tolist(), int(runs[-1]) - 1]), width, height)


def write(folder, masks):
    """Write a small COCO file with an object for each mask, and its images."""
    content = small_coco([(7, 3, [1, 1, 8, 8], 0)] * len(masks))
    for annotation, mask in zip(content['annotations'], masks, strict=True):
        annotation['segmentation'] = mask
    for image in content['images']:
        Image.new('RGB', (WIDTH, HEIGHT), (9, 9, 9)).save(folder / image['file_name'])
    path = folder / 'data.json'
    path.write_text(json.dumps(content))
    return path


def test_check_data_names_each(tmp_path, run):
    masks = [mask for name, (mask, _) in BAD.items() if name != 'a zigzag']
    path = write(tmp_path, [*masks, *[m for name, m in GOOD.items() if name != 'bytes'], [], [[]]])
    result = run('check_data', path, tmp_path, '--limit', 99, '--workers', 0)
    assert result.code == 1
    assert f'{len(masks)} of {len(masks) + len(GOOD) + 1} [bad-mask]' in result.out
    assert 'annotation id 1: it has a polygon with nan, far outside' in result.out
    path = write(tmp_path, [GOOD['polygon'], GOOD['compressed'], [], [[]]])
    assert 'bad-mask' not in run('check_data', path, tmp_path, '--workers', 0).out


@pytest.mark.parametrize('name', ['NaN first', '1e9', 'text', '2^20 x 2^20', 'negative'])
@pytest.mark.parametrize('side', ['truth', 'predictions'])
def test_the_metric_evaluates_no_bad_mask(side, name, tmp_path):
    bad, good = BAD[name][0], GOOD['compressed']
    path = write(tmp_path, [bad if side == 'truth' else good])
    metric = CocoTwelveMetric(str(path), metric='segm')
    metric.dataset_meta = dict(classes=('cat', 'dog'))
    masks = [good if side == 'truth' else bad]
    found = dict(bboxes=np.ones((1, 4)), scores=np.ones(1), labels=np.zeros(1, int), masks=masks)
    results = [(dict(), dict(found, img_id=image_id)) for image_id in (7, 9)]
    where = 'annotation id 1' if side == 'truth' else 'predictions'
    with pytest.raises(ValueError, match=f'{where}: the mask of an object in image 7'):
        metric.compute_metrics(results)


@pytest.mark.parametrize('name', ['NaN first', '1e9', 'text', '2^20 x 2^20', 'negative'])
@pytest.mark.parametrize('poly2mask', [True, False])
def test_training_loads_no_bad_mask(poly2mask, name):
    load = TRANSFORMS.build(dict(type='LoadAnnotations', with_mask=True, poly2mask=poly2mask))

    def sample(**mask):
        instance = dict(bbox=[1, 1, 9, 9], bbox_label=0, ignore_flag=0, **mask)
        shape = dict(ori_shape=(HEIGHT, WIDTH), img_shape=(HEIGHT, WIDTH))
        return dict(instances=[instance], img_path='a.png', **shape)

    with pytest.raises(ValueError, match=r'a\.png: the mask of an object'):
        load(sample(mask=BAD[name][0]))
    with pytest.raises(ValueError, match=r'a\.png: an object has no mask'):
        load(sample())
    assert len(load(sample(mask=GOOD['polygon']))['gt_masks']) == 1
