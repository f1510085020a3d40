"""Which image, box, name and colour get on a sheet, and what its heading counts."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.evaluation import draw_classifications, draw_predictions, sheets
from tresnet_det.evaluation.sheets import FOUND, MISSED, OTHER, PLAIN, UNKNOWN, WRONG

TRUTH = {'bboxes': [[10, 10, 50, 50], [60, 60, 90, 90]], 'labels': [0, 1]}
NAMES = ['ant', 'bee', 'cow', 'dog']


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'grey.png'
    Image.new('RGB', (96, 96), (90, 90, 90)).save(path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """Arguments of what was drawn: ``objects`` and ``classes`` per image, ``sheet`` at last."""
    calls = {'objects': [], 'classes': [], 'sheet': []}

    def record(name, key, keep):
        real = getattr(sheets, name)

        def call(*args, **more):
            calls[key].append(keep(*args))
            return real(*args, **more)

        monkeypatch.setattr(sheets, name, call)

    record(
        'draw_objects',
        'objects',
        lambda _, boxes, names, colours: list(zip(names, colours, strict=True)),
    )
    record('draw_classes', 'classes', lambda _, lines, *__: [line.text for line in lines])
    record('save_sheet', 'sheet', lambda tiles, _, title, note, legend: (len(tiles), title, note))
    return calls


def found(boxes, labels, scores):
    return {'bboxes': np.array(boxes, dtype=float), 'labels': labels, 'scores': scores}


def test_found_missed_wrong_and_crowd_have_their_names_and_colours(image, tmp_path, drawn):
    truth = {'bboxes': [*TRUTH['bboxes'], [0, 60, 20, 90]], 'labels': [0, 1, 0],
             'iscrowd': [0, 1, 0]}  # fmt: skip
    boxes = [[11, 10, 50, 50], [10, 10, 50, 50], [60, 60, 90, 90], [0, 0, 5, 5]]
    prediction = found(boxes, [0, 0, 1, 9], [0.8, 0.9, 0.7, 0.2])
    draw_predictions([image], [prediction], [truth], NAMES, tmp_path / 'x.png')
    left, right = drawn['objects']
    assert left == [('ant', FOUND.colour), ('? bee', UNKNOWN.colour), ('○ ant', MISSED.colour)]
    assert right == [  # each object is found once, and crowds never
        ('ant 0.90', FOUND.colour), ('✗ ant 0.80', WRONG.colour), ('✗ bee 0.70', WRONG.colour),
    ]  # fmt: skip
    ((count, title, note),) = drawn['sheet']
    assert (count, title) == (1, 'Ground truth and predictions')
    assert note == (
        '1 image, predictions with a score of 0.3 or more: 1 of 2 objects found, 2 wrong'
    )
    colours = {colour for _, colour in left + right}
    assert len(colours) == 4


def test_the_box_is_on_the_object(image, tmp_path):
    boxes = found([[10, 10, 50, 50]], [0], [1.0])
    draw_predictions([image], [boxes], None, [''], tmp_path / 'x.png')
    pixels = np.asarray(Image.open(tmp_path / 'x.png'))
    grey = (pixels == 90).all(-1)
    rows, columns = np.flatnonzero(grey.sum(1) > 100), np.flatnonzero(grey.sum(0) > 100)
    top, left = rows[0], columns[0]
    assert (rows[-1] - top, columns[-1] - left) == (287, 287)  # three times as large
    row = (pixels[top + 120] == (0x56, 0xB4, 0xE9)).all(-1).nonzero()[0]
    assert (row.min() - left, row.max() - left) == (30, 149)


def test_ground_truth_or_predictions_alone_in_any_structure(image, tmp_path, drawn):
    data = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 5, 5], [0, 0, 9, 9], [0, 0, 7, 7]]),
        labels=torch.tensor([0, 1, 7]),
        scores=torch.tensor([0.5, 0.1, 0.9]),
    )
    draw_predictions([image], [data], None, NAMES, tmp_path / 'x.png')
    draw_predictions([image] * 3, None, [TRUTH] * 3, NAMES, tmp_path / 'x.png', limit=2)
    blue = PLAIN.colour
    one, *two = drawn['objects']
    assert one == [('label 7 0.90', blue), ('ant 0.50', blue)]
    assert two == [[('ant', blue), ('bee', blue)]] * 2
    assert [sheet[1:] for sheet in drawn['sheet']] == [
        ('Predictions', '1 image, predictions with a score of 0.3 or more'),
        ('Ground truth', '2 images'),
    ]


@pytest.mark.parametrize(('iou_thr', 'verdict'), [(0.33, FOUND), (0.34, WRONG)])
def test_overlap_by_hand(image, tmp_path, drawn, iou_thr, verdict):
    truth = {'bboxes': [[0, 0, 10, 10]], 'labels': [0]}
    prediction = found([[5, 0, 15, 10]], [0], [0.9])  # 50 of 150 pixels in common
    draw_predictions([image], [prediction], [truth], ['a'], tmp_path / 'x.png', iou_thr=iou_thr)
    assert drawn['objects'][1][0][1] == verdict.colour


def test_nothing_found_long_names_and_odd_sizes(tmp_path, drawn):
    paths = [tmp_path / f'{"n" * 100}_{n}.png' for n in range(3)]
    for path, size in zip(paths, [(2400, 800), (1, 1), (5, 900)], strict=True):
        Image.new('RGB', size).save(path)
    empty = {'bboxes': np.zeros((0, 4)), 'labels': []}
    predictions = [found([], [], []), found([[0, 0, 1, 1]], [0], [0.9]), found([], [], [])]
    draw_predictions(paths, predictions, [empty] * 3, ['W' * 300], tmp_path / 'x.png')
    assert drawn['sheet'][0][2].endswith('0 of 0 objects found, 1 wrong')
    draw_classifications(paths, [[0.9]] * 3, [[0]] * 3, ['W' * 300], tmp_path / 'x.png', True)


def test_single_label_has_its_top_classes_beneath_the_ground_truth(image, tmp_path, drawn):
    scores = [[0.1, 0.6, 0.05, 0.25], [0.25, 0.25, 0.25, 0.25], [0.4, 0.3, 0.2, 0.1]]
    draw_classifications([image] * 3, scores, [1, 1, 3], NAMES, tmp_path / 'x.png', False)
    assert drawn['classes'] == [
        ['ground truth: bee', '✓ bee', 'dog', 'ant'],
        ['ground truth: bee', '✗ ant', '✓ bee', 'cow'],  # of equal scores, the lower number first
        ['ground truth: dog', '✗ ant', 'bee', 'cow'],
    ]
    assert drawn['sheet'][0][2] == '3 images: 1 right'


def test_multi_label_are_found_wrong_missed_or_unknown(image, tmp_path, drawn):
    scores = np.array([[0.9, 0.8, 0.3, 0.2], [0.1, 0.6, 0.4, 0.7], [0, 0, 0, 0]])
    truth = [[1, 0, 1, 0], [0, 1, 1, -1], [0, 0, 0, 0]]
    draw_classifications([image] * 3, scores, truth, NAMES, tmp_path / 'x.png', True)
    assert drawn['classes'] == [['✓ ant', '✗ bee', '○ cow'], ['? dog', '✓ bee', '○ cow'], []]
    note = '3 images, labels predicted above a score of 0.5: 2 found, 1 wrong, 2 missed'
    assert drawn['sheet'][0][2] == note
    verdicts = (FOUND, WRONG, MISSED, UNKNOWN, OTHER)
    assert len({v.sign for v in verdicts}) == len({v.colour for v in verdicts}) == 5


def test_a_label_is_predicted_above_the_threshold_in_the_precision_of_the_scores():
    scores = np.array([0.3, 0.29, 0.31], np.float32)  # 0.3 in float32 is above 0.3
    assert [label for _, label in sheets.judge_labels(scores, None, 0.3)] == [2]


def test_classes_alone(image, tmp_path, drawn):
    path = tmp_path / 'x.png'
    draw_classifications([image], [[0.6, 0.5, 0.1, 0]], None, NAMES, path, False, top=2)
    draw_classifications([image] * 3, None, [2, 0, 1], NAMES, path, False, limit=2, title='T')
    assert drawn['classes'] == [['ant', 'bee'], ['ground truth: cow'], ['ground truth: ant']]
    assert drawn['sheet'] == [(1, 'Predictions', '1 image'), (2, 'T', '2 images')]


def test_mistakes_are_named(image, tmp_path):
    out = tmp_path / 'x.png'
    (tmp_path / 'text.png').write_text('no image')

    def fail_objects(error, match, paths, predictions, truth):
        with pytest.raises(error, match=match):
            draw_predictions(paths, predictions, truth, ['a'], out)

    nothing = found([], [], [])
    fail_objects(InputError, '1, 2, 1', [image], [nothing] * 2, [TRUTH])
    fail_objects(InputError, 'at least one image', [], [], [])
    fail_objects(InputError, r'text\.png: ', [tmp_path / 'text.png'], [nothing], None)
    fail_objects(MissingFileError, r'no\.jpg', ['no.jpg'], [nothing], [TRUTH])

    def fail(match, scores, labels, multi_label=False):
        with pytest.raises(InputError, match=match):
            draw_classifications([image], scores, labels, ['a', 'b'], out, multi_label)

    fail(r'here \(1, 2\), and are \(1, 3\)', [[0.1, 0.2, 0.7]], [0])
    fail(r'labels must be \(1,\)', [[0.1, 0.9]], [[0, 1]])
    fail(r'labels must be \(1, 2\)', [[0.1, 0.9]], [0], True)
    fail('label 2 is none of the 2 classes', [[0.1, 0.9]], [2])
    fail('label 3 is not 1, 0 or -1', [[0.1, 0.9]], [[3, 0]], True)
    fail('is NaN', [[np.nan, 0.9]], [1])
