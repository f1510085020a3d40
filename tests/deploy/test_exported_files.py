"""Exported files: what is in them, and what onnxruntime finds with them next to PyTorch."""

import copy
import json
import os
import subprocess
import sys
import zipfile
from collections import Counter

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from onnx import TensorProto, helper
from torch import nn
from torchvision.ops import nms

from tresnet_det.deploy import write_program
from tresnet_det.deploy.check import FileCheck, prepare_images
from tresnet_det.deploy.nms import ONNX_TRANSLATIONS, suppress
from tresnet_det.inference import onnx_runner
from tresnet_det.inference.onnx_runner import OnnxModel

# Run in a fresh process: any import of what a copy of the file must do without fails there.
ALONE = """
import runpy, sys

BANNED = {'torch', 'torchvision', 'mmdet', 'mmengine', 'mmcv', 'tresnet_det'}
class Ban:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in BANNED:
            raise ImportError(f'{name} is banned')
sys.meta_path.insert(0, Ban())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
assert not BANNED & {name.split('.')[0] for name in sys.modules}
"""


@pytest.fixture(scope='module')
def check_detector(detector_file, files):
    init_default_scope('mmdet')  # which is set before each test, but after this fixture
    file = detector_file
    return FileCheck(file.path, file.model, file.module, prepare_images(file.cfg, files))


def assert_same_boxes(found, expected):
    assert len(expected['scores']) > 5
    np.testing.assert_array_equal(found['labels'], expected['labels'])
    np.testing.assert_allclose(found['scores'], expected['scores'], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found['boxes'], expected['boxes'], rtol=0, atol=0.02)


def test_no_batch_norm_is_left_and_group_norms_stay(detector_file):
    operators = Counter(n.op_type for n in onnx.load(detector_file.path).graph.node)
    assert not {'BatchNormalization', 'If', 'Loop'} & set(operators)
    # Two towers of one convolution with a group norm on three levels.
    assert operators['InstanceNormalization'] + operators['GroupNormalization'] == 6
    assert operators['NonMaxSuppression'] == 1


def test_files_hold_no_path_of_this_machine(classifier_file, project_root, tmp_path):
    path = tmp_path / 'classifier.pt2'
    write_program(classifier_file.program, path, {})
    contents = [classifier_file.path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        contents += [archive.read(name) for name in archive.namelist()]
    assert len(contents) > 3
    assert not any(str(project_root).encode() in content for content in contents)


class Nms(nn.Module):
    def forward(self, boxes, scores):
        return suppress(boxes, scores, 0.5, 7)


def test_nms_in_onnx_is_torchvisions_of_each_image(tmp_path):
    corner = torch.rand(3, 50, 2) * 40
    boxes = torch.cat((corner, corner + 5 + torch.rand(3, 50, 2) * 20), 2)
    scores = torch.rand(3, 50) * torch.tensor([1.0, 1.0, 0.0])[:, None]  # the last has none
    path, batch = tmp_path / 'nms.onnx', torch.export.Dim('batch')
    torch.onnx.export(
        torch.export.export(Nms(), (boxes, scores), dynamic_shapes=[{0: batch}] * 2),
        custom_translation_table=ONNX_TRANSLATIONS,
        opset_version=18,
        verbose=False,
    ).save(path)
    session = onnxruntime.InferenceSession(str(path))
    names = [entry.name for entry in session.get_inputs()]
    for count in (3, 1):
        feed = dict(zip(names, (boxes[-count:].numpy(), scores[-count:].numpy()), strict=True))
        (kept,) = session.run(None, feed)
        for i, row in enumerate(kept, start=3 - count):
            expected = torch.zeros(50)
            if i < 2:
                order = nms(boxes[i], scores[i], 0.5)[:7]
                expected[order] = scores[i][order]
            np.testing.assert_array_equal(row, expected)


@pytest.mark.parametrize('kind', ['classifier', 'ml_decoder'])
def test_onnx_gives_a_classifiers_logits_and_scores_in_any_batch_and_size(kind, request, run_onnx):
    file = request.getfixturevalue(f'{kind}_file')
    for shape in ((1, 64, 64), (3, 32, 100)):
        images = torch.randint(0, 256, (shape[0], 3, *shape[1:])).float()
        logits, scores = run_onnx(file, images)
        with torch.no_grad():
            expected = file.model(images / 255)
        expected_scores = expected.softmax(1) if kind == 'classifier' else expected.sigmoid()
        assert expected.std() > 1e-3
        bound = 1e-5 * max(1, expected.abs().max().item())
        np.testing.assert_allclose(logits, expected, rtol=0, atol=bound)
        np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-5)


