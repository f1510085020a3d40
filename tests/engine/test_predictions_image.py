"""The image that a test leaves behind, drawn from a real runner's test loop."""

import inspect

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from PIL import Image

from tresnet_det.engine import PredictionsImageHook
from tresnet_det.evaluation import sheets
from tresnet_det.models.data_sample import ClsDataSample
from tresnet_det.tasks import DETECTION, MULTI_LABEL, SINGLE_LABEL

BOX = torch.tensor([[8.0, 8, 40, 40]])
HOOK = {'type': 'PredictionsImageHook', 'limit': 3}


class Classes(list):
    metainfo = {'classes': ('cat', 'dog')}


def sample(path, found=True, truth=True):
    data = DetDataSample(metainfo={'img_path': str(path)})
    if found:
        data.pred_instances = InstanceData(
            bboxes=BOX, labels=torch.tensor([0]), scores=torch.tensor([0.9])
        )
    if truth:
        data.gt_instances = InstanceData(bboxes=BOX, labels=torch.tensor([0]))
    return data


def scored(path, scores, label=None):
    data = ClsDataSample(metainfo={'img_path': str(path)})
    data.pred_score = torch.tensor(scores)
    if label is not None:
        data.gt_label = label
    return data


@pytest.fixture
def run_test(build, toy, log, tmp_path, monkeypatch):
    """Test with a model that returns these samples; give the image's path and the log."""

    def run(samples, hook=HOOK, multi_label=False):
        classifies = isinstance(samples[0], ClsDataSample)
        task = (MULTI_LABEL if multi_label else SINGLE_LABEL) if classifies else DETECTION
        module = 'tresnet_det.engine.predictions_image'
        monkeypatch.setattr(f'{module}.find_model_task', lambda model: task)

        class Finder(toy):
            def forward(self, inputs, data_samples=None, mode='loss'):
                return list(data_samples)

        loader = {
            'dataset': Classes({'inputs': torch.zeros(2), 'data_samples': one} for one in samples),
            'batch_size': 2,
            'num_workers': 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        }
        runner = build([hook], model=Finder(), evaluate_only=True, test_dataloader=loader)
        lines = log(runner)
        assert 'coco/bbox_mAP' in runner.test()
        return tmp_path / 'work' / 'predictions.png', lines

    return run


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'grey.png'
    Image.new('RGB', (64, 64), (90, 90, 90)).save(path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """What the hook asks to be drawn, by argument; it is drawn, too."""
    calls = []
    for name in ('draw_classifications', 'draw_predictions'):
        draw = getattr(sheets, name)

        def record(*args, draw=draw, **more):
            calls.append(inspect.signature(draw).bind(*args, **more).arguments)
            draw(*args, **more)

        monkeypatch.setattr(sheets, name, record)
    return calls


@pytest.mark.parametrize(('truth', 'score_thr'), [(True, None), (False, 0)])
def test_first_images_of_a_test_are_drawn(run_test, photo, truth, score_thr, drawn):
    samples = [sample(photo, truth=truth)] * 5
    path, lines = run_test(samples, {**HOOK, 'score_thr': score_thr})
    assert not any('could not be drawn' in line for line in lines)
    (call,) = drawn
    paths, predictions, objects, classes, *_ = call.values()
    assert paths == [str(photo)] * 3
    assert [p.labels.tolist() for p in predictions] == [[0]] * 3
    assert (objects is not None) == truth
    assert classes == ('cat', 'dog')
    assert call['score_thr'] == (0.3 if score_thr is None else score_thr)
    pixels = np.asarray(Image.open(path))[..., :3]
    assert (pixels == 90).all(-1).sum() > 0.2 * pixels[..., 0].size
    assert (pixels == (0x56, 0xB4, 0xE9)).all(-1).sum() > 500


@pytest.mark.parametrize(
    ('samples', 'why'),
    [
        ([sample('s3://bucket/a.jpg')], 'does not exist'),
        ([sample('a.jpg', found=False)], 'pred_instances'),
        ([[sample('a.jpg'), sample('a.jpg')]], 'img_path'),
        ([torch.zeros(2)], ''),
        ([scored('/nowhere/a.jpg', [0.9, 0.1], 0)], 'does not exist'),
        ([scored('a.jpg', [0.9, 0.1, 0.0], 0)], 'scores must be'),
        ([scored('a.jpg', [float('nan'), 0.1], 0)], 'is NaN'),
        ([scored('a.jpg', [0.9, 0.1], 0), scored('a.jpg', [0.9, 0.1], [0, 1])], ''),
    ],
    ids=['remote', 'no instances', 'nested', 'tensors', 'missing', 'too few classes', 'NaN',
         'mixed labels'],
)  # fmt: skip
def test_image_that_cannot_be_drawn_is_a_warning(run_test, samples, why):
    path, lines = run_test(samples)
    (line,) = [line for line in lines if line.startswith('predictions.png could not be drawn')]
    assert why in line
    assert not path.exists()


@pytest.mark.parametrize(
    ('scores', 'label', 'multi_label'),
    [
        ([0.9, 0.1], 0, False),
        ([0.9, 0.8], [1, -1], True),
        ([0.9, 0.1], None, False),
        ([0.9, 0.8], None, True),
    ],
)
def test_what_a_classifier_says_is_drawn(run_test, photo, drawn, scores, label, multi_label):
    hook = HOOK if label is not None else {**HOOK, 'score_thr': 0.2}
    path, lines = run_test([scored(photo, scores, label)] * 2, hook, multi_label=multi_label)
    assert not any('could not be drawn' in line for line in lines)
    (call,) = drawn
    assert call['image_paths'] == [str(photo)] * 2
    assert call['scores'] == pytest.approx(np.array([scores] * 2))
    assert (call['labels'] is None) == (label is None)
    assert label is None or call['labels'].tolist() == [label] * 2
    assert call['class_names'] == ('cat', 'dog')
    assert call['multi_label'] == multi_label
    assert call['threshold'] == (0.2 if label is None else 0.5 if multi_label else 0.0)
    pixels = np.asarray(Image.open(path))[..., :3]
    assert (pixels == 90).all(-1).sum() > 10_000


def test_images_of_a_classifier_are_from_first_to_last(run_test, tmp_path, drawn):
    paths = [tmp_path / f'{i}.png' for i in range(11)]
    for path in paths:
        Image.new('RGB', (8, 8)).save(path)
    run_test([scored(path, [0.9, 0.1], 0) for path in paths])
    assert drawn[0]['image_paths'] == [str(paths[i]) for i in (0, 4, 8)]  # from 0, 11/3, 22/3 on


@pytest.mark.parametrize('count', [1, 9])
def test_limit_none_draws_24_of_a_classifier_and_12_of_a_detector(run_test, photo, drawn, count):
    hook = PredictionsImageHook()
    run_test([scored(photo, [0.9, 0.1], 0)] * 3 * count, hook)
    assert len(drawn[0]['image_paths']) == min(24, 3 * count)
    run_test([sample(photo)] * 2 * count, hook)
    assert len(drawn[1]['image_paths']) == min(12, 2 * count)


def test_other_processes_draw_nothing(run_test, photo, monkeypatch):
    monkeypatch.setattr('tresnet_det.engine.predictions_image.is_main_process', lambda: False)
    path, _ = run_test([sample(photo)])
    assert not path.exists()
