"""One picture with boxes, or with classes beneath it, looked at pixel by pixel."""

import numpy as np
import pytest

from tresnet_det.evaluation.single_picture import SMALLEST, draw_boxes, draw_classes

NAMES = ['cat', 'dog']
BLUE, ORANGE = (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def columns_of(picture, colour, row):
    return np.flatnonzero((picture[row] == colour).all(-1))


def test_a_box_lies_on_its_pixels_in_its_classes_colour_and_the_picture_stays():
    picture = grey(500, 600)
    drawn = draw_boxes(
        picture, [[100, 200, 300, 400], [400, 200, 500, 400]], np.array([0, 1]), [0.9, 0.5], NAMES
    )
    assert (picture == 128).all()
    assert drawn.shape == picture.shape
    for colour, left, right in ((BLUE, 100, 299), (ORANGE, 400, 499)):
        found = columns_of(drawn, colour, 300)
        assert (found[0], found[-1]) == (left, right)
    assert (drawn[300, 200] == 128).all()


@pytest.mark.parametrize(('scores', 'colour'), [([0.9, 0.5], BLUE), ([0.5, 0.9], ORANGE)])
def test_of_two_boxes_at_one_place_the_surest_is_seen(scores, colour):
    box = [100, 200, 300, 400]
    drawn = draw_boxes(grey(500, 600), [box, box], np.array([0, 1]), scores, NAMES)
    seen = {tuple(pixel) for pixel in drawn[300].tolist()}
    assert seen & {BLUE, ORANGE} == {colour}


def test_a_small_picture_is_enlarged_with_its_boxes():
    drawn = draw_boxes(grey(50, 100), [[10, 20, 60, 40]], np.array([0]), [0.9], NAMES)
    assert drawn.shape == (200, SMALLEST, 3)
    found = columns_of(drawn, BLUE, 150)
    assert (found[0], found[-1]) == (40, 239)


@pytest.mark.parametrize('box', [[0, 0, 50, 50], [560, 0, 600, 30], [-20, 400, 620, 520]])
def test_a_name_stays_inside_the_picture(box):
    drawn = draw_boxes(grey(500, 600), [box], np.array([0]), [0.9], ['name'])
    bare = draw_boxes(grey(500, 600), [box], np.array([0]), [0.9], [''])
    assert (drawn != bare).any()


def test_without_boxes_the_picture_is_as_it_was():
    drawn = draw_boxes(grey(500, 600), np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), NAMES)
    assert (drawn == 128).all()


def test_a_bar_is_as_long_as_its_score():
    drawn = draw_classes(grey(480, 640), [('', 0.5), ('', 1.0)])
    assert (drawn[:480] == 128).all()
    text = drawn[480:]
    bar = (0xA9, 0xD8, 0xF3)
    rows = np.flatnonzero((text == bar).all(-1).any(1))
    half, full = (len(columns_of(text, bar, row)) for row in (rows[0], rows[-1]))
    assert half / full == pytest.approx(0.5, abs=0.01)


def test_frames_are_of_one_size_however_many_labels_they_have():
    lines = [(f'label {n}', 0.9) for n in range(9)]
    shapes = {draw_classes(grey(48, 64), lines[:n], rows=3).shape for n in (0, 1, 3, 9)}
    assert len(shapes) == 1


@pytest.mark.parametrize('shape', [(5, 3000), (3000, 5), (1, 1)])
def test_any_shape_of_picture_has_room_for_a_name(shape):
    drawn = draw_classes(grey(*shape), [('a name of some length', 0.5)])
    assert drawn.shape[1] >= 170