def test_a_classifiers_file_program_and_runner_agree_with_its_model(classifier_file, files):
    file = classifier_file
    check = FileCheck(file.path, file.model, file.module, prepare_images(file.cfg, files))
    for agreements in (check.compare_onnx(), check.compare_program(file.program)):
        assert list(agreements) == ['logits', 'scores']
        assert all(agreement.is_same for agreement in agreements.values())
    assert not check.finds_nothing
    # Pillow and torchvision differ by one of 255 here and there.
    assert 0 <= check.image_difference() <= 1
    for answer, expected in zip(check.runner.predict_all(files), check.expected, strict=True):
        scale = np.abs(expected['logits']).max()
        np.testing.assert_allclose(answer['logits'], expected['logits'], rtol=0, atol=0.02 * scale)
        assert answer['scores'].sum() == pytest.approx(1, abs=1e-5)
    assert check.runner.predict_all([]) == []


def test_a_detectors_file_agrees_and_its_program_where_images_are_large_enough(
    check_detector, detector_file, monkeypatch
):
    for agreements in (
        check_detector.compare_onnx(),
        check_detector.compare_program(detector_file.program),
    ):
        assert agreements['boxes'].is_same
        assert agreements['boxes'].same > 30
    assert check_detector.image_difference() == 0
    monkeypatch.setattr('tresnet_det.deploy.check.least_side', lambda program: 1000)
    assert check_detector.compare_program(detector_file.program) == {}


def test_a_file_of_other_weights_is_told(detector_file, files):
    other = copy.deepcopy(detector_file.model)
    nn.init.normal_(other.bbox_head.conv_reg.weight, std=0.05)
    read = prepare_images(detector_file.cfg, files[:1])
    check = FileCheck(detector_file.path, other, detector_file.module, read)
    assert not check.compare_onnx()['boxes'].is_same


def test_images_of_different_shapes_in_one_batch_are_padded_as_mmdetection_does(
    detector_file, check_detector, files
):
    batches = [image.batch for image in check_detector.images]
    one_each = [{key: value[0] for key, value in batch.items()} for batch in batches]
    with torch.no_grad():
        samples = detector_file.model.test_step(pseudo_collate(one_each))
    found = OnnxModel(detector_file.path).predict_all(files)
    for answer, sample in zip(found, samples, strict=True):
        expected = {k: v.numpy() for k, v in sample.pred_instances.items()}
        assert_same_boxes(answer, dict(expected, boxes=expected['bboxes']))


def test_a_copy_of_the_runner_alone_prints_what_the_model_finds(
    detector_file, check_detector, files, project_root, tmp_path
):
    source = project_root / 'tresnet_det/inference/onnx_runner.py'
    (tmp_path / 'copy_of_runner.py').write_text(source.read_text())
    arguments = ['copy_of_runner.py', detector_file.path, files[0], '--score-thr', '0']
    result = subprocess.run(
        [sys.executable, '-c', ALONE, *map(str, arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, '')
    first, *lines = result.stdout.splitlines()
    assert first == str(files[0])
    rows = [line.split() for line in lines]
    expected = check_detector.expected[0]
    assert [name for _, name, *_ in rows] == ['abcdefghij'[label] for label in expected['labels']]
    scores = [float(score) for score, *_ in rows]
    np.testing.assert_allclose(scores, expected['scores'], rtol=0, atol=1e-3)
    boxes = np.array([row[2:] for row in rows], float)
    np.testing.assert_allclose(boxes, expected['boxes'], rtol=0, atol=0.1)


def test_the_runners_command_line_prints_five_classes_or_one_line_of_what_is_wrong(
    classifier_file, files, monkeypatch, capsys
):
    monkeypatch.setattr(sys, 'argv', ['onnx_runner.py', str(classifier_file.path), str(files[0])])
    onnx_runner.main()
    assert len(capsys.readouterr().out.splitlines()) == 1 + 5
    monkeypatch.setattr(sys, 'argv', ['onnx_runner.py', 'none.onnx', 'x.png'])
    with pytest.raises(SystemExit) as stop:
        onnx_runner.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'error: none.onnx: no such file\n'


@pytest.fixture
def start_runner(detector_file, files, project_root, tmp_path):
    def start(stdout, times=1):
        source = project_root / 'tresnet_det/inference/onnx_runner.py'
        options = '--format', 'csv', '--out', tmp_path
        command = sys.executable, source, detector_file.path, *[files[0]] * times, *options
        env = os.environ | dict(PYTHONUNBUFFERED='1')
        return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=env)

    return start


def test_what_the_runner_cannot_print_is_one_line_and_a_closed_pipe_none(start_runner):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'w') as pipe, open('/dev/full', 'w') as full:
        ends = [start_runner(pipe), start_runner(full)]
    lines = [end.communicate()[1].decode() for end in ends]
    assert [end.returncode for end in ends] == [141, 2]
    assert lines == ['', 'error: [Errno 28] No space left on device\n']


