"""One image with boxes and masks, or with classes beneath it, looked at pixel by pixel."""

import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as masks_of_coco

from tresnet_det.evaluation.draw import (
    SMALLEST,
    Line,
    _find_place,
    class_colour,
    draw_classes,
    draw_objects,
)

BLUE, ORANGE = (0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)
COLOURS = [class_colour(0), class_colour(1)]
DISTANCE = np.hypot(np.arange(500)[:, None] - 250, np.arange(600) - 300)
RING = (DISTANCE < 100) & (DISTANCE > 40)


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def columns_of(image, colour, row):
    return np.flatnonzero((image[row] == colour).all(-1))


def draw_boxes(image, boxes, names=('cat', 'dog'), **more):
    lines = [Line(name, colour=colour) for name, colour in zip(names, COLOURS, strict=False)]
    return draw_objects(image, boxes, lines[: len(boxes)], **more)


def draw_masks(image, masks, boxes=None):
    codes = [masks_of_coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    boxes = np.zeros((len(masks), 4)) if boxes is None else boxes
    return draw_boxes(image, boxes, masks=codes)


def test_a_box_is_on_its_pixels_in_its_colour_and_the_image_stays():
    image = grey(500, 600)
    drawn = draw_boxes(image, [[100, 200, 300, 400], [400, 200, 500, 400]])
    assert (image == 128).all()
    assert drawn.shape == image.shape
    for colour, left, right in ((BLUE, 100, 299), (ORANGE, 400, 499)):
        found = columns_of(drawn, colour, 300)
        assert (found[0], found[-1]) == (left, right)
    assert (drawn[300, 200] == 128).all()


def test_of_two_boxes_at_one_place_the_first_is_seen():
    drawn = draw_boxes(grey(500, 600), [[100, 200, 300, 400]] * 2)
    assert {tuple(pixel) for pixel in drawn[300].tolist()} & {BLUE, ORANGE} == {BLUE}


@pytest.mark.parametrize(
    ('size', 'side', 'shape', 'left', 'right'),
    [
        ((50, 100), None, (200, SMALLEST), 40, 239),
        ((50, 100), 288, (100, 200), 20, 119),
        ((500, 1000), 200, (100, 200), 2, 11),
    ],
)
def test_boxes_follow_an_image_that_is_resized(size, side, shape, left, right):
    drawn = draw_boxes(grey(*size), [[10, 20, 60, 40]], [''], side=side)
    assert drawn.shape == (*shape, 3)
    found = columns_of(drawn, BLUE, 30 * shape[0] // size[0])
    assert (found[0], found[-1]) == (left, right)


@pytest.mark.parametrize('box', [[0, 0, 50, 50], [560, 0, 600, 30], [-20, 400, 620, 520]])
def test_a_name_stays_inside_the_image(box):
    x1, y1, x2, y2 = _find_place(np.array(box), (90, 20), (600, 500), [])
    assert 0 <= x1 < x2 <= 600
    assert 0 <= y1 < y2 <= 500


def test_names_at_one_place_do_not_cover_each_other():
    taken = []
    for _ in range(4):
        taken.append(_find_place(np.array([100, 100, 300, 300]), (90, 20), (600, 500), taken))
    pixels = np.zeros((500, 600), int)
    for x1, y1, x2, y2 in np.array(taken).astype(int):
        pixels[y1:y2, x1:x2] += 1
    assert pixels.max() == 1


def test_long_names_swapped_corners_and_no_boxes_do_not_fail():
    assert (draw_boxes(grey(500, 600), []) == 128).all()
    drawn = draw_boxes(grey(20, 3000), [[50, 15, 10, 5], [0, 0, 1, 1]], ['W' * 500, ''])
    assert drawn.shape == (20, 3000, 3)
    assert draw_boxes(grey(1, 1), [[0, 0, 1, 1]]).shape == (SMALLEST, SMALLEST, 3)


@pytest.mark.parametrize('shade', [0, 255])
def test_a_mask_is_tinted_with_an_edge_and_the_rest_stays(shade):
    drawn = draw_masks(np.full((500, 600, 3), shade, np.uint8), [RING])
    tint = drawn[np.abs(DISTANCE - 70) < 25].astype(float)
    assert np.abs(tint - (0.55 * shade + 0.45 * np.array(BLUE))).max() <= 1
    assert (drawn[np.abs(DISTANCE - 70) > 35] == shade).all()
    # The ring's outermost and innermost pixels.
    assert {201, 259, 341, 399} <= set(columns_of(drawn, BLUE, 250).tolist())


def test_boxes_are_above_all_masks_and_the_first_mask_above_others():
    whole = np.ones((500, 600), bool)
    boxes = [[100, 200, 300, 400], [0, 0, 0, 0]]
    drawn = draw_masks(grey(500, 600), [whole, whole], boxes)
    bare = draw_boxes(grey(500, 600), boxes[:1])
    lines = (bare != 128).any(-1)
    assert (drawn[lines] == bare[lines]).all()
    expected = 0.55 * (0.55 * 128 + 0.45 * np.array(ORANGE)) + 0.45 * np.array(BLUE)
    assert np.abs(drawn[50, 500] - expected).max() <= 1


@pytest.mark.parametrize(('size', 'scale'), [((50, 100), 4), ((100, 200), 2)])
def test_a_mask_follows_a_small_image_that_is_enlarged(size, scale):
    mask = np.zeros(size, bool)
    mask[20:40, 10:60] = True
    changed = (draw_masks(grey(*size), [mask]) != 128).any(-1)
    assert changed[20 * scale : 40 * scale, 10 * scale : 60 * scale].all()
    changed[20 * scale - 4 : 40 * scale + 4, 10 * scale - 4 : 60 * scale + 4] = False  # its edge
    assert not changed.any()


@pytest.mark.parametrize('fill', [0, 1])
def test_a_mask_of_no_pixel_and_one_of_all_are_drawn(fill):
    drawn = draw_masks(grey(500, 600), [np.full((500, 600), fill)])
    assert (drawn[250, 300] == 128).all() == (fill == 0)


def test_many_masks_of_a_large_image_are_held_one_at_a_time():
    mask = np.zeros((500, 750), np.uint8, order='F')
    mask[25:475, 25:725] = 1
    image, codes = grey(500, 750), [masks_of_coco.encode(mask)] * 30
    tracemalloc.start()
    try:
        draw_objects(image, np.zeros((30, 4)), [Line('')] * 30, codes)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * image.nbytes  # all masks would be 10 times the image


def test_a_bar_is_as_long_as_its_score():
    text = draw_classes(grey(480, 640), [Line('', 0.5), Line('', 1.0)])[480:]
    pale = tuple(128 + part // 2 for part in BLUE)
    rows = np.flatnonzero((text == pale).all(-1).any(1))
    half, full = (len(columns_of(text, pale, row)) for row in (rows[0], rows[-1]))
    assert half / full == pytest.approx(0.5, abs=0.01)


def test_frames_are_of_one_size_however_many_labels_they_have():
    lines = [Line(f'label {n}', 0.9) for n in range(9)]
    shapes = {draw_classes(grey(48, 64), lines[:n], rows=3).shape for n in (0, 1, 3, 9)}
    assert len(shapes) == 1


@pytest.mark.parametrize('shape', [(5, 3000), (3000, 5), (1, 1)])
def test_any_shape_of_image_has_room_for_a_name(shape):
    drawn = draw_classes(grey(*shape), [Line('a name of some length', 0.5)])
    assert drawn.shape[1] >= 130
