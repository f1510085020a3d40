"""Tiles of large images: where they are, and one box for an object wherever seams cut it."""

import json
import math

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torchvision.ops import box_iou

from tresnet_det.inference import onnx_runner
from tresnet_det.inference.onnx_runner import merge_tiles, tile_windows
from tresnet_det.inference.predictor import Predictor
from tresnet_det.inference.sliced import Slicing


@pytest.mark.parametrize('overlap', [0, 0.2, 0.7])
@pytest.mark.parametrize(
    'size', [(2560, 2560), (100, 641), (640, 640), (1, 5), (1281, 700)], ids=str
)
def test_tiles_cover_each_pixel_and_are_as_many_as_the_formula_says(size, overlap):
    tile = 640
    windows = tile_windows(*size, tile, overlap)
    step = tile - int(tile * overlap)
    expected = [max(math.ceil((side - tile) / step) + 1, 1) for side in size]
    assert len(windows) == len(set(windows)) == math.prod(expected)
    covered = np.zeros(size, int)
    for x1, y1, x2, y2 in windows:
        assert (y2 - y1, x2 - x1) == (min(tile, size[0]), min(tile, size[1]))
        covered[y1:y2, x1:x2] += 1
    assert covered.shape == size
    assert covered.min() == 1


def sample_of(boxes, scores, labels):
    return DetDataSample(
        pred_instances=InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            scores=torch.tensor(scores, dtype=torch.float32),
            labels=torch.tensor(labels, dtype=torch.long),
        )
    )


