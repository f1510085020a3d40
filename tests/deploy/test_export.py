"""What is exported, in PyTorch, next to MMDetection's own post-processing."""

import copy

import pytest
import torch
from mmdet.models import DetDataPreprocessor, RetinaHead
from mmdet.structures import DetDataSample
from torch import nn

from tresnet_det.checkpoints import to_timm
from tresnet_det.deploy import build_export_module, trace, write_program
from tresnet_det.deploy.models import build_model
from tresnet_det.deploy.modules import Normalization, read_post_processing
from tresnet_det.deploy.programs import least_side
from tresnet_det.errors import InputError


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
        dict(nms_pre=10, max_per_img=200),  # more places than candidates
        dict(score_thr=0.9999),
    ],
    ids=str,
)
def test_detector_finds_what_mmdetections_post_processing_finds(detector, changes):
    model = copy.deepcopy(detector)
    model.bbox_head.test_cfg.update(changes)
    inputs = a_batch(2, 96, 160)
    expected = mmdetections_answers(model, *inputs)
    with torch.no_grad():
        outputs = build_export_module(model, 'detector')(*inputs)
    assert_same(outputs, expected, model.bbox_head.test_cfg.max_per_img)
    counts = [len(instances) for instances in expected]
    assert counts == [0, 0] if 'score_thr' in changes else min(counts) > 5


@pytest.mark.parametrize('shape', [(1, 64, 64), (3, 96, 160), (2, 192, 128)], ids=str)
def test_onnx_detector_finds_the_same_in_any_batch_and_size(detector_file, run_onnx, shape):
    inputs = a_batch(*shape)
    expected = mmdetections_answers(detector_file.model, *inputs)
    assert min(len(instances) for instances in expected) > 5
    assert_same(run_onnx(detector_file, *inputs), expected, max_per_img=60)


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
        with pytest.raises(AssertionError, match='Guard failed'):
            program.module()(*a_batch(1, side - 32, side))


def test_backbone_gives_the_feature_maps_by_stride(detector):
    module = build_export_module(detector, 'backbone')
    assert module.output_names == ('stride_8', 'stride_16', 'stride_32')
    images = torch.randint(0, 256, (2, 3, 64, 96)).float()
    with torch.no_grad():
        for output, expected in zip(module(images), detector.backbone(images / 255), strict=True):
            bound = 1e-5 * expected.abs().max()
            torch.testing.assert_close(output, expected, rtol=0, atol=bound)


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


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(nms=dict(type='soft_nms', iou_threshold=0.5)), 'plain NMS only'),
        (dict(nms=None), 'plain NMS only'),
        (dict(nms_pre=-1), 'nms_pre must be a number from 1 for the export, got -1'),
        (dict(max_per_img=-1), 'max_per_img must be a number from 1'),
        (dict(nms=dict(type='nms', iou_threshold=0.5, max_num=3)), 'max_num is not in the export'),
    ],
    ids=str,
)
def test_post_processing_that_the_export_has_not_is_named(change, message):
    good = dict(nms_pre=10, max_per_img=5, nms=dict(type='nms', iou_threshold=0.5))
    assert read_post_processing(good)['score_thr'] == 0
    with pytest.raises(InputError, match=message):
        read_post_processing(dict(good, **change))


def test_models_that_have_no_export_are_named(detector):
    model = copy.copy(detector)  # of which only this test sees the changes
    model._modules = dict(detector._modules)
    with pytest.raises(InputError, match='FCOS is no ImageClassifier'):
        build_export_module(model, 'classifier')
    model.bbox_head = RetinaHead(num_classes=3, in_channels=64)
    with pytest.raises(InputError, match='RetinaHead has no export.*--task backbone'):
        build_export_module(model, 'detector')
    model.bbox_head = detector.bbox_head
    model.data_preprocessor = DetDataPreprocessor(pad_size_divisor=1)
    with pytest.raises(InputError, match='pad_size_divisor is 1'):
        build_export_module(model, 'detector')


class FixesTheBatch(nn.Module):
    task, divisor, input_names = 'backbone', 4, ('images',)

    def forward(self, images):
        return images.reshape(2, -1)


def test_a_model_that_fixes_the_batch_is_refused_in_one_line():
    with pytest.raises(InputError, match=r'cannot trace this backbone: Constraints violated'):
        trace(FixesTheBatch())


def test_a_backbone_takes_its_weights_from_a_published_file(detector_cfg, detector, tmp_path):
    path = tmp_path / 'timm.pth'
    torch.save(to_timm(detector.state_dict()), path)
    with pytest.raises(InputError, match='does not fit the model'):
        build_model(copy.deepcopy(detector_cfg), str(path), 'detector')
    model, meta = build_model(copy.deepcopy(detector_cfg), str(path), 'backbone')
    assert meta == {}
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, expected in zip(model.backbone(x), detector.backbone(x), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4 * expected.abs().max())