def test_a_signal_ends_the_runner_in_one_line_with_what_it_has(start_runner, tmp_path):
    end = start_runner(subprocess.PIPE, times=5000)
    end.stdout.readline()
    end.terminate()
    assert end.communicate()[1] == b'told to end (SIGTERM)\n'
    assert end.returncode == 143
    assert (tmp_path / 'predictions.csv').read_text().startswith('file,class,score')


@pytest.fixture(scope='module')
def with_metadata(detector_file, tmp_path_factory):
    """A function that writes the detector's file with other entries of metadata, as texts."""

    def write(**entries):
        model = onnx.load(detector_file.path)
        metadata = {entry.key: entry.value for entry in model.metadata_props} | entries
        helper.set_model_props(model, {k: v for k, v in metadata.items() if v is not None})
        path = tmp_path_factory.mktemp('metadata') / 'model.onnx'
        onnx.save(model, path)
        return path

    return write


def test_entries_of_other_tools_do_no_harm(with_metadata, files, detector_file):
    path = with_metadata(**{'onnx.infer': 'onnxruntime.quant', 'note': '[' * 100_000, 'x': ''})
    model = OnnxModel(path)
    assert model.metadata['onnx.infer'] == 'onnxruntime.quant'
    assert model.metadata['classes'] == list('abcdefghij')
    same = OnnxModel(detector_file.path).predict(files[0])
    np.testing.assert_array_equal(model.predict(files[0])['scores'], same['scores'])


@pytest.mark.parametrize(
    ('key', 'text'),
    [
        ('format', '2'), ('format', 'new'), ('task', '"segmenter"'), ('task', '{"a": [{}]}'),
        ('classes', '{"a": 1}'), ('classes', '[1]'), ('divisor', '0'), ('divisor', '200000'),
        ('border', '[1e300, 0, 0]'), ('classes', None), ('steps', None),
        ('border', '[0, NaN, 0]'), ('reader', '"hand"'), ('iou_threshold', 'null'),
        ('threshold', '1.5'), ('threshold', '[0.5]'),
        ('steps', '[' * 100_000), ('steps', '[{"type": "mosaic"}]'), ('steps', '[[{}]]'),
        *(('steps', f'[{{"type": "fit", "scale": [96, {side}], "resampling": "opencv"}}]')
          for side in (0, -5, 200_000_000)),
        ('steps', '[{"type": "short_side", "size": 200000, "resampling": "bilinear"}]'),
        ('steps', '[{"type": "stretch", "size": [96, 96], "resampling": "sinc"}]'),
    ],
)  # fmt: skip
def test_odd_metadata_is_one_line(with_metadata, key, text, monkeypatch, capsys):
    path = with_metadata(**{key: text})
    monkeypatch.setattr(sys, 'argv', ['onnx_runner.py', str(path), 'x.png'])
    with pytest.raises(SystemExit) as stop:
        onnx_runner.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'not written by this version of tools/export.py (its {key}: ' in line
    assert len(line) < len(str(path)) + 200


@pytest.mark.parametrize(
    ('entries', 'options', 'line'),
    [
        (dict(task='"classifier"'), [], 'no classifier, its outputs are boxes'),
        ({}, ['--format', 'csv', '--out', '/dev/null/x'], '--out /dev/null/x cannot be made'),
        ({}, ['9' * 14, '--strict'], 'no such image'),
        (dict(classes='null'), ['--format', 'csv'], 'has no names of classes'),
        (dict(task='"backbone"'), ['--format', 'csv'], 'is a backbone or has no'),
        (dict(classes='["a"]'), ['--strict'], 'classes or more, and names of 1'),
    ],
    ids=str,
)
def test_what_a_file_or_its_folder_cannot_is_one_line(
    with_metadata, entries, options, line, files, monkeypatch, capsys
):
    path = with_metadata(**entries)
    monkeypatch.setattr(sys, 'argv', ['onnx_runner.py', str(path), str(files[0]), *options])
    with pytest.raises(SystemExit) as stop:
        onnx_runner.main()
    assert stop.value.code == 2
    assert line in capsys.readouterr().err.splitlines()[0]


