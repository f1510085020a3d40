"""A model applied to images in memory and in files, and what names its outputs."""

import copy

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData
from pycocotools import mask as masks_of_coco

from tresnet_det.engine import config as edit
from tresnet_det.engine.work_dir import find_run_config
from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.inference import predictor as predictor_module
from tresnet_det.inference.inputs import find_sources, read_images
from tresnet_det.inference.pipeline import find_classes
from tresnet_det.inference.predictor import Predictor

TINY = dict(_delete_=True, depths=(1, 1, 1, 1), width_factor=0.25)
NAMES = ('cat', 'dog', 'cow')
DETECTOR = dict(
    model=dict(
        backbone=dict(arch=TINY),
        neck=dict(in_channels=[32, 256, 512], out_channels=32),
        bbox_head=dict(num_classes=3, in_channels=32, feat_channels=64, stacked_convs=1),
    )
)


def save(cfg, folder, **meta):
    """A checkpoint of random weights, sure enough of something to be found, and its config."""
    edit.drop_pretrained(cfg)
    register_all_modules()
    model = MODELS.build(cfg.model)
    for name, value in model.named_parameters():
        if name.endswith(('conv_cls.bias', 'conv_centerness.bias')):
            value.data += 2 + torch.rand_like(value)
    folder.mkdir()
    cfg.dump(folder / 'as_run.py')
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'epoch_1.pth')
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
    return folder


@pytest.fixture(scope='module')
def detector(project_root, tmp_path_factory):
    cfg = edit.load_config(project_root / 'configs' / 'fcos_tresnet_m.py')
    cfg.merge_from_dict(copy.deepcopy(DETECTOR))
    cfg.test_dataloader.dataset.pipeline[1].scale = (128, 128)
    return save(cfg, tmp_path_factory.mktemp('d') / 'detector', dataset_meta=dict(classes=NAMES))


@pytest.fixture(scope='module')
def predictor(detector):
    return Predictor(find_run_config(detector), detector, 'cpu')


@pytest.fixture(scope='module')
def classifier(project_root, tmp_path_factory):
    cfg = edit.load_config(project_root / 'configs' / 'imagenet_tresnet_m.py')
    head = dict(in_channels=512, num_classes=3)
    cfg.merge_from_dict(dict(model=dict(backbone=dict(arch=dict(TINY)), head=head)))
    # The shorter side; no crop.
    cfg.test_dataloader.dataset.pipeline = [dict(type='Resize', size=64)]
    folder = tmp_path_factory.mktemp('c') / 'classifier'
    return save(cfg, folder, dataset_meta=dict(classes=NAMES))


@pytest.fixture(scope='module')
def classify(classifier):
    return Predictor(find_run_config(classifier), classifier, 'cpu')


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def write(path, image):
    cv2.imwrite(str(path), image[..., ::-1])
    return path


def boxes(sample):
    found = sample.pred_instances
    return torch.cat([found.bboxes, found.scores[:, None], found.labels[:, None]], 1)


def test_a_file_and_its_pixels_give_the_same_boxes_in_the_images_own_pixels(predictor, tmp_path):
    assert (predictor.task, predictor.classes) == ('detection', NAMES)
    image = noise(60, 100)
    of_file, of_pixels = predictor.predict([write(tmp_path / 'a.png', image), image])
    assert len(of_file.pred_instances.bboxes) > 0
    assert torch.equal(boxes(of_file), boxes(of_pixels))
    largest = of_file.pred_instances.bboxes.amax(0)
    assert (largest <= torch.tensor([100.001, 60.001, 100.001, 60.001])).all()
    assert largest[2] > 80  # and not in those of the resized image, or of a part


def test_what_is_said_of_an_image_does_not_depend_on_the_others_in_its_batch(predictor):
    images = [noise(60, 100, 1), noise(100, 60, 2), noise(100, 100, 3), noise(60, 100, 4)]
    together = predictor.predict(images, batch_size=4)
    for image, sample in zip(images, together, strict=True):
        (alone,) = predictor.predict([image], batch_size=1)
        torch.testing.assert_close(boxes(sample), boxes(alone), rtol=1e-5, atol=1e-4)


def test_the_channels_reach_the_network_as_rgb(predictor):
    seen, backbone = [], predictor.model.backbone
    red = np.zeros((128, 128, 3), np.uint8)
    red[..., 0] = 255
    with backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        predictor.predict([red])
    assert seen[0].amax((0, 2, 3)).tolist() == [1, 0, 0]


def test_a_classifiers_scores_are_those_of_its_model(classify, tmp_path):
    assert (classify.task, classify.classes) == ('classification', NAMES)
    image = noise(64, 64)
    (sample,) = classify.predict([write(tmp_path / 'a.png', image)])
    inputs = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = classify.model(inputs).softmax(1)[0]
    torch.testing.assert_close(sample.pred_score, expected, rtol=1e-5, atol=1e-6)


def test_images_of_different_sizes_can_be_in_one_batch_of_a_classifier_too(classify):
    samples = classify.predict([noise(64, 80), noise(80, 64), noise(64, 80)], batch_size=3)
    assert len(samples) == 3
    torch.testing.assert_close(samples[0].pred_score, samples[2].pred_score)


