"""What the Python API returns of an image, and what it takes for one."""

import io
import json
import pickle
import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from tresnet_det import Predictor, Result
from tresnet_det.errors import InputError


@pytest.fixture(scope='module')
def models(trained):
    found = {}

    def call(task):
        if task not in found:
            found[task] = Predictor(trained(task).work_dir, device='cpu')
        return found[task]

    return call


@pytest.fixture(scope='module')
def files(demo_data):
    return sorted((demo_data / 'val2017').glob('*.png'))


def columns(result):
    return result.boxes, result.scores, result.labels, result.class_scores, result.masks


def assert_same(result, other):
    for one, two in zip(columns(result), columns(other), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('task', ['detection', 'multilabel', 'classification'])
def test_predictions_are_those_of_the_tool(task, models, files, run, trained, tmp_path):
    mixed = [*map(str, files), tmp_path / 'wide.png', str(tmp_path / 'long.png')]
    for file, shape in zip(mixed[-2:], ((40, 90, 3), (90, 40, 3)), strict=True):
        cv2.imwrite(str(file), np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8))
    out, options = tmp_path / 'out', ('--batch-size', 3, '--device', 'cpu', '--format', 'csv')
    done = trained(task)
    result = run('predict', done.as_run, done.checkpoint, *mixed, '--out-dir', out, *options)
    assert result.code == 0, result.printed
    predictor = Predictor(done.checkpoint, device='cpu')  # its config is next to it
    shown = predictor(mixed, batch_size=3)
    every = predictor(mixed, batch_size=3, threshold=0)
    assert [type(one) for one in every] == [Result] * len(mixed)
    written = json.loads(next(out.glob('results*.json')).read_text())
    if task == 'detection':
        assert sum((one.to_coco(n) for n, one in enumerate(every, 1)), []) == written
        assert len(written) > sum(map(len, shown)) > 0
        for one in shown:
            assert (one.scores >= np.float64(0.3)).all()
    else:
        for one, entry in zip(shown, written, strict=True):
            pairs = zip(one.names, one.labels.tolist(), one.scores.tolist(), strict=True)
            expected = [(p['class'], p['label'], p['score']) for p in entry['predictions']]
            assert list(pairs) == expected
            assert (one.boxes, one.masks) == (None, None)
            np.testing.assert_array_equal(one.class_scores[one.labels], one.scores)
            assert one.class_scores.shape == (len(predictor.classes),)
    drawn = [np.asarray(Image.open(file)) for file in sorted((out / 'images').iterdir())]
    by_name = sorted(shown, key=lambda one: str(one.source).rpartition('/')[2])
    for image, one in zip(drawn, by_name, strict=True):
        np.testing.assert_array_equal(one.plot(), image)


def test_of_one_label_the_top_classes_are_given_and_of_several_those_above_the_threshold(
    models, files
):
    one = models('classification')(files[0], top=2)
    assert len(one) == len(one.names) == 2
    assert one.class_scores.sum() == pytest.approx(1)
    several = models('multilabel')(files[0], threshold=0.25)
    assert set(several.labels) == set(np.flatnonzero(several.class_scores > 0.25))


def test_types_and_shapes_are_as_promised(models, files):
    result = models('detection')(files[0], threshold=0.0)
    count = len(result)
    assert count > 0
    assert (result.boxes.shape, result.boxes.dtype) == ((count, 4), np.float32)
    assert (result.scores.shape, result.scores.dtype) == ((count,), np.float32)
    assert (result.labels.shape, result.labels.dtype) == ((count,), np.int64)
    assert result.names == [str(label) for label in result.labels]  # digits
    assert result.masks is None
    assert result.ori_shape == (64, 64)
    assert sorted(result.scores, reverse=True) == result.scores.tolist()
    with pytest.raises(AttributeError):
        result.boxes = None
    assert_same(pickle.loads(pickle.dumps(result)), result)
    assert repr(result).startswith(f'Result({count} objects: ')


def variants(image):
    """An image as Pillow has it in many kinds, each with what it is in RGB by hand."""
    grey = image[..., 0]
    yield 'grey', Image.fromarray(grey), np.dstack([grey] * 3)
    alpha = np.dstack([image, np.full(grey.shape, 7, np.uint8)])
    yield 'alpha', Image.fromarray(alpha, 'RGBA'), image
    few = image // 128 * 255  # colours that fit a palette
    yield 'palette', Image.fromarray(few).quantize(8), few
    deep = grey.astype(np.uint16) * 256 + 9
    yield '16 bits', Image.fromarray(deep), np.dstack([grey] * 3)
    yield 'bits', Image.fromarray(grey > 127), np.dstack([(grey > 127).astype(np.uint8) * 255] * 3)


