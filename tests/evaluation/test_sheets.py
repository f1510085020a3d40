"""Which image, box, class and colour get on a sheet, and what its heading counts."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from PIL import Image

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.evaluation import draw
from tresnet_det.evaluation.draw import draw_classifications, draw_detections
from tresnet_det.evaluation.plots import BLUE, ORANGE, PURPLE
from tresnet_det.evaluation.verdicts import Objects, Verdict, judge_classes, match_objects
from tresnet_det.models import ClsDataSample

NAMES = ['ant', 'bee', 'cow', 'dog']
TRUTH = [[10, 10, 50, 50], [60, 60, 90, 90]], [0, 1]


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'grey.png'
    Image.new('RGB', (96, 96), (90, 90, 90)).save(path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn: the lines of each image, and of each sheet what its heading says."""
    calls = {'objects': [], 'classes': [], 'sheet': []}

    def record(name, key, keep):
        real = getattr(draw, name)

        def call(*args, **more):
            calls[key].append(keep(*args))
            return real(*args, **more)

        monkeypatch.setattr(draw, name, call)

    record('draw_objects', 'objects', lambda _, boxes, lines: lines)
    record('draw_classes', 'classes', lambda _, lines, *__: [line.text for line in lines])
    record('save_sheet', 'sheet', lambda tiles, _, sides, note, counts: (len(tiles), sides, note))
    return calls


def instances(boxes, labels, scores=None):
    scores = {} if scores is None else {'scores': torch.tensor(scores)}
    boxes = torch.tensor(boxes, dtype=torch.float).reshape(-1, 4)
    return InstanceData(bboxes=boxes, labels=torch.tensor(labels, dtype=torch.long), **scores)


def sample(path, truth=None, found=None):
    data = DetDataSample(metainfo={'img_path': str(path)}, gt_instances=InstanceData())
    if truth is not None:
        data.gt_instances = instances(*truth)
    if found is not None:
        data.pred_instances = instances(*found)
    return data


def scored(path, scores=None, label=None):
    data = ClsDataSample(metainfo={'img_path': str(path)})
    if scores is not None:
        data.pred_score = torch.as_tensor(scores)
    if label is not None:
        data.gt_label = label
    return data


def test_right_wrong_and_missed_objects_have_their_signs_and_colours(image, tmp_path, drawn):
    boxes = [[11, 10, 50, 50], [10, 10, 50, 50], [0, 60, 20, 90], [0, 0, 5, 5]]
    data = sample(image, TRUTH, (boxes, [0, 0, 1, 3], [0.75, 0.875, 0.5, 0.25]))
    draw_detections([data], NAMES, tmp_path / 'x.png')
    left, right = drawn['objects']
    assert left == [('✓ ant', None, BLUE), ('○ bee', None, PURPLE)]
    assert right == [  # each object is found once; a score below the threshold is not drawn
        ('✓ ant', 0.875, BLUE), ('✗ ant', 0.75, ORANGE),
        ('✗ bee', 0.5, ORANGE),
    ]  # fmt: skip
    note = ', score 0.3 or more, IoU 0.5 or more'
    assert drawn['sheet'] == [(1, {'ground truth', 'predictions'}, note)]


def test_ground_truth_or_predictions_alone(image, tmp_path, drawn):
    found = [[0, 0, 5, 5], [0, 0, 9, 9], [0, 0, 7, 7]], [0, 1, 2], [0.5, 0.125, 0.75]
    draw_detections([sample(image, found=found)], NAMES, tmp_path / 'x.png')
    draw_detections([sample(image, TRUTH)] * 2, NAMES, tmp_path / 'x.png')
    one, *two = drawn['objects']
    assert one == [('cow', 0.75, BLUE), ('ant', 0.5, BLUE)]
    assert two == [[('ant', None, BLUE), ('bee', None, BLUE)]] * 2
    assert drawn['sheet'] == [
        (1, {'predictions'}, ', score 0.3 or more'), (2, {'ground truth'}, '')
    ]  # fmt: skip


@pytest.mark.parametrize(('iou_thr', 'right'), [(0.33, True), (0.34, False)])
def test_overlap_by_hand(iou_thr, right):
    # 50 of 150 pixels in common.
    truth, found = (
        Objects(torch.tensor([box]), torch.tensor([0]), [0.9])
        for box in ([0.0, 0, 10, 10], [5.0, 0, 15, 10])
    )
    assert match_objects(found, truth, iou_thr) == ([right], [right])


def test_nothing_found_long_names_and_odd_sizes(tmp_path):
    paths = [tmp_path / f'{"n" * 100}_{n}.png' for n in range(3)]
    for path, size in zip(paths, [(2400, 800), (1, 1), (5, 900)], strict=True):
        Image.new('RGB', size).save(path)
    found = ([[0, 0, 1, 1]], [0], [0.9]), ([], [], []), ([], [], [])
    samples = [sample(path, ([], []), f) for path, f in zip(paths, found, strict=True)]
    draw_detections(samples, ['W' * 300], tmp_path / 'x.png')
    samples = [scored(path, [0.9], [0]) for path in paths]
    draw_classifications(samples, ['W' * 300], tmp_path / 'x.png', True)


def test_single_label_has_its_top_classes_beneath_the_ground_truth(image, tmp_path, drawn):
    scores = [[0.1, 0.6, 0.05, 0.25], [0.25, 0.25, 0.25, 0.25], [0.4, 0.3, 0.2, 0.1]]
    samples = [scored(image, *pair) for pair in zip(scores, [1, 1, 3], strict=True)]
    samples += [scored(image, scores[0]), scored(image, label=2)]
    draw_classifications(samples, NAMES, tmp_path / 'x.png', False)
    assert drawn['classes'] == [
        ['ground truth: bee', '✓ bee', 'dog', 'ant'],
        # Of equal scores, the lower number first.
        ['ground truth: bee', '✗ ant', '✓ bee', 'cow'],
        ['ground truth: dog', '✗ ant', 'bee', 'cow'],
        ['bee', 'dog', 'ant'],
        ['ground truth: cow'],
    ]


def test_multi_label_are_right_wrong_missed_or_unknown(image, tmp_path, drawn):
    scores = [[0.9, 0.8, 0.3, 0.2], [0.1, 0.6, 0.4, 0.7], [0.0, 0, 0, 0]]
    truth = [[1, 0, 1, 0], [0, 1, 1, -1], [0, 0, 0, 0]]
    samples = [scored(image, *pair) for pair in zip(scores, truth, strict=True)]
    draw_classifications(samples, NAMES, tmp_path / 'x.png', True)
    ok, bad, missed = '✓', '✗', '○'
    assert drawn['classes'] == [
        [f'{ok} ant', f'{bad} bee', f'{missed} cow'],
        ['? dog', f'{ok} bee', f'{missed} cow'],
        [],
    ]
    assert drawn['sheet'][0][2] == ', score above 0.5'


def test_a_label_is_predicted_above_the_threshold_in_the_precision_of_the_scores():
    scores = np.array([0.3, 0.29, 0.31], np.float32)  # 0.3 in float32 is above 0.3
    assert judge_classes(scores, None, True, 0.3) == [(Verdict.PLAIN, 2)]


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / 'text.png').write_text('no image')
    for name, error in (('text.png', InputError), ('no.jpg', MissingFileError)):
        with pytest.raises(error, match=name):
            draw_detections([sample(tmp_path / name, TRUTH)], NAMES, tmp_path / 'x.png')
