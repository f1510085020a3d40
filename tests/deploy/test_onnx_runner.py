import subprocess
import sys

import cv2
import mmcv
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torchvision.transforms import v2

from tresnet_det.datasets import decode_rgb
from tresnet_det.deploy.photos import ModelAnswers, PhotoReader
from tresnet_det.inference import onnx_runner
from tresnet_det.inference.onnx_runner import OnnxModel, read_rgb, resize, resize_bilinear

# Run in a fresh process: any import of what a copy of the file must do without fails there.
ALONE = """
import importlib.util, sys
import numpy as np

BANNED = {'torch', 'torchvision', 'mmdet', 'mmengine', 'mmcv', 'tresnet_det'}
class Ban:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in BANNED:
            raise ImportError(f'{name} is banned')
sys.meta_path.insert(0, Ban())
runner, model, out, *photos = sys.argv[1:]
spec = importlib.util.spec_from_file_location('runner', runner)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
answers = module.OnnxModel(model).predict_all(photos)
np.savez(out, **{f'{i}/{k}': v for i, answer in enumerate(answers) for k, v in answer.items()})
assert not BANNED & {name.split('.')[0] for name in sys.modules}
"""


def expected_answers(file, photos):
    """What PyTorch says of each photo by the config's own test pipeline."""
    read = PhotoReader(file.cfg)
    answers = ModelAnswers(file.model, file.module.task, file.module.output_names)
    return [answers(read(path)) for path in photos]


def assert_same_boxes(found, expected):
    assert len(expected['scores']) > 5
    np.testing.assert_array_equal(found['labels'], expected['labels'])
    np.testing.assert_allclose(found['scores'], expected['scores'], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found['boxes'], expected['boxes'], rtol=0, atol=0.02)


