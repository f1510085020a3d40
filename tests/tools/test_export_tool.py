"""tools/export.py: the file that it writes, checks and times, or refuses."""

import json
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS

from tresnet_det.engine import config as edit
from tresnet_det.inference.onnx_runner import OnnxModel


@pytest.fixture
def classifier_config(tiny_config):
    return tiny_config('classification', model=dict(head=dict(num_classes=3)))


@pytest.mark.slow
def test_a_detector_is_written_checked_and_timed(run, config, data, tmp_path):
    result = run(
        *('export', config, 'none', '--out', 'new/fcos.onnx', '--score-thr', 0.001),
        *('--num-images', 2, '--size', 80, 96, '--torch-export'),
    )
    assert (result.code, result.err) == (0, '')
    assert 'new/fcos.onnx: FCOS of TResNet, ' in result.out
    assert 'onnxruntime, boxes: 40 boxes the same, 0 not' in result.out
    assert 'torch.export, boxes: 40 boxes the same, 0 not' in result.out
    assert "onnx_runner.py's images differ in nothing" in result.out
    for name in ('PyTorch', 'PyTorch, norms folded', 'onnxruntime'):
        assert f'\n  {name:<22} ' in result.out
    model = OnnxModel(tmp_path / 'new/fcos.onnx')
    assert model.classes == list('0123456789')
    assert model.metadata['score_thr'] == 0.001
    assert model.metadata['steps'][0]['scale'] == [96, 80]
    assert (tmp_path / 'new/fcos.pt2').is_file()


def test_a_classifiers_weights_come_from_the_checkpoint_with_its_classes(
    run, classifier_config, tmp_path
):
    cfg = edit.load_config(classifier_config)
    model = MODELS.build(cfg.model)
    torch.nn.init.constant_(model.head.fc.weight, 0)
    model.head.fc.bias.data = torch.tensor([1.0, 2.0, 3.0])
    (tmp_path / 'c.int8.json').touch()  # of an earlier file
    thresholds = dict(cow=0.75, ant=0.25, bee=0.5)
    meta = dict(dataset_meta=dict(classes=('ant', 'bee', 'cow')), thresholds=thresholds)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'weights.pth')
    result = run('export', classifier_config, 'weights.pth', '--out', 'c.onnx', '--no-check')
    assert (result.code, result.err) == (0, '')
    assert not (tmp_path / 'c.int8.json').exists()
    exported = OnnxModel(tmp_path / 'c.onnx')
    assert exported.classes == ['ant', 'bee', 'cow']
    assert exported.score_thr.tolist() == [0.25, 0.5, 0.75]
    (answer,) = exported.run({'images': torch.zeros(1, 3, 64, 64).numpy()})
    assert answer['logits'].tolist() == pytest.approx([1, 2, 3])
    del meta['thresholds']['ant']
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'less.pth')
    result = run('export', classifier_config, 'less.pth', '--out', 'less.onnx', '--no-check')
    assert "has no threshold of 'ant': the file gets none" in result.printed
    meta['thresholds']['ant'] = 1.5
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'odd.pth')
    error = run('export', classifier_config, 'odd.pth', '--out', 'c.onnx').error
    assert error.endswith(
        "odd.pth: meta['thresholds']['ant'] is 1.5 (float), not a number from 0 to 1"
    )


@pytest.mark.parametrize('task', ['detection', 'classification'])
def test_an_exported_file_is_measured_as_its_checkpoint_is(task, trained, run, tmp_path):
    done = trained(task)
    config = done.as_run  # with the number of classes
    result = run('export', config, done.checkpoint, '--out', 'x.onnx', '--no-check')
    assert result.code == 0, result.err
    metrics = []
    for what in (done.checkpoint, 'x.onnx'):
        result = run('test', config, what, '--work-dir', f'of_{Path(what).suffix}')
        assert result.code == 0, result.err
        folder = tmp_path / f'of_{Path(what).suffix}'
        assert str(Path(folder.name, 'evaluation/report.html')) in result.out
        metrics.append(json.loads((folder / 'metrics.json').read_text())['metrics'])
    assert metrics[1] == pytest.approx(metrics[0], rel=0, abs=1e-4)
    error = run('test', config, 'x.onnx', '--keep-thresholds').error
    assert '--keep-thresholds is not for an exported file' in error
    assert 'is a .json' in run('test', config, 'x.onnx', '--out', 'x.pkl').error
    assert run('test', 'gone.py', 'gone.onnx').error == 'error: gone.onnx: no such file'
    (tmp_path / 'x_test').mkdir()
    (tmp_path / 'x_test/predictions.png').touch()  # of another run
    result = run('test', config, 'x.onnx')
    assert 'x_test/metrics.json' in result.out
    assert 'predictions.png' not in result.out


def test_a_file_that_differs_is_an_error(run, classifier_config, data, monkeypatch):
    from tresnet_det.deploy import agreement

    monkeypatch.setattr(agreement, 'MAX_RELATIVE_DIFFERENCE', -1.0)
    result = run(
        *('export', classifier_config, 'none', '--out', 'c.onnx', '--task', 'backbone'),
        *('--images', data.folder / 'val2017', '--num-images', 1, '--size', 64, 64),
    )
    assert result.code == 1
    assert result.err.startswith('error: the file does not agree with PyTorch (')
    assert 'onnxruntime, stride_32: largest difference' in result.out
