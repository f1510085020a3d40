import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.evaluation import draw_classifications
from tresnet_det.evaluation.classification_figures import (
    FALSE,
    FOUND,
    MISSED,
    OTHER,
    UNKNOWN,
    judge_labels,
    judge_top,
)

NAMES = ['ant', 'bee', 'cow', 'dog']


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'grey.png'
    Image.new('RGB', (64, 64), (90, 90, 90)).save(path)
    return path


@pytest.fixture
def draw(image, tmp_path, figures):
    """Draw these scores; returns the line of counts, and of each image its texts and axes."""

    def call(scores, labels, multi_label, names=NAMES, **more):
        paths = [image] * len(scores)
        draw_classifications(
            paths, scores, labels, names, tmp_path / 'sheet.png', multi_label, **more
        )
        figure = figures[-1]
        cells = figure.axes[1::2]
        return figure.texts[1].get_text(), [[t.get_text() for t in c.texts] for c in cells], cells

    return call


def bars(axes):
    """Length of each class's bar as a share of its frame, and both colours of it."""
    pairs = zip(axes.patches[::2], axes.patches[1::2], strict=True)
    return [
        (bar.get_width() / frame.get_width(), to_hex(bar.get_facecolor()).upper(),
         to_hex(frame.get_edgecolor()).upper())
        for bar, frame in pairs
    ]  # fmt: skip


def test_one_label_has_its_surest_classes_beneath_the_truth(draw):
    scores = np.array([[0.1, 0.6, 0.05, 0.25], [0.5, 0.3, 0.2, 0.0], [0.4, 0.3, 0.2, 0.1]])
    line, (right, second, fourth), cells = draw(scores, [1, 1, 3], False)
    assert line == '3 images: 1 right'
    file, *right = right
    assert file == 'grey.png'
    assert right == ['truth: bee', '✓', 'bee', '0.60', 'dog', '0.25', 'ant', '0.10']
    assert second[1:] == ['truth: bee', '✗', 'ant', '0.50', '✓', 'bee', '0.30', 'cow', '0.20']
    assert fourth[1:] == ['truth: dog', '✗', 'ant', '0.40', 'bee', '0.30', 'cow', '0.20']
    expected = [(0.5, FALSE), (0.3, FOUND), (0.2, OTHER)]
    assert bars(cells[1]) == [
        (pytest.approx(score), look.edgecolor, look.edgecolor) for score, look in expected
    ]


def test_several_labels_are_found_wrong_missed_or_unknown(draw):
    scores = np.array([[0.9, 0.8, 0.3, 0.2], [0.1, 0.6, 0.4, 0.7]])
    line, (first, second), cells = draw(scores, [[1, 0, 1, 0], [0, 1, 1, -1]], True)
    assert line == ('2 images, labels predicted above the score 0.5: 2 found, 1 wrong, 2 missed')
    assert first[1:] == ['✓', 'ant', '0.90', '✗', 'bee', '0.80', '○', 'cow', '0.30']
    assert second[1:] == ['?', 'dog', '0.70', '✓', 'bee', '0.60', '○', 'cow', '0.40']
    looks = [look.edgecolor for look in (FOUND, FALSE, MISSED)]
    assert [frame for _, _, frame in bars(cells[0])] == looks
    assert len({FOUND[1:], FALSE[1:], MISSED[1:], UNKNOWN[1:]}) == 4
    assert len({look.mark for look in (FOUND, FALSE, MISSED, UNKNOWN, OTHER)}) == 5


def test_a_label_is_predicted_above_the_threshold_in_the_precision_of_the_scores():
    scores = np.array([0.3, 0.29, 0.31], np.float32)  # 0.3 in float32 is above 0.3
    assert [line.label for line in judge_labels(scores, None, 0.3)] == [2]


def test_equal_scores_go_to_the_lower_class_number():
    lines = judge_top(np.full(4, 0.25, np.float32), 1)
    assert [(line.label, line.verdict) for line in lines] == [(0, FALSE), (1, FOUND), (2, OTHER)]


