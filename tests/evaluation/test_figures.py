import itertools

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from mmengine.structures import InstanceData
from PIL import Image

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.evaluation import draw_predictions
from tresnet_det.evaluation.figures import CROWD, RIGHT, WRONG

TRUTH = {'bboxes': [[10, 10, 50, 50], [60, 60, 90, 90]], 'labels': [0, 1]}


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'grey.png'
    Image.new('RGB', (96, 96), (90, 90, 90)).save(path)
    return path


def found(boxes, labels, scores):
    return {'bboxes': np.array(boxes, dtype=float), 'labels': labels, 'scores': scores}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def edges(axes):
    return [to_hex(box.get_edgecolor()).upper() for box in axes.patches]


BLUE, ORANGE = RIGHT['edgecolor'], WRONG['edgecolor']


@pytest.mark.parametrize(
    ('labels', 'colour', 'line'),
    [
        ([0, 1], BLUE, '2 of 2 objects found, 0 predictions wrong'),
        ([1, 0], ORANGE, '0 of 2 objects found, 2 predictions wrong'),
    ],
)
def test_right_and_wrong_have_their_colours(image, tmp_path, figures, labels, colour, line):
    prediction = found(TRUTH['bboxes'], labels, [0.9, 0.8])
    draw_predictions([image], [prediction], [TRUTH], ['cat', 'dog'], tmp_path / 'sheet.png')
    assert [edges(axes) for axes in figures[0].axes] == [[colour] * 2] * 2
    assert figures[0].texts[1].get_text().endswith(line)
    pixels = np.asarray(Image.open(tmp_path / 'sheet.png'))[..., :3]
    shown = {hex: (pixels == [int(hex[i : i + 2], 16) for i in (1, 3, 5)]).all(-1).sum()
             for hex in (BLUE, ORANGE)}  # fmt: skip
    assert shown[colour] > 3 * min(shown.values())  # the legend shows both each time


def test_sheet_has_two_panels_with_truth_and_one_without(image, tmp_path):
    predictions = [found([[10, 10, 50, 50]], [0], [0.9])] * 3
    draw_predictions([image] * 3, predictions, [TRUTH] * 3, ['a', 'b'], tmp_path / 'both.png')
    draw_predictions([image] * 3, predictions, None, ['a', 'b'], tmp_path / 'one.png')
    both, one = Image.open(tmp_path / 'both.png'), Image.open(tmp_path / 'one.png')
    assert both.width == 2 * one.width


def test_score_threshold_and_instance_data(image, tmp_path, figures):
    data = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 5, 5], [0, 0, 9, 9], [0, 0, 7, 7]]),
        labels=torch.tensor([0, 1, 2]),
        scores=torch.tensor([0.5, 0.1, 0.9]),
    )
    draw_predictions([image], [data], None, ['a', 'b', 'c'], tmp_path / 'x.png', score_thr=0.3)
    assert texts(figures[0].axes[0]) == ['c 0.90', 'a 0.50']  # the smaller on top


def test_each_object_is_found_once_and_crowds_never(image, tmp_path, figures):
    truth = {**TRUTH, 'iscrowd': [0, 1]}
    boxes = [[11, 10, 50, 50], [10, 10, 50, 50], [60, 60, 90, 90]]
    prediction = found(boxes, [0, 0, 1], [0.8, 0.9, 0.7])
    draw_predictions([image], [prediction], [truth], ['cat', 'dog'], tmp_path / 'x.png')
    left, right = figures[0].axes
    assert dict(zip(texts(left), edges(left), strict=True)) == {
        'cat': BLUE, 'dog (crowd)': CROWD['edgecolor'],
    }  # fmt: skip
    assert dict(zip(texts(right), edges(right), strict=True)) == {
        'cat 0.90': BLUE, 'cat 0.80': ORANGE, 'dog 0.70': ORANGE,
    }  # fmt: skip


def test_the_names_of_two_predictions_at_one_place_do_not_cover_each_other(
    image, tmp_path, figures
):
    boxes = [[30, 30, 70, 70], [31, 30, 69, 69], [2, 2, 20, 20]]
    draw_predictions(
        [image], [found(boxes, [0, 1, 2], [0.9, 0.8, 0.7])], None, ['a', 'b', 'c'],
        tmp_path / 'x.png',
    )  # fmt: skip
    (axes,) = figures[0].axes
    renderer = axes.figure.canvas.get_renderer()
    spots = [text.get_window_extent(renderer) for text in axes.texts]
    assert sorted(texts(axes)) == ['a 0.90', 'b 0.80', 'c 0.70']
    assert not any(a.overlaps(b) for a, b in itertools.combinations(spots, 2))


@pytest.mark.parametrize(('iou_thr', 'colour'), [(0.33, BLUE), (0.34, ORANGE)])
def test_overlap_by_hand(image, tmp_path, figures, iou_thr, colour):
    truth = {'bboxes': [[0, 0, 10, 10]], 'labels': [0]}
    prediction = found([[5, 0, 15, 10]], [0], [0.9])  # 50 of 150 pixels in common
    sheet = tmp_path / 'x.png'
    draw_predictions([image], [prediction], [truth], ['a'], sheet, iou_thr=iou_thr)
    assert edges(figures[0].axes[1]) == [colour]


def test_empty_predictions_large_images_and_unknown_labels(tmp_path, figures):
    path = tmp_path / 'large.jpg'
    Image.new('RGB', (2400, 800)).save(path)
    truth = {'bboxes': np.zeros((0, 4)), 'labels': []}
    predictions = [found([], [], []), found([[0, 0, 2400, 800]], [7], [0.9])]
    draw_predictions([path] * 2, predictions, [truth] * 2, ['cat'], tmp_path / 'sheet.png')
    panels = figures[0].axes
    assert [texts(axes) for axes in panels] == [[], [], [], ['label 7 0.90']]
    assert [axes.images[0].get_size() for axes in panels] == [(333, 1000)] * 4  # of (800, 2400)
    (box,) = panels[3].patches
    assert (box.get_x(), box.get_y(), box.get_width()) == (-0.5, -0.5, 1000)
    assert box.get_height() == pytest.approx(333, abs=1)
    assert panels[0].get_title('left') == 'truth: large.jpg'
    line = '2 images, predictions with score 0.3 or more: 0 of 0 objects found, 1 prediction'
    assert figures[0].texts[1].get_text() == f'{line} wrong'
    size = figures[0].get_size_inches() * figures[0].dpi
    assert Image.open(tmp_path / 'sheet.png').size == pytest.approx(size, abs=1)
    assert 2 < size[0] / size[1] < 10  # two pairs of panels in a row, each three times as wide


def test_mistakes_are_named(image, tmp_path):
    nothing = found([], [], [])
    with pytest.raises(InputError, match='1, 2 and 1'):
        draw_predictions([image], [nothing] * 2, [TRUTH], ['a'], tmp_path / 'x.png')
    with pytest.raises(InputError, match='no image to draw'):
        draw_predictions([], [], [], ['a'], tmp_path / 'x.png')
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(InputError, match=r'text\.png: not an image that can be decoded'):
        draw_predictions([tmp_path / 'text.png'], [nothing], [TRUTH], ['a'], tmp_path / 'x.png')
    with pytest.raises(MissingFileError, match='is not there'):
        draw_predictions(['no.jpg'], [nothing], [TRUTH], ['a'], tmp_path / 'x.png')
