"""The picture that a test leaves behind, drawn from a real runner's test loop."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from PIL import Image

BOX = torch.tensor([[8.0, 8, 40, 40]])
HOOK = {'type': 'PredictionsPictureHook', 'limit': 3}


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


@pytest.fixture
def run_test(build, toy, log, tmp_path):
    """Test with a model that returns these samples; give the picture's path and the log."""

    def run(samples, hook=HOOK):
        class Finder(toy):
            def forward(self, inputs, data_samples=None, mode='loss'):
                return list(data_samples)

        loader = {
            'dataset': Classes({'inputs': torch.zeros(2), 'data_samples': one} for one in samples),
            'batch_size': 2,
            'num_workers': 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': {'type': 'pseudo_collate'},
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


@pytest.mark.parametrize('truth', [True, False])
def test_first_pictures_of_a_test_are_drawn(run_test, photo, truth, monkeypatch):
    from tresnet_det.evaluation import figures

    calls = []
    draw = figures.draw_predictions
    monkeypatch.setattr(
        figures, 'draw_predictions', lambda *args, **more: calls.append(args) or draw(*args, **more)
    )
    path, lines = run_test([sample(photo, truth=truth)] * 5)
    assert not any('could not be drawn' in line for line in lines)
    ((paths, predictions, objects, classes, _),) = calls
    assert paths == [str(photo)] * 3
    assert [p.labels.tolist() for p in predictions] == [[0]] * 3
    assert (objects is not None) == truth
    assert classes == ('cat', 'dog')
    pixels = np.asarray(Image.open(path))[..., :3]
    grey = (pixels == 90).all(-1).sum()
    blue = (pixels == (0x56, 0xB4, 0xE9)).all(-1).sum()
    assert grey > 0.2 * pixels[..., 0].size
    assert blue > 500


@pytest.mark.parametrize(
    ('samples', 'why'),
    [
        ([sample('s3://bucket/a.jpg')], 'is not there'),
        ([sample('/nowhere/a.jpg')], 'is not there'),
        ([sample('a.jpg', found=False)], 'pred_instances'),
        ([[sample('a.jpg'), sample('a.jpg')]], 'img_path'),
        ([torch.zeros(2)], ''),
    ],
    ids=['remote', 'missing', 'no instances', 'nested', 'tensors'],
)
def test_picture_that_cannot_be_drawn_is_a_warning(run_test, samples, why):
    path, lines = run_test(samples)
    (line,) = [line for line in lines if line.startswith('predictions.png could not be drawn')]
    assert why in line
    assert not path.exists()


def test_other_processes_draw_nothing(run_test, photo, monkeypatch):
    monkeypatch.setattr('tresnet_det.engine.predictions_picture.is_main_process', lambda: False)
    path, _ = run_test([sample(photo)])
    assert not path.exists()