@pytest.mark.parametrize('multi_label', [False, True])
def test_without_truth_there_are_no_marks(draw, figures, multi_label):
    line, ((_, *texts),), _ = draw([[0.6, 0.55, 0.1, 0.0]], None, multi_label, top=2)
    assert texts == ['ant', '0.60', 'bee', '0.55']
    assert line.startswith('1 image')
    assert not figures[0].legends[0].get_texts()


def test_title_limit_and_images_without_labels(draw, figures):
    scores = np.zeros((9, 4))
    line, texts, _ = draw(scores, np.zeros((9, 4), int), True, limit=7, title='Nothing')
    assert line.startswith('7 images')
    assert [part[1:] for part in texts] == [['no label']] * 7
    assert figures[0].texts[0].get_text() == 'Nothing'


def test_more_labels_than_there_is_room_for_are_counted(draw):
    names = [f'class {i}' for i in range(40)]
    line, (texts,), _ = draw(np.full((1, 40), 0.9), np.zeros((1, 40), int), True, names)
    assert texts.count('✗') == 11
    assert texts[-1] == 'and 29 more'
    assert line.endswith('0 found, 40 wrong, 0 missed')


@pytest.mark.parametrize('multi_label', [False, True])
def test_nothing_is_cut_off_or_overlaps(draw, figures, tmp_path, multi_label):
    wide = Image.new('RGB', (900, 300))
    wide.save(tmp_path / 'grey.png')
    names = ['W' * 80, 'a name of $5 and $10 bills, which are no formula', '', 'dog']
    truth = np.tile([1, 0, 1, -1], (7, 1)) if multi_label else np.zeros(7, int)
    _, texts, _ = draw(np.tile([0.9, 0.8, 0.1, 0.7], (7, 1)), truth, multi_label, names)
    assert any(text.startswith('WW') and text.endswith('…') for text in texts[0])
    assert any(text.startswith('a name of $5') and text.endswith('…') for text in texts[0])
    figure = figures[0]
    renderer = figure.canvas.get_renderer()
    boxes = [
        (artist.get_text(), artist.get_window_extent(renderer))
        for axes in figure.axes
        for artist in axes.texts
        if artist.get_text().strip()
    ]
    boxes += [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    boxes += [('image', axes.get_window_extent(renderer)) for axes in figure.axes[::2]]
    boxes += [('legend', figure.legends[0].get_window_extent(renderer))]
    for i, (name, box) in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width, name
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height, name
        for other, second in boxes[:i]:
            apart = min(box.x1, second.x1) - max(box.x0, second.x0) < 1
            assert apart or min(box.y1, second.y1) - max(box.y0, second.y0) < 1.5, (name, other)


def test_mistakes_are_named(image, tmp_path):
    def fail(error, match, paths, scores, labels, multi_label=False):
        with pytest.raises(error, match=match):
            draw_classifications(paths, scores, labels, ['a', 'b'], tmp_path / 'x.png', multi_label)

    fail(InputError, 'no image to draw', [], np.zeros((0, 2)), [])
    fail(InputError, r'here \(1, 2\), and are \(1, 3\)', [image], [[0.1, 0.2, 0.7]], [0])
    fail(InputError, r'labels must be \(1,\)', [image], [[0.1, 0.9]], [[0, 1]])
    fail(InputError, r'labels must be \(1, 2\)', [image], [[0.1, 0.9]], [0], True)
    fail(InputError, 'label 2 is none of the 2 classes', [image], [[0.1, 0.9]], [2])
    fail(InputError, 'label 3 is not 1, 0 or -1', [image], [[0.1, 0.9]], [[3, 0]], True)
    fail(InputError, 'is NaN', [image], [[np.nan, 0.9]], [1])
    fail(MissingFileError, 'is not there', ['no.jpg'], [[0.1, 0.9]], [1])
