"""One image with boxes and masks, or with classes beneath it, looked at pixel by pixel."""

import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as masks_of_coco

from tresnet_det.evaluation.single_image import SMALLEST, draw_boxes, draw_classes

NAMES = ['cat', 'dog']
BLUE, ORANGE = (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def columns_of(image, colour, row):
    return np.flatnonzero((image[row] == colour).all(-1))


def test_a_box_lies_on_its_pixels_in_its_classes_colour_and_the_image_stays():
    image = grey(500, 600)
    drawn = draw_boxes(
        image, [[100, 200, 300, 400], [400, 200, 500, 400]], np.array([0, 1]), [0.9, 0.5], NAMES
    )
    assert (image == 128).all()
    assert drawn.shape == image.shape
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


def test_a_small_image_is_enlarged_with_its_boxes():
    drawn = draw_boxes(grey(50, 100), [[10, 20, 60, 40]], np.array([0]), [0.9], NAMES)
    assert drawn.shape == (200, SMALLEST, 3)
    found = columns_of(drawn, BLUE, 150)
    assert (found[0], found[-1]) == (40, 239)


@pytest.mark.parametrize('box', [[0, 0, 50, 50], [560, 0, 600, 30], [-20, 400, 620, 520]])
def test_a_name_stays_inside_the_image(box):
    drawn = draw_boxes(grey(500, 600), [box], np.array([0]), [0.9], ['name'])
    bare = draw_boxes(grey(500, 600), [box], np.array([0]), [0.9], [''])
    assert (drawn != bare).any()


def test_without_boxes_the_image_is_as_it_was():
    drawn = draw_boxes(grey(500, 600), np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), NAMES)
    assert (drawn == 128).all()


def encode(mask):
    return masks_of_coco.encode(np.asfortranarray(mask.astype(np.uint8)))


DISTANCE = np.hypot(np.arange(500)[:, None] - 250, np.arange(600) - 300)
RING = (DISTANCE < 100) & (DISTANCE > 40)


def draw_masks(image, masks, labels, scores=None, boxes=None):
    labels = np.array(labels)
    boxes = np.zeros((len(labels), 4)) if boxes is None else boxes
    scores = np.linspace(1, 0.5, len(labels)) if scores is None else scores
    return draw_boxes(image, boxes, labels, scores, NAMES, [encode(mask) for mask in masks])


@pytest.mark.parametrize('shade', [0, 128, 255])
def test_a_mask_is_tinted_in_its_classes_colour_with_an_edge_and_the_rest_stays(shade):
    image = np.full((500, 600, 3), shade, np.uint8)
    drawn = draw_masks(image, [RING], [0])
    assert (image == shade).all()
    tint = drawn[np.abs(DISTANCE - 70) < 25].astype(float)
    assert np.abs(tint - (0.55 * shade + 0.45 * np.array(BLUE))).max() <= 1
    assert (drawn[np.abs(DISTANCE - 70) > 35] == shade).all()
    edge = set(columns_of(drawn, BLUE, 250).tolist())
    assert {201, 259, 341, 399} <= edge  # the ring's outermost and innermost pixels
    assert drawn[250, [199, 203, 397, 401]].max() < 60  # dark on both sides


def test_a_box_of_zeros_is_not_drawn_but_its_mask_is():
    drawn = draw_masks(grey(500, 600), [RING], [1])
    assert (drawn[:100] == 128).all()
    assert (drawn[:, :100] == 128).all()
    assert (drawn[250] == ORANGE).all(-1).any()


def test_box_and_name_lie_above_all_masks():
    whole = np.ones((500, 600), bool)
    boxes = [[100, 200, 300, 400], [0, 0, 0, 0]]
    drawn = draw_masks(grey(500, 600), [whole, whole], [0, 1], [0.5, 0.9], boxes)
    bare = draw_boxes(grey(500, 600), boxes[:1], np.array([0]), [0.5], NAMES)
    lines = (bare != 128).any(-1)
    assert (drawn[lines] == bare[lines]).all()


def test_of_two_masks_the_surest_is_on_top():
    half = np.zeros((500, 600), bool)
    half[100:400, 100:350] = True
    seen = [
        draw_masks(grey(500, 600), [half, half], [0, 1], scores)[250, 225].astype(int)
        for scores in ([0.9, 0.5], [0.5, 0.9])
    ]
    for pixel, colour in zip(seen, (BLUE, ORANGE), strict=True):
        below = ORANGE if colour == BLUE else BLUE
        expected = 0.55 * (0.55 * 128 + 0.45 * np.array(below)) + 0.45 * np.array(colour)
        assert np.abs(pixel - expected).max() <= 1


def test_a_small_image_is_enlarged_with_its_masks():
    mask = np.zeros((50, 100), bool)
    mask[20:40, 10:60] = True
    drawn = draw_masks(grey(50, 100), [mask], [0])
    assert drawn.shape == (200, SMALLEST, 3)
    changed = (drawn != 128).any(-1)
    assert changed[80:160, 40:240].all()
    changed[76:164, 36:244] = False  # the mask and its edge
    assert not changed.any()


@pytest.mark.parametrize('fill', [0, 1])
def test_a_mask_of_no_pixel_and_one_of_all_are_drawn(fill):
    drawn = draw_masks(grey(500, 600), [np.full((500, 600), fill)], [0])
    assert (drawn[250, 300] == 128).all() == (fill == 0)


def test_many_masks_of_a_large_image_are_held_one_at_a_time():
    size = (1000, 1500)
    mask = np.zeros(size, bool)
    mask[50:950, 50:1450] = True
    image, codes = grey(*size), [encode(mask)] * 50
    arguments = (image, np.zeros((50, 4)), np.zeros(50, int), np.ones(50), NAMES, codes)
    tracemalloc.start()
    try:
        draw_boxes(*arguments)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * image.nbytes  # all masks would be 17 times the image


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
def test_any_shape_of_image_has_room_for_a_name(shape):
    drawn = draw_classes(grey(*shape), [('a name of some length', 0.5)])
    assert drawn.shape[1] >= 170