def test_the_threshold_in_the_file_is_used_for_each_class(
    with_metadata, files, monkeypatch, capsys
):
    found = OnnxModel(with_metadata()).predict(files[0])
    best = int(found['labels'][0])
    least = [0.0 if label == best else 1.0 for label in range(10)]
    path = with_metadata(threshold=json.dumps(least))
    monkeypatch.setattr(sys, 'argv', ['onnx_runner.py', str(path), str(files[0])])
    onnx_runner.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[1] for row in rows] == ['abcdefghij'[best]] * int((found['labels'] == best).sum())
    nothing = onnx_runner.describe(OnnxModel(path), found, np.full(10, 2.0))
    assert nothing == ['nothing above the threshold of its class']


def test_folders_and_videos_are_read_in_batches(
    detector_file, files, tmp_path, monkeypatch, capsys
):
    pixels = cv2.resize(cv2.imread(str(files[0])), (96, 64))
    video = cv2.VideoWriter(str(tmp_path / 'b.mp4'), cv2.VideoWriter.fourcc(*'mp4v'), 5, (96, 64))
    for _ in range(5):
        video.write(pixels)
    video.release()
    cv2.imwrite(str(tmp_path / 'a.png'), pixels)
    (tmp_path / 'c.avi').write_bytes(b'no video')
    (tmp_path / 'notes.txt').touch()
    options = '--batch-size', '4', '--video-stride', '2', '--score-thr', '0'
    monkeypatch.setattr(
        sys, 'argv', ['onnx_runner.py', str(detector_file.path), str(tmp_path), *options]
    )
    with pytest.raises(SystemExit) as stop:
        onnx_runner.main()
    out, err = capsys.readouterr()
    names = [line for line in out.splitlines() if not line.startswith('  ')]
    video = tmp_path / 'b.mp4'
    assert names == [str(tmp_path / 'a.png'), *(f'{video}#{n}' for n in (0, 2, 4))]
    assert stop.value.code == 0
    assert err.splitlines() == [
        f'skipped {tmp_path / "c.avi"}: no camera, or no video that can be decoded',
        '1 of 5 could not be predicted',
    ]


def test_without_openvino_one_line_says_what_to_install(detector_file, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(ValueError, match='openvino is not installed: pip install openvino'):
        OnnxModel(detector_file.path, engine='openvino')


def test_openvino_finds_the_same(detector_file, files):
    pytest.importorskip('openvino')
    model = OnnxModel(detector_file.path, engine='openvino')
    expected = OnnxModel(detector_file.path).predict_all(files)
    for answer, same in zip(model.predict_all(files), expected, strict=True):
        assert_same_boxes(answer, same)


def test_what_the_runner_cannot_run_is_said_in_words(detector_file, files, tmp_path):
    broken = tmp_path / 'broken.onnx'
    broken.write_bytes(b'no model')
    with pytest.raises(ValueError, match='onnxruntime cannot read it'):
        OnnxModel(broken)
    other = tmp_path / 'other.onnx'
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in 'xy']
    node = helper.make_node('Identity', ['x'], ['y'])
    graph = helper.make_graph([node], 'g', ends[:1], ends[1:])
    opset = [helper.make_opsetid('', 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), other)
    with pytest.raises(ValueError, match=r'not written by .*export.py \(its format: None'):
        OnnxModel(other)
    model = OnnxModel(detector_file.path)
    with pytest.raises(FileNotFoundError, match='no such image'):
        model.predict(tmp_path / 'none.jpg')
    with pytest.raises(ValueError, match='not an image that can be decoded'):
        model.predict(broken)
    with pytest.raises(ValueError, match=r'must be \(H, W, 3\) of uint8'):
        model.predict(np.zeros((4, 4, 3)))
    model.metadata.update(steps=None, why_no_steps='no Mosaic')
    with pytest.raises(ValueError, match='no Mosaic'):
        model.predict(cv2.imread(str(files[0])))