@pytest.mark.parametrize('task', ['detection', 'classification'])
def test_an_image_is_the_same_as_file_array_and_pillow_image(task, models, tmp_path):
    predictor = models(task)
    rng = np.random.default_rng(0)
    for name, pillow, rgb in variants(rng.integers(256, size=(48, 72, 3), dtype=np.uint8)):
        path = tmp_path / f'{name}.png'
        pillow.save(path)
        by_array, *others = predictor([rgb, path, str(path), pillow, Image.open(path)], threshold=0)
        assert len(by_array) > 0
        for other in others:
            assert_same(other, by_array)
            np.testing.assert_array_equal(other.image, rgb)
    turned, exif = Image.fromarray(rgb), Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    turned.save(path, exif=exif)
    results = predictor([np.rot90(rgb, -1), path, Image.open(path)], threshold=0)
    for result in results:
        assert result.ori_shape == (72, 48)
        assert_same(result, results[0])


def test_arrays_are_rgb_unless_they_are_said_to_be_bgr(models, files):
    predict, bgr = partial(models('detection'), threshold=0), cv2.imread(str(files[0]))
    by_file = predict(files[0])
    assert_same(predict(bgr, channel_order='bgr'), by_file)
    assert_same(predict(np.ascontiguousarray(bgr[..., ::-1])), by_file)
    coloured = np.zeros((64, 64, 3), np.uint8)
    coloured[16:48, 16:48, 0] = 255
    one, other = predict(coloured), predict(coloured, channel_order='bgr')
    assert not np.array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.image, other.image[..., ::-1])
    grey = bgr[..., 0]
    expected = predict(np.dstack([grey] * 3))
    for array in (grey, grey[..., None], grey.astype(np.uint16) << 8, np.dstack([grey] * 4)):
        assert_same(predict(array), expected)


def test_a_url_is_an_image_and_is_not_fetched_again_to_be_drawn(models, files, serve):
    with_url = f'{serve(files[0].parent)}/{files[0].name}'
    by_url, by_file = models('detection')([with_url, files[0]])
    assert_same(by_url, by_file)
    assert isinstance(by_url.source, np.ndarray)
    np.testing.assert_array_equal(by_url.plot(), by_file.plot())


def test_an_image_does_not_depend_on_the_others_in_its_batch(models):
    rng = np.random.default_rng(0)
    shapes = [(64, 64), (40, 90), (64, 64), (90, 40), (120, 30), (64, 64), (31, 77), (40, 90)]
    images = [rng.integers(256, size=(*shape, 3), dtype=np.uint8) for shape in shapes]
    for task in ('detection', 'classification'):
        predictor = models(task)
        for image, together in zip(images, predictor(images, threshold=0), strict=True):
            alone = predictor(image, threshold=0)
            assert together.labels.tolist() == alone.labels.tolist()
            np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-4, atol=1e-6)
            if together.boxes is not None:
                np.testing.assert_allclose(together.boxes, alone.boxes, rtol=1e-4, atol=1e-3)


def test_a_plot_is_an_image_that_can_be_saved_and_drawn_on(models, files, tmp_path):
    for task in ('detection', 'multilabel'):
        result = models(task)(files[0])
        drawn = result.plot(tmp_path / 'found.png')
        assert (drawn.dtype, drawn.ndim, drawn.shape[2]) == (np.uint8, 3, 3)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'found.png')), drawn)
        cv2.rectangle(drawn, (0, 0), (9, 9), (255, 0, 0))
    for path in (tmp_path / 'found.txt', tmp_path / 'none' / 'found.png'):
        with pytest.raises(InputError, match=f'{path}: the image cannot be written'):
            result.plot(path)


def mask_code(rows, columns):
    from pycocotools import mask

    pixels = np.zeros((4, 6), np.uint8, order='F')
    pixels[rows, columns] = 1
    code = mask.encode(pixels)
    return dict(code, counts=code['counts'].decode()), pixels.astype(bool)


def a_result(with_masks):
    (left, left_pixels), (right, right_pixels) = mask_code(0, 1), mask_code(slice(1, 4), 5)
    result = Result(
        np.array([[0, 1, 2, 4], [3, 0, 6, 4]], np.float32),
        np.array([0.75, 0.5], np.float32),
        np.array([1, 0]),
        classes=('cat', 'dog'),
        ori_shape=(4, 6),
        source=np.zeros((4, 6, 3), np.uint8),
        rles=[left, right] if with_masks else None,
    )
    return result, np.stack([left_pixels, right_pixels])


def test_masks_are_arrays_and_rows_of_cocos_results():
    result, pixels = a_result(with_masks=True)
    np.testing.assert_array_equal(result.masks, pixels)
    assert result.masks.dtype == bool
    assert result.take(np.array([], int)).masks.shape == (0, 4, 6)
    first = dict(image_id=7, category_id=2, bbox=[0, 1, 2, 3], score=0.75)
    assert result.to_coco(7)[0] == first
    rows = result.to_coco('a', {'cat': 90, 'dog': 4}, 'segm')
    assert [row['category_id'] for row in rows] == [4, 90]
    assert rows[1] == dict(image_id='a', category_id=90, segmentation=result.rles[1], score=0.5)
    assert type(result.to_coco(np.int64(7))[0]['image_id']) is int  # NumPy's is no JSON
    for wrong, message in (((1.5,), 'image_id must be'), ((1, [3]), 'categories must be a dict')):
        with pytest.raises(InputError, match=message):
            result.to_coco(*wrong)
    with pytest.raises(InputError, match='5 is no path of a file'):
        result.plot(5)
    with pytest.raises(InputError, match="categories has no number of 'dog'"):
        result.to_coco(1, {'cat': 1})
    with pytest.raises(InputError, match='the model finds no masks'):
        a_result(with_masks=False)[0].to_coco(1, iou_type='segm')