def test_a_copy_alone_finds_what_the_model_finds(detector_file, photos, project_root, tmp_path):
    source = project_root / 'tresnet_det/inference/onnx_runner.py'
    copy = tmp_path / 'copy_of_runner.py'
    copy.write_text(source.read_text())
    out = tmp_path / 'answers.npz'
    arguments = [copy, detector_file.path, out, photos[0]]
    result = subprocess.run(
        [sys.executable, '-c', ALONE, *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    with np.load(out) as stored:
        found = {key.removeprefix('0/'): stored[key] for key in stored}
    assert_same_boxes(found, expected_answers(detector_file, photos[:1])[0])


def test_images_of_different_shapes_in_one_batch_are_padded_as_mmdetection_does(
    detector_file, photos
):
    read = PhotoReader(detector_file.cfg)
    batch = [read(path).batch for path in photos]
    joined = {key: [entry for part in batch for entry in part[key]] for key in batch[0]}
    with torch.no_grad():
        samples = detector_file.model.test_step(joined)
    found = OnnxModel(detector_file.path).predict_all(photos)
    for answer, sample in zip(found, samples, strict=True):
        expected = {k: v.numpy() for k, v in sample.pred_instances.items()}
        assert_same_boxes(answer, dict(expected, boxes=expected['bboxes']))


def test_prepared_images_are_the_pipelines_to_the_bit(detector_file, photos):
    read, model = PhotoReader(detector_file.cfg), OnnxModel(detector_file.path)
    for path in photos:
        photo = read(path)
        prepared = model.prepare([path])
        expected = model.collate([photo.image], [photo.original_size])
        for name, value in prepared.items():
            np.testing.assert_array_equal(value, expected[name])
        assert prepared['images'].shape[2] % 32 == prepared['images'].shape[3] % 32 == 0


def test_classifier_says_nearly_what_the_model_says(classifier_file, photos):
    # Pillow and torchvision differ by one of 255 here and there.
    found = OnnxModel(classifier_file.path).predict_all(photos)
    for answer, expected in zip(found, expected_answers(classifier_file, photos), strict=True):
        scale = np.abs(expected['logits']).max()
        np.testing.assert_allclose(answer['logits'], expected['logits'], rtol=0, atol=0.02 * scale)
        assert answer['scores'].sum() == pytest.approx(1, abs=1e-5)
    assert OnnxModel(classifier_file.path).predict_all([]) == []


@pytest.mark.parametrize('size', [(480, 640), (333, 500), (640, 427), (50, 40)], ids=str)
def test_fitting_is_mmcvs_rescaling(size):
    image = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    step = dict(type='fit', scale=[320, 200], resampling='opencv')
    np.testing.assert_array_equal(
        onnx_runner._STEPS['fit'](image, step), mmcv.imrescale(image, (320, 200))
    )


@pytest.mark.parametrize('size', [(37, 61), (200, 333), (90, 90)], ids=str)
def test_numpys_resizing_is_opencvs_within_one(size):
    image = np.random.default_rng(0).integers(256, size=(90, 121, 3), dtype=np.uint8)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    difference = resize_bilinear(image, *size).astype(int) - expected
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize('shape', [(120, 201), (201, 120)], ids=str)
@pytest.mark.parametrize(
    ('transforms', 'steps'),
    [
        (
            [v2.Resize(64), v2.CenterCrop(56)],
            [
                dict(type='short_side', size=64, resampling='bilinear'),
                dict(type='center_crop', size=[56, 56]),
            ],
        ),
        ([v2.Resize((48, 80))], [dict(type='stretch', size=[48, 80], resampling='bilinear')]),
        (
            [v2.Resize((48, 80), interpolation=v2.InterpolationMode.BICUBIC)],
            [dict(type='stretch', size=[48, 80], resampling='bicubic')],
        ),
    ],
    ids=['crop', 'stretch', 'bicubic'],
)
def test_a_classifiers_steps_are_torchvisions_within_rounding(shape, transforms, steps):
    image = np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8)
    expected = v2.Compose(transforms)(torch.from_numpy(image).permute(2, 0, 1))
    for step in steps:
        image = onnx_runner._STEPS[step['type']](image, step)
    difference = image.astype(int) - expected.permute(1, 2, 0).numpy()
    # Noise is the worst case: bicubic weights add up to more than 1 in absolute value.
    assert np.abs(difference).max() <= (3 if steps[0]['resampling'] == 'bicubic' else 1)


@pytest.mark.parametrize('has_opencv', [True, False])
def test_exif_turns_an_image_with_and_without_opencv(tmp_path, monkeypatch, has_opencv):
    if not has_opencv:
        monkeypatch.setattr(onnx_runner, '_opencv', lambda: None)
    original = Image.new('RGB', (40, 24), (200, 30, 90))
    exif = original.getexif()
    exif[0x0112] = 6  # turned by a quarter
    path = tmp_path / 'turned.jpg'
    original.save(path, exif=exif, quality=100)
    image = read_rgb(path, prefer_opencv=True)
    assert image.shape == (40, 24, 3)
    difference = image.astype(int) - decode_rgb(path).permute(1, 2, 0).numpy()
    assert np.abs(difference).max() <= 2


def test_without_opencv_images_differ_by_one_at_most(detector_file, photos, monkeypatch):
    model = OnnxModel(detector_file.path)
    expected = [model.prepare([path])['images'] for path in photos]
    monkeypatch.setattr(onnx_runner, '_opencv', lambda: None)
    for path, images in zip(photos, expected, strict=True):
        assert np.abs(model.prepare([path])['images'] - images).max() <= 1


def test_an_image_of_the_right_size_is_not_resampled():
    image = np.zeros((8, 9, 3), np.uint8)
    assert resize(image, 8, 9, 'bilinear') is image


def test_what_cannot_be_run_is_said_in_words(detector_file, photos, tmp_path):
    with pytest.raises(FileNotFoundError, match='none.onnx: no such file'):
        OnnxModel(tmp_path / 'none.onnx')
    broken = tmp_path / 'broken.onnx'
    broken.write_bytes(b'no model')
    with pytest.raises(ValueError, match='onnxruntime cannot read it'):
        OnnxModel(broken)
    other = tmp_path / 'other.onnx'
    shape = helper.make_tensor_value_info('x', TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info('y', TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node('Identity', ['x'], ['y'])], 'g', [shape], [result])
    opset = [helper.make_opsetid('', 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), other)
    with pytest.raises(ValueError, match='not written by this version of tools/export.py'):
        OnnxModel(other)
    model = OnnxModel(detector_file.path)
    with pytest.raises(FileNotFoundError, match='no such image'):
        model.predict(tmp_path / 'none.jpg')
    with pytest.raises(ValueError, match='not an image that can be decoded'):
        model.predict(broken)
    with pytest.raises(ValueError, match=r'must be \(H, W, 3\) of uint8'):
        model.predict(np.zeros((4, 4, 3)))
    model.metadata['steps'], model.metadata['why_no_steps'] = None, 'no Mosaic'
    with pytest.raises(ValueError, match='no Mosaic'):
        model.predict(photos[0])


def test_the_command_line_prints_class_score_and_box(
    detector_file, classifier_file, photos, monkeypatch, capsys, tmp_path
):
    arguments = ['onnx_runner.py', detector_file.path, photos[0], '--score-thr', '0']
    monkeypatch.setattr(sys, 'argv', list(map(str, arguments)))
    onnx_runner.main()
    first, box, *rest = capsys.readouterr().out.splitlines()
    assert first == str(photos[0])
    (expected,) = expected_answers(detector_file, photos[:1])
    score, name, *sides = box.split()
    assert len(rest) + 1 == len(expected['scores'])
    assert float(score) == pytest.approx(expected['scores'][0], abs=1e-3)
    assert name == 'abcdefghij'[expected['labels'][0]]
    np.testing.assert_allclose([float(v) for v in sides], expected['boxes'][0], atol=0.1)

    monkeypatch.setattr(sys, 'argv', ['onnx_runner.py', str(classifier_file.path), str(photos[0])])
    onnx_runner.main()
    assert len(capsys.readouterr().out.splitlines()) == 1 + 5

    monkeypatch.setattr(sys, 'argv', ['onnx_runner.py', str(tmp_path / 'none.onnx'), 'x.png'])
    with pytest.raises(SystemExit) as stop:
        onnx_runner.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith('error: ')
