"""The image that a test leaves behind, drawn from a real runner's test loop."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from PIL import Image

from tresnet_det.engine import PredictionsImageHook
from tresnet_det.evaluation import draw
from tresnet_det.models import ClsDataSample
from tresnet_det.tasks import DETECTION, MULTI_LABEL, SINGLE_LABEL

HOOK = {'type': 'PredictionsImageHook', 'limit': 3}


class Classes(list):
    metainfo = {'classes': ('cat', 'dog')}


def sample(path):
    data = DetDataSample(metainfo={'img_path': str(path)})
    both = {'bboxes': torch.tensor([[8.0, 8, 40, 40]]), 'labels': torch.tensor([0])}
    data.pred_instances = InstanceData(**both, scores=torch.tensor([0.9]))
    data.gt_instances = InstanceData(**both)
    return data


def scored(path, scores=(0.9, 0.1), label=0):
    data = ClsDataSample(metainfo={'img_path': str(path)}, gt_label=label)
    data.pred_score = torch.tensor(scores)
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
    for name in ('draw_classifications', 'draw_detections'):
        real = getattr(draw, name)

        def record(*args, real=real, **more):
            calls.append(inspect.signature(real).bind(*args, **more).arguments)
            real(*args, **more)

        monkeypatch.setattr(draw, name, record)
    return calls


@pytest.mark.parametrize(
    ('make', 'multi_label', 'threshold'),
    [(sample, False, 0.3), (scored, False, 0.0),
     (lambda path: scored(path, (0.9, 0.8), [1, -1]), True, 0.5)],
    ids=['detection', 'single-label', 'multi-label'],
)  # fmt: skip
@pytest.mark.parametrize('score_thr', [None, 0.2])
def test_first_images_are_drawn_from_the_threshold_of_the_task(
    run_test, photo, drawn, make, multi_label, threshold, score_thr
):
    hook = {**HOOK, 'score_thr': score_thr}
    path, lines = run_test([make(photo)] * 5, hook, multi_label=multi_label)
    assert not any('could not be drawn' in line for line in lines)
    (call,) = drawn
    assert [s.img_path for s in call['samples']] == [str(photo)] * 3
    assert call['classes'] == ('cat', 'dog')
    assert call.get('multi_label', False) == multi_label
    found = call['score_thr' if make is sample else 'threshold']
    assert found == (threshold if score_thr is None else score_thr)
    pixels = np.asarray(Image.open(path))
    assert (pixels == 90).all(-1).sum() > 10_000
    assert (pixels == (0x56, 0xB4, 0xE9)).all(-1).sum() > 500


@pytest.mark.parametrize(
    ('samples', 'why'),
    [
        ([sample('s3://bucket/a.jpg')], 'does not exist'),
        ([[sample('a.jpg'), sample('a.jpg')]], 'img_path'),
        ([torch.zeros(2)], 'img_path'),
        ([scored('/nowhere/a.jpg')], 'does not exist'),
    ],
    ids=['remote', 'nested', 'tensors', 'missing'],
)
def test_image_that_cannot_be_drawn_is_a_warning(run_test, samples, why):
    path, lines = run_test(samples)
    (line,) = [line for line in lines if line.startswith('predictions.png could not be drawn')]
    assert why in line
    assert not path.exists()


def test_images_of_a_classifier_are_from_first_to_last(run_test, tmp_path, drawn):
    paths = [tmp_path / f'{i}.png' for i in range(11)]
    for path in paths:
        Image.new('RGB', (8, 8)).save(path)
    run_test([scored(path) for path in paths])
    found = [s.img_path for s in drawn[0]['samples']]
    assert found == [str(paths[i]) for i in (0, 4, 8)]  # from 0, 11/3, 22/3 on


@pytest.mark.parametrize('count', [1, 9])
def test_limit_none_draws_24_of_a_classifier_and_12_of_a_detector(run_test, photo, drawn, count):
    hook = PredictionsImageHook()
    run_test([scored(photo)] * 3 * count, hook)
    run_test([sample(photo)] * 2 * count, hook)
    assert [len(call['samples']) for call in drawn] == [min(24, 3 * count), min(12, 2 * count)]


def test_other_processes_draw_nothing(run_test, photo, monkeypatch):
    monkeypatch.setattr('tresnet_det.engine.predictions_image.is_main_process', lambda: False)
    path, _ = run_test([sample(photo)])
    assert not path.exists()


@pytest.mark.parametrize(('own', 'expected'), [(None, 0.4), (0.6, 0.6)])
def test_without_a_name_it_is_drawn_when_asked_from_the_threshold_that_is_given(
    run_test, photo, drawn, tmp_path, own, expected
):
    hook = PredictionsImageHook(score_thr=own, file_name=None)
    path, _ = run_test([sample(photo)], hook)
    assert not path.exists()
    assert not drawn
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=Classes()))
    hook.draw(runner, tmp_path / 'later.png', 0.4)
    assert (tmp_path / 'later.png').is_file()
    assert drawn[0]['score_thr'] == expected
