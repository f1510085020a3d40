"""Int8: what it keeps of a model, and the gate that refuses what it does not keep."""

import json
import shutil
from argparse import Namespace

import numpy as np
import onnx
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate
from onnxruntime.quantization import quantize_static

from tresnet_det.cli import export
from tresnet_det.deploy import quantize
from tresnet_det.deploy.quantize import Quantizer
from tresnet_det.engine import config as edit
from tresnet_det.inference.onnx_runner import OnnxModel


@pytest.fixture
def interpolated(tiny_config, class_folders, tmp_path):
    """A config and a checkpoint of a random backbone whose head is right on all images of val."""
    config = tiny_config(
        'classification', data_root=class_folders, model=dict(head=dict(num_classes=3))
    )
    cfg = edit.load_config(config)
    model = MODELS.build(cfg.model).eval()
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    samples = [dataset[i] for i in range(len(dataset))]
    data = model.data_preprocessor(pseudo_collate(samples), False)
    with torch.no_grad():
        features = model.backbone(data['inputs'])[-1].mean((2, 3)).double()
        centre = features.mean(0)
        labels = torch.stack([s['data_samples'].gt_label for s in samples]).flatten()
        wanted = torch.nn.functional.one_hot(labels, 3).double() - 1 / 3
        weight = (torch.linalg.pinv(features - centre) @ wanted).T
        model.head.fc.weight.copy_(weight)
        model.head.fc.bias.copy_(-(weight @ centre))
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'weights.pth')
    return config


def test_a_file_that_keeps_its_accuracy_is_written_with_its_table(run, interpolated, tmp_path):
    options = '--no-check', '--int8', '--max-drop', 0.5
    result = run('export', interpolated, 'weights.pth', '--out', 'c.onnx', *options)
    assert (result.code, result.err) == (0, '')
    assert 'int8 for any x86-64 CPU: weights of 7 bits; calibrated on 12 images' in result.out
    kept = json.loads((tmp_path / 'c.int8.json').read_text())
    assert kept['before'] == 1
    assert kept['after'] >= 0.5
    assert kept['megabytes'][1] / kept['megabytes'][0] < 0.35
    for text in ('top-1, 12 images', ' of the size', ' times the speed ('):
        assert text in result.out
    model = OnnxModel(tmp_path / 'c.onnx')
    assert model.metadata['quantized'] == kept
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / 'c.onnx').graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    ]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == 64  # 7 bits
    assert [path.name for path in tmp_path.iterdir() if path.suffix == '.onnx'] == ['c.onnx']


class Agreement:
    """In place of an evaluation: how near the logits of a file are to those of another."""

    name = 'agreement'

    def __init__(self, file, images):
        self.images = images
        self.logits = self.find(OnnxModel(file))

    def find(self, model):
        return np.array([answer['logits'] for answer in model.predict_all(self.images)])

    def __len__(self):
        return len(self.images)

    def __call__(self, model):
        differences = np.abs(self.find(model) - self.logits)
        return max(0.0, 1 - float(differences.mean() / np.abs(self.logits).mean()))


def test_broken_accuracy_is_refused(classifier_file, files, monkeypatch, tmp_path, capsys):
    def quantize_badly(source, target, *args, **kwargs):
        quantize_static(source, target, *args, **kwargs)
        model = onnx.load(target)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.INT8 and tensor.raw_data:
                tensor.raw_data = bytes([1]) * len(tensor.raw_data)  # all weights the same
        onnx.save(model, target)

    monkeypatch.setattr(quantize, 'quantize_static', quantize_badly)
    source = tmp_path / 'float.onnx'
    shutil.copy(classifier_file.path, source)
    rng = np.random.default_rng(0)
    images = [rng.integers(256, size=(64, 64, 3), dtype=np.uint8) for _ in range(4)]
    args = Namespace(int8='any', max_drop=0.01)
    out = tmp_path / 'out' / 'c.onnx'
    out.parent.mkdir()
    evaluation = Agreement(source, images)
    assert not export.write_int8(source, out, files, evaluation, args)
    out_text, err = capsys.readouterr()
    assert float(out_text.split('int8 everywhere: ')[1].split()[0]) < 0.95
    assert 'of agreement, more than --max-drop 0.01: nothing is written' in err
    assert not list(out.parent.iterdir())


def test_the_groups_that_cost_most_stay_in_float(classifier_file, monkeypatch, tmp_path, capsys):
    costs = {'backbone.layer2': 0.2, 'backbone.layer4': 0.1}
    written = {}

    def write(self, target, groups):
        written[target] = groups

    def evaluate(target):
        return 0.9 - sum(costs.get(group, 0.001) for group in written[target])

    monkeypatch.setattr(Quantizer, 'write', write)
    quantizer = Quantizer(classifier_file.path, [], 'any')
    found = quantizer.search(tmp_path / 'a', evaluate, 0.85)
    assert found.excluded == ('backbone.layer2', 'backbone.layer4')
    assert found.metric == pytest.approx(0.9 - 0.001 * len(written[tmp_path / 'a']))
    assert 'backbone.layer2 alone in int8: 0.7000' in capsys.readouterr().out
    assert quantizer.search(tmp_path / 'a', evaluate, 0.95).metric < 0.95


def test_without_validation_or_images_int8_is_one_line(run, tiny_config):
    config = tiny_config('classification', model=dict(head=dict(num_classes=3)))
    export = 'export', config, 'none', '--out', 'c.onnx', '--int8'
    assert '--int8 needs a metric' in run(*export, '--task', 'backbone').error
    assert 'the folder of --calibration' in run(*export, '--calibration', 'none').error
