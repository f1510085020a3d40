import copy
import zipfile
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmdet.models import DetDataPreprocessor, RetinaHead
from mmdet.structures import DetDataSample
from torch import nn
from torchvision.ops import nms

from tresnet_det.deploy import build_export_module, trace, write_program
from tresnet_det.deploy.modules import ExportedDetector, Normalization, read_post_processing
from tresnet_det.deploy.nms import suppress
from tresnet_det.deploy.programs import least_side
from tresnet_det.errors import InputError

SHAPES = [(1, 64, 64), (3, 96, 160), (2, 192, 128)]


def a_batch(count, height, width):
    """Images in the corner of their place, each of another size and from another original."""
    images = torch.randint(0, 256, (count, 3, height, width)).float()
    sizes = torch.tensor([[height - 3 * i, width - 5 * i - 1] for i in range(count)])
    for image, (h, w) in zip(images, sizes.tolist(), strict=True):
        image[:, h:], image[:, :, w:] = 0, 0
    return images, sizes, sizes * 2 + torch.tensor([1, 3])


def mmdetections_answers(model, images, sizes, original_sizes):
    samples = [
        DetDataSample(
            metainfo=dict(img_shape=(h, w), ori_shape=(oh, ow), scale_factor=(w / ow, h / oh))
        )
        for (h, w), (oh, ow) in zip(sizes.tolist(), original_sizes.tolist(), strict=True)
    ]
    with torch.no_grad():
        return [s.pred_instances for s in model.predict(images / 255, samples)]


