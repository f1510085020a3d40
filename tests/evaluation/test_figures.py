import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.evaluation import draw_predictions
from tresnet_det.evaluation.figures import _as_arrays, _iou, _match

TRUTH = {'bboxes': [[10, 10, 50, 50], [60, 60, 90, 90]], 'labels': [0, 1]}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / 'grey.png'
    Image.new('RGB', (96, 96), (90, 90, 90)).save(path)
    return path


def found(boxes, labels, scores):
    return {'bboxes': np.array(boxes, dtype=float), 'labels': labels, 'scores': scores}


def count(path, colour):
    return (np.asarray(Image.open(path))[..., :3] == colour).all(axis=-1).sum()


BLUE, ORANGE = (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)


def test_right_and_wrong_have_their_colours(picture, tmp_path):
    out = tmp_path / 'sheet.png'
    boxes = [[10, 10, 50, 50], [60, 60, 90, 90]]
    draw_predictions([picture], [found(boxes, [0, 1], [0.9, 0.8])], [TRUTH], ['cat', 'dog'], out)
    all_right = count(out, BLUE), count(out, ORANGE)
    draw_predictions([picture], [found(boxes, [1, 0], [0.9, 0.8])], [TRUTH], ['cat', 'dog'], out)
    all_wrong = count(out, BLUE), count(out, ORANGE)  # the legend shows both each time
    assert all_right[0] > 3 * all_wrong[0]
    assert all_wrong[1] > 3 * all_right[1]


def test_sheet_has_two_panels_with_truth_and_one_without(picture, tmp_path):
    predictions = [found([[10, 10, 50, 50]], [0], [0.9])] * 3
    draw_predictions([picture] * 3, predictions, [TRUTH] * 3, ['a', 'b'], tmp_path / 'both.png')
    draw_predictions([picture] * 3, predictions, None, ['a', 'b'], tmp_path / 'one.png')
    both, one = Image.open(tmp_path / 'both.png'), Image.open(tmp_path / 'one.png')
    assert both.width == 2 * one.width


def test_score_threshold_and_instance_data():
    data = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 5, 5], [0, 0, 9, 9], [0, 0, 7, 7]]),
        labels=torch.tensor([0, 1, 2]),
        scores=torch.tensor([0.5, 0.1, 0.9]),
    )
    arrays = _as_arrays(data, score_thr=0.3)
    assert arrays['labels'].tolist() == [2, 0]  # best first


def test_each_object_is_found_once_and_crowds_never():
    truth = _as_arrays({**TRUTH, 'iscrowd': [0, 1]})
    boxes = [[10, 10, 50, 50], [11, 10, 50, 50], [60, 60, 90, 90]]
    hit, taken = _match(truth, _as_arrays(found(boxes, [0, 0, 1], [0.9, 0.8, 0.7])), 0.5)
    assert hit.tolist() == [True, False, False]
    assert taken.tolist() == [True, False]


def test_overlap_by_hand():
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], dtype=float)
    assert _iou(others[0], others) == pytest.approx([1, 1 / 3, 0])


def test_empty_predictions_large_pictures_and_unknown_labels(tmp_path):
    path = tmp_path / 'large.jpg'
    Image.new('RGB', (2400, 800)).save(path)
    truth = {'bboxes': np.zeros((0, 4)), 'labels': []}
    predictions = [found([], [], []), found([[0, 0, 2400, 800]], [7], [0.9])]
    draw_predictions([path] * 2, predictions, [truth] * 2, ['cat'], tmp_path / 'sheet.png')
    assert (tmp_path / 'sheet.png').stat().st_size > 0


def test_mistakes_are_named(picture, tmp_path):
    nothing = found([], [], [])
    with pytest.raises(InputError, match='1, 2 and 1'):
        draw_predictions([picture], [nothing] * 2, [TRUTH], ['a'], tmp_path / 'x.png')
    with pytest.raises(InputError, match='no picture to draw'):
        draw_predictions([], [], [], ['a'], tmp_path / 'x.png')
    with pytest.raises(MissingFileError, match='is not there'):
        draw_predictions(['no.jpg'], [nothing], [TRUTH], ['a'], tmp_path / 'x.png')