def test_a_head_that_counts_its_classes_from_data_takes_them_from_the_checkpoint(classifier):
    cfg = edit.load_config(find_run_config(classifier))
    cfg.model.head.num_classes = None
    assert Predictor(cfg, classifier, 'cpu').classes == NAMES
    assert cfg.model.head.num_classes is None  # the caller's config is as it was


def test_names_come_from_the_checkpoint_the_config_or_the_kind_of_dataset(detector, capsys):
    cfg = edit.load_config(find_run_config(detector))
    assert find_classes(cfg, dict(dataset_meta=dict(classes=NAMES))) == NAMES
    assert find_classes(cfg, dict(CLASSES=NAMES)) == NAMES  # MMDetection 2's
    assert find_classes(cfg, dict(dataset_meta=dict(classes=NAMES[:2]))) is None
    assert 'names 2 classes, and the model has 3: its names are not' in capsys.readouterr().out
    cfg.test_dataloader.dataset.metainfo = dict(classes=NAMES[::-1])
    assert find_classes(cfg, {}) == NAMES[::-1]
    edit.set_num_classes(cfg, 80)
    assert find_classes(cfg, {})[:2] == ('person', 'bicycle')


def test_without_names_the_classes_are_numbers(classifier, tmp_path):
    bare = tmp_path / 'bare.pth'  # a state dict alone, as of a safetensors file
    torch.save(torch.load(classifier / 'epoch_1.pth', weights_only=True)['state_dict'], bare)
    assert Predictor(find_run_config(classifier), bare, 'cpu').classes == ('0', '1', '2')


def test_pretrained_weights_of_the_config_are_not_fetched(detector, monkeypatch):
    cfg = edit.load_config(find_run_config(detector))
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='timm://no_such')
    monkeypatch.setattr('huggingface_hub.hf_hub_download', lambda *_, **__: pytest.fail('fetched'))
    Predictor(cfg, detector, 'cpu')


def test_an_image_that_the_pipeline_cannot_take_is_an_input_error(predictor):
    with pytest.raises(InputError, match='5000x1 pixels'):
        predictor.prepare(noise(1, 5000))
    with pytest.raises(InputError, match=r'\(H, W, 3\) of uint8'):
        predictor.prepare(noise(8, 8).astype(np.float32))


def test_a_work_directory_that_is_not_there_or_has_no_or_several_configs_is_named(tmp_path):
    with pytest.raises(MissingFileError, match='no folder .*nowhere: give'):
        find_run_config(tmp_path / 'nowhere')
    with pytest.raises(MissingFileError, match='no config'):
        find_run_config(tmp_path)
    for name in ('a.py', 'b.py'):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r'several configs \(a.py, b.py\)'):
        find_run_config(tmp_path)


@pytest.mark.parametrize('text', ['', 'model = 5', 'model = [1]'])
def test_a_config_without_a_model_is_one_line(text, detector, tmp_path):
    config = tmp_path / 'odd.py'
    config.write_text(text)
    with pytest.raises(InputError, match='model of the config must be a dict, got'):
        Predictor(config, detector)


def test_stream_holds_no_more_than_a_batch(predictor, tmp_path):
    paths = [str(write(tmp_path / f'{i}.png', noise(64, 64, i))) for i in range(5)]
    read = []

    def reader(path):
        read.append(path)
        return predictor.read(path)

    images = read_images(find_sources(paths), reader, pytest.fail)
    stream = predictor.stream(images, pytest.fail, batch_size=2)
    next(stream)
    assert len(read) == 2
    assert len(list(stream)) == 4


def test_masks_are_kept_as_codes_and_large_images_of_them_run_in_smaller_batches(
    detector, monkeypatch
):
    cfg = edit.load_config(find_run_config(detector))
    cfg.test_dataloader.dataset.pipeline[2] = dict(type='LoadAnnotations', with_mask=True)
    predictor = Predictor(cfg, detector, 'cpu')
    monkeypatch.setattr(predictor_module, 'MOST_PIXELS', 2 * 60 * 100)
    batches, masks = [], []

    def test_step(batch):
        batches.append(len(batch['data_samples']))
        for sample in batch['data_samples']:
            masks.append(torch.rand(len(masks), *sample.ori_shape) > 0.5)
            count = len(masks[-1])
            sample.pred_instances = InstanceData(
                bboxes=torch.zeros(count, 4), scores=torch.ones(count), masks=masks[-1]
            )
        return batch['data_samples']

    monkeypatch.setattr(predictor.model, 'test_step', test_step)
    small = [noise(15, 25), noise(30, 50), noise(15, 25)]  # scaled to one size
    samples = predictor.predict([*small, noise(60, 100), noise(60, 100)], batch_size=4)
    assert batches == [2, 2, 1]
    assert len(samples) == len(masks) == 5
    for sample, expected in zip(samples, masks, strict=True):
        codes = sample.pred_instances.masks
        assert len(codes) == len(expected)
        for code, mask in zip(codes, expected, strict=True):
            assert isinstance(code['counts'], str)
            assert (masks_of_coco.decode(code) == mask.numpy()).all()
    batches.clear()
    predictor.predict(small, batch_size=4)
    assert batches == [3]
    predictor.predict([noise(120, 200)] * 2, batch_size=4)
    assert batches == [3, 1, 1]  # one alone at the least