def assert_same(outputs, expected, max_per_img):
    boxes, scores, labels, num = (torch.as_tensor(output) for output in outputs)
    assert boxes.shape == (len(expected), max_per_img, 4)
    assert num.tolist() == [len(instances) for instances in expected]
    for i, instances in enumerate(expected):
        n = len(instances)
        assert labels[i, :n].equal(instances.labels)
        torch.testing.assert_close(scores[i, :n], instances.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(boxes[i, :n], instances.bboxes, rtol=0, atol=0.01)
        assert (labels[i, n:] == -1).all()
        assert not scores[i, n:].any()
        assert not boxes[i, n:].any()


@pytest.mark.parametrize(
    'changes',
    [
        dict(),
        dict(nms=dict(type='nms', iou_threshold=0.3, class_agnostic=True)),
        dict(min_bbox_size=20),
        dict(nms_pre=5, max_per_img=200),  # more places than candidates
        dict(score_thr=0.9999),
    ],
    ids=str,
)
def test_detector_finds_what_mmdetections_post_processing_finds(
    detector_cfg, build_detector, changes
):
    cfg = copy.deepcopy(detector_cfg)
    cfg.model.test_cfg.update(changes)
    model = build_detector(cfg)
    inputs = a_batch(2, 96, 160)
    expected = mmdetections_answers(model, *inputs)
    with torch.no_grad():
        outputs = build_export_module(model, 'detector')(*inputs)
    assert_same(outputs, expected, model.test_cfg.max_per_img)
    counts = [len(instances) for instances in expected]
    assert counts == [0, 0] if 'score_thr' in changes else min(counts) > 5


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_onnx_detector_finds_the_same_in_any_batch_and_size(detector_file, shape):
    session = onnxruntime.InferenceSession(str(detector_file.path))
    inputs = a_batch(*shape)
    names = detector_file.module.input_names
    outputs = session.run(None, {k: v.numpy() for k, v in zip(names, inputs, strict=True)})
    expected = mmdetections_answers(detector_file.model, *inputs)
    assert min(len(instances) for instances in expected) > 5
    assert_same(outputs, expected, max_per_img=60)


def test_no_batch_norm_is_left_and_group_norms_stay(detector_file):
    operators = Counter(n.op_type for n in onnx.load(detector_file.path).graph.node)
    assert not {'BatchNormalization', 'If', 'Loop'} & set(operators)
    # Two towers of one convolution with a group norm on five levels.
    assert operators['InstanceNormalization'] + operators['GroupNormalization'] == 10
    assert operators['NonMaxSuppression'] == 1


def test_files_hold_no_path_of_this_machine(detector_file, project_root, tmp_path):
    path = tmp_path / 'fcos.pt2'
    write_program(detector_file.program, path, {})
    contents = [detector_file.path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        contents += [archive.read(name) for name in archive.namelist()]
    assert len(contents) > 3
    assert not any(str(project_root).encode() in content for content in contents)


def test_saved_program_finds_the_same_from_the_side_that_it_names(detector_file, tmp_path):
    path = tmp_path / 'fcos.pt2'
    write_program(detector_file.program, path, dict(classes=['a']))
    extra = {'metadata.json': ''}
    program = torch.export.load(path, extra_files=extra)
    assert extra['metadata.json'] == '{"classes": ["a"]}'
    side = least_side(program)
    inputs = a_batch(3, side, side + 32)
    expected = mmdetections_answers(detector_file.model, *inputs)
    with torch.no_grad():
        assert_same(program.module()(*inputs), expected, max_per_img=60)
        too_small = a_batch(1, side - 32, side)
        with pytest.raises(AssertionError, match='Guard failed'):
            program.module()(*too_small)


class Suppression(nn.Module):
    input_names, output_names = ('boxes', 'scores'), ('kept',)

    def forward(self, boxes, scores):
        return suppress(boxes, scores, 0.5, 7)


def test_suppression_in_onnx_is_torchvisions_of_each_image(tmp_path):
    corner = torch.rand(3, 50, 2) * 40
    boxes = torch.cat((corner, corner + 5 + torch.rand(3, 50, 2) * 20), 2)
    scores = torch.rand(3, 50) * torch.tensor([1.0, 1.0, 0.0])[:, None]  # the last has none
    module, path = Suppression(), tmp_path / 'nms.onnx'
    batch = torch.export.Dim('batch')
    program = torch.export.export(module, (boxes, scores), dynamic_shapes=[{0: batch}, {0: batch}])
    onnx_program = torch.onnx.export(
        program, custom_translation_table=_translations(), opset_version=18, verbose=False
    )
    onnx_program.save(path)
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


def _translations():
    from tresnet_det.deploy.nms import ONNX_TRANSLATIONS

    return ONNX_TRANSLATIONS


@pytest.mark.parametrize('shape', [(1, 64, 64), (3, 32, 100)], ids=str)
def test_onnx_classifier_gives_the_models_logits_and_scores(classifier_file, shape):
    session = onnxruntime.InferenceSession(str(classifier_file.path))
    images = torch.randint(0, 256, (shape[0], 3, *shape[1:])).float()
    logits, scores = session.run(None, {'images': images.numpy()})
    with torch.no_grad():
        expected = classifier_file.model(images / 255)
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    np.testing.assert_allclose(scores, expected.softmax(1), rtol=0, atol=1e-5)


def test_onnx_ml_decoder_gives_the_models_logits_and_scores_in_any_batch(ml_decoder_file):
    session = onnxruntime.InferenceSession(str(ml_decoder_file.path))
    for shape in ((1, 64, 64), (3, 32, 96)):
        images = torch.randint(0, 256, (shape[0], 3, *shape[1:])).float()
        logits, scores = session.run(None, {'images': images.numpy()})
        with torch.no_grad():
            expected = ml_decoder_file.model(images / 255)
        assert expected.std() > 1e-3
        bound = 1e-5 * max(1, expected.abs().max().item())
        np.testing.assert_allclose(logits, expected, rtol=0, atol=bound)
        np.testing.assert_allclose(scores, expected.sigmoid(), rtol=0, atol=1e-5)


def test_backbone_gives_the_feature_maps_by_stride(classifier_file, detector):
    module = build_export_module(detector, 'backbone')
    assert module.output_names == ('stride_8', 'stride_16', 'stride_32')
    images = torch.randint(0, 256, (2, 3, 64, 96)).float()
    program = trace(module)
    with torch.no_grad():
        expected = detector.backbone(images / 255)
        outputs = program.module()(images)
    for output, wanted in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output, wanted, rtol=0, atol=1e-5 * wanted.abs().max().item())


@pytest.mark.parametrize('swaps', [True, False])
def test_normalization_of_rgb_is_the_preprocessors_of_bgr_with_its_border(swaps):
    preprocessor = DetDataPreprocessor(
        mean=[10, 20, 30], std=[2, 4, 8], bgr_to_rgb=swaps, pad_size_divisor=32, pad_value=3
    )
    bgr = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    expected = preprocessor(dict(inputs=[bgr], data_samples=None))['inputs']
    normalization = Normalization(preprocessor)
    images = torch.tensor(normalization.border)[:, None, None].repeat(1, 32, 32)
    images[:, :20, :30] = bgr.flip(0)
    torch.testing.assert_close(normalization(images[None]), expected)


def test_what_the_export_has_not_is_refused_in_words(detector):
    good = dict(nms_pre=10, max_per_img=5, nms=dict(type='nms', iou_threshold=0.5))
    assert read_post_processing(good)['score_thr'] == 0
    for change, message in (
        (dict(nms=dict(type='soft_nms', iou_threshold=0.5)), 'plain NMS only'),
        (dict(nms=None), 'plain NMS only'),
        (dict(nms_pre=-1), 'nms_pre must be a number from 1 for the export, got -1'),
        (dict(max_per_img=-1), 'max_per_img must be a number from 1'),
        (dict(nms=dict(type='nms', iou_threshold=0.5, max_num=3)), 'max_num is not in the export'),
    ):
        with pytest.raises(InputError, match=message):
            read_post_processing(dict(good, **change))
    unpadded = copy.deepcopy(detector)
    unpadded.data_preprocessor.pad_size_divisor = 1
    with pytest.raises(InputError, match='pad_size_divisor is 1'):
        build_export_module(unpadded, 'detector')
    retina = copy.deepcopy(detector)
    retina.bbox_head = RetinaHead(num_classes=3, in_channels=64)
    with pytest.raises(InputError, match='RetinaHead has no export.*--task backbone'):
        build_export_module(retina, 'detector')
    with pytest.raises(InputError, match='FCOS is no ImageClassifier'):
        build_export_module(detector, 'classifier')


class FixesTheBatch(nn.Module):
    task, divisor, input_names = 'backbone', 4, ('images',)

    def forward(self, images):
        return images.reshape(2, -1)


def test_a_model_that_fixes_the_batch_is_refused_in_one_line():
    with pytest.raises(InputError, match=r'cannot trace this backbone: Constraints violated'):
        trace(FixesTheBatch())


def test_the_model_itself_is_not_changed(detector):
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    module = build_export_module(detector, 'detector')
    assert isinstance(module, ExportedDetector)
    torch.testing.assert_close(detector.state_dict(), before, rtol=0, atol=0)
    assert any('abn' in key for key in before)
    assert not any('abn' in key for key in module.state_dict())


def test_a_failed_write_leaves_the_old_file(classifier_file, tmp_path, monkeypatch):
    path = tmp_path / 'old.pt2'
    path.write_text('old')
    monkeypatch.setattr('os.replace', _no_space)
    with pytest.raises(OSError, match='no space'):
        write_program(classifier_file.program, path, {})
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def _no_space(*_):
    raise OSError('no space')