def test_objects_that_seams_cut_are_neither_doubled_nor_lost():
    """A perfect detector of what a tile shows: 500 small objects, and 4 larger than a tile."""
    rng, side = np.random.default_rng(0), 2560
    truth = np.empty((0, 4))
    for least, most, count in ((300, 500, 4), (20, 54, 504)):
        while len(truth) < count:
            corner, size = rng.uniform(0, side - most, 2), rng.uniform(least, most, 2)
            box = np.concatenate((corner, corner + size))
            if not len(truth) or box_iou(*map(torch.from_numpy, (box[None], truth))).max() == 0:
                truth = np.vstack((truth, box))
    labels = rng.integers(3, size=len(truth))
    pixels = np.zeros((side, side, 3), np.uint8)

    def see(crop):
        offset = (crop.ctypes.data - pixels.ctypes.data) // 3
        origin = np.array((offset % side, offset // side) * 2)
        limit = (crop.shape[1], crop.shape[0]) * 2
        seen = (truth - origin).clip(0, limit)
        share = (seen[:, 2:] - seen[:, :2]).prod(1) / (truth[:, 2:] - truth[:, :2]).prod(1)
        visible = (share > 0.2) | ((seen[:, 2:] - seen[:, :2]).min(1) > 60)
        noise = rng.uniform(-1, 1, seen.shape)
        found = (seen + noise).clip(0, limit)[visible]
        return sample_of(found, rng.uniform(0.5, 0.9, len(found)), labels[visible])

    slicing = Slicing(tile=256, overlap=0.2, iou_thr=0.6)
    large = sample_of(truth[:4], [0.5] * 4, labels[:4])
    found = slicing.add_tiles(pixels, large, lambda crops: [see(crop) for crop in crops])
    boxes, of = found.pred_instances.bboxes.double(), found.pred_instances.labels.numpy()
    same = (box_iou(torch.from_numpy(truth), boxes) > 0.5).numpy() & (labels[:, None] == of)
    assert (same.sum(1) == 0).mean() <= 0.01
    assert same[:4].any(1).all()
    # Whatever is too much is no second box of an object, nor a part of one.
    assert len(boxes) <= len(truth) * 1.01


def test_a_cut_box_gives_way_to_a_whole_one_and_two_cut_ones_are_joined():
    windows = [(0, 0, 100, 50), (80, 0, 180, 50)]
    nothing = {'boxes': np.empty((0, 4)), 'scores': np.empty(0), 'labels': np.empty(0, int)}

    def answer(*rows):
        boxes, scores, labels = zip(*rows, strict=True)
        return {'boxes': np.array(boxes), 'scores': np.array(scores), 'labels': np.array(labels)}

    left = answer(((60, 5, 100, 25), 0.9, 0), ((85, 30, 100, 45), 0.8, 1))
    right = answer(((0, 5, 35, 25), 0.6, 0), ((5, 30, 40, 45), 0.7, 1), ((0, 5, 40, 25), 0.5, 2))
    found = merge_tiles(nothing, [left, right], windows, 0.5)
    assert found['labels'].tolist() == [0, 1, 2]
    assert found['boxes'].tolist() == [[60, 5, 115, 25], [85, 30, 120, 45], [80, 5, 120, 25]]
    np.testing.assert_allclose(found['scores'], [0.9, 0.7, 0.5])


def test_a_part_that_another_tile_has_whole_is_left_to_that_tile_whatever_its_class():
    windows = [(0, 0, 100, 50), (60, 0, 160, 50)]
    part = {'boxes': np.array([[75, 10, 100, 30]]), 'scores': np.ones(1), 'labels': np.array([7])}
    whole = {'boxes': np.array([[15, 10, 55, 30]]), 'scores': np.ones(1), 'labels': np.array([4])}
    nothing = {name: values[:0] for name, values in part.items()}
    found = merge_tiles(nothing, [part, whole], windows, 0.5)
    assert found['boxes'].tolist() == [[75, 10, 115, 30]]
    assert found['labels'].tolist() == [4]


def test_a_doubtful_box_of_the_image_as_a_whole_does_not_widen_a_cut_one():
    windows = [(0, 0, 100, 50), (80, 0, 180, 50)]
    cut = {'boxes': np.array([[60, 5, 100, 25]]), 'scores': np.ones(1), 'labels': np.zeros(1, int)}
    doubtful = cut | {'boxes': np.array([[20, 0, 180, 50]]), 'scores': np.array([0.1])}
    nothing = {name: values[:0] for name, values in cut.items()}
    found = merge_tiles(doubtful, [cut, nothing], windows, 0.5)
    assert found['boxes'].tolist() == [[60, 5, 100, 25]]


def test_an_image_no_larger_than_a_tile_is_predicted_as_without(trained, run, tmp_path):
    done = trained('detection')
    images = done.data_root / 'val2017'
    for name, options in (('plain', ()), ('sliced', ('--slice', 64)), ('tiles', ('--slice', 40))):
        options = *options, '--no-images', '--out-dir', tmp_path / name
        result = run('predict', done.as_run, done.checkpoint, images, *options)
        assert result.code == 0, result.printed
    plain, sliced, tiles = (
        (tmp_path / name / 'results.bbox.json').read_text() for name in ('plain', 'sliced', 'tiles')
    )
    assert plain == sliced
    assert len(json.loads(tiles)) != len(json.loads(plain))


def test_a_test_with_slices_measures_what_they_give(trained, run, tmp_path):
    done = trained('detection')
    options = '--slice', 64, '--out', tmp_path / 'metrics.json', '--work-dir', tmp_path / 'work'
    result = run('test', done.as_run, done.checkpoint, *options)
    assert result.code == 0, result.printed
    measured = json.loads((tmp_path / 'metrics.json').read_text())
    assert measured['metrics']['coco/bbox_mAP'] == done.logged('coco/bbox_mAP')[-1]


def test_slices_are_for_boxes(trained):
    done = trained('classification')
    with pytest.raises(ValueError, match='--slice is for detectors of boxes'):
        Predictor(done.as_run, done.checkpoint, 'cpu', tile=64)


@pytest.mark.parametrize(
    ('option', 'value', 'said'),
    [
        ('--slice', '0', "'0' is no number from 32 to 100000"),
        ('--slice', '1', "'1' is no number from 32"),
        ('--slice', 'wide', "'wide' is no number"),
        ('--overlap', '1', "'1' is no number from 0 to 0.9"),
        ('--overlap', 'nan', "'nan' is no number"),
        ('--batch-size', '-1', "'-1' is no number from 1"),
        ('--score-thr', '30', "'30' is no number from 0 to 1"),
    ],
)
def test_the_runner_refuses_numbers_that_make_no_sense(option, value, said, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['onnx_runner.py', 'none.onnx', 'x.png', f'{option}={value}'])
    with pytest.raises(SystemExit, match='2'):
        onnx_runner.main()
    assert said in capsys.readouterr().err


def test_tiles_of_a_few_pixels_are_refused(trained):
    done = trained('detection')
    with pytest.raises(ValueError, match='--slice 8: give 32 pixels or more'):
        Predictor(done.as_run, done.checkpoint, 'cpu', tile=8)