@pytest.mark.parametrize('with_masks', [False, True])
def test_supervision_gets_arrays_by_its_own_names(with_masks, monkeypatch):
    result, pixels = a_result(with_masks)
    package = ModuleType('supervision')
    package.Detections = SimpleNamespace
    monkeypatch.setitem(sys.modules, 'supervision', package)
    found = result.to_supervision()
    assert found.xyxy is result.boxes
    assert found.class_id is result.labels
    assert found.confidence is result.scores
    assert found.data['class_name'].tolist() == ['dog', 'cat']
    if with_masks:
        np.testing.assert_array_equal(found.mask, pixels)
    else:
        assert found.mask is None
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(InputError, match='pip install supervision'):
        result.to_supervision()


def test_a_classifier_has_no_boxes_to_pass_on(models, files):
    result = models('classification')(files[0])
    with pytest.raises(InputError, match='the model finds no boxes'):
        result.to_coco(1)
    with pytest.raises(InputError, match='a classifier finds none'):
        result.to_supervision()


WHITE = np.full((40, 40, 3), 255, np.uint8)
MISTAKES = [
    ([], {}, 'there is no image in the list'),
    ('none.png', {}, 'none.png: the image does not exist'),
    ('text.png', {}, 'text.png: not an image that can be decoded'),
    ('.', {}, 'cannot be read'),
    ('http://127.0.0.1:9/a.png', {}, '127.0.0.1:9/a.png: cannot be had'),
    ([WHITE, None], {}, r'images\[1\] is None: give a file, a URL'),
    (WHITE.astype(np.float32), {}, r'images\[0\] is an array of float32, of an unknown range'),
    (WHITE > 3, {}, 'an array of bool'),
    (WHITE.transpose(2, 0, 1), {}, r'an array \(3, 40, 40\): give \(H, W\)'),
    (WHITE[None], {}, r'an array \(1, 40, 40, 3\): give'),
    (WHITE[:0], {}, r'an array \(0, 40, 3\): give'),
    (Image.new('F', (40, 40)), {}, '32 bits a channel'),
    (WHITE[:1].repeat(150, 1), {}, 'cannot take an image of 6000x1 pixels'),
    ('s3://images/a.png', {}, 's3://images/a.png.: give a file, or a URL of http or https'),
    ('a\0b.png', {}, 'that is no path'),
    (WHITE, dict(threshold=2), "threshold must be from 0 to 1, or 'auto': got 2"),
    (WHITE, dict(threshold=float('nan')), 'got nan'),
    (WHITE, dict(threshold='high'), "got 'high'"),
    (WHITE, dict(threshold='auto'), 'epoch_2.pth has no threshold of'),
    (WHITE, dict(batch_size=0), 'batch_size must be at least 1'),
    (WHITE, dict(top=1.5), 'top must be at least 1, a whole number: got 1.5'),
    (WHITE, dict(channel_order='grb'), "must be 'rgb' or 'bgr', got 'grb'"),
]


@pytest.mark.parametrize(('images', 'options', 'message'), MISTAKES, ids=[m[2] for m in MISTAKES])
def test_a_mistake_is_one_line(images, options, message, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('no_proxy', '*')
    (tmp_path / 'text.png').write_text('no image')
    with pytest.raises(InputError, match=message) as caught:
        models('detection')(images, **options)
    assert '\n' not in str(caught.value)


def test_a_truncated_image_of_pillow_is_named(models):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(
        file, 'PNG'
    )
    cut = Image.open(io.BytesIO(file.getvalue()[:4000]))
    with pytest.raises(InputError, match=r'images\[0\]: the image does not decode'):
        models('detection')(cut)


def test_a_model_that_is_none_is_named(trained, tmp_path):
    done = trained('detection')
    with pytest.raises(InputError, match='a config needs a checkpoint too: give one after'):
        Predictor(done.config)
    with pytest.raises(InputError, match='no work directory or checkpoint at .*/none'):
        Predictor(tmp_path / 'none')
    (tmp_path / 'text.pth').write_text('no checkpoint')
    with pytest.raises(InputError, match='has no config of a training'):
        Predictor(tmp_path / 'text.pth')
    with pytest.raises(InputError, match=r'text.pth'):
        Predictor(done.config, tmp_path / 'text.pth')
    with pytest.raises(InputError, match='device cuda:7: no GPU is visible'):
        Predictor(done.work_dir, device='cuda:7')
    with pytest.raises(InputError, match="device 'gpu': give cpu, cuda"):
        Predictor(done.work_dir, device='gpu')
