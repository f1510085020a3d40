import dataclasses

import pytest
import torch
from torch import nn

from tresnet_det.errors import InputError
from tresnet_det.profiling import comparison
from tresnet_det.profiling.classifiers import ClassifierRun, count, measure_memory
from tresnet_det.profiling.models import ModelSpec
from tresnet_det.profiling.settings import Settings


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_training_step_changes_the_weights_and_inference_does_not(tiny_spec, settings, precision):
    run = ClassifierRun(tiny_spec, dataclasses.replace(settings, precision=precision))
    before = run.model.fc.weight.clone()
    tasks = run.tasks()
    tasks['inference'].before()
    assert run.infer().shape == (2, 1000)
    assert torch.equal(run.model.fc.weight, before)
    tasks['training'].before()
    run.train_step()
    assert not torch.equal(run.model.fc.weight, before)
    assert run.model.fc.weight.dtype == torch.float32
    assert run.model.fc.weight.grad is None


def test_ours_infers_folded_unless_asked_not_to(tiny_spec, settings):
    folded, plain = (
        ClassifierRun(tiny_spec, dataclasses.replace(settings, fuse=fuse)) for fuse in (True, False)
    )
    kinds = [{type(m).__name__ for m in run._infer.modules()} for run in (folded, plain)]
    assert 'InPlaceABN' not in kinds[0]
    assert 'InPlaceABN' in kinds[1]


def test_the_models_are_compared_with_the_first(tiny_spec, settings):
    twin = dataclasses.replace(tiny_spec, name='twin')
    rows = comparison.compare([tiny_spec, twin], settings, lambda line: None)
    assert [row['model'] for row in rows] == ['tiny', 'twin']
    assert rows[1]['kept_ratio'] == 1
    assert rows[0]['training_ratio_min'] == rows[0]['training_ratio_max'] == 1
    for row in rows:
        assert row['training_img_per_s_min'] <= row['training_img_per_s']
        assert row['inference_img_per_s'] > 0


def test_counts_alone_take_no_time(tiny_spec, settings):
    (row,) = comparison.compare([tiny_spec], settings, lambda line: None, speed=False)
    assert not any('img_per_s' in key or 'peak' in key for key in row)
    assert row['parameters'] > 0


def test_a_model_that_refuses_the_size_is_an_error_of_the_user(tiny_spec, settings):
    with pytest.raises(InputError, match='tiny does not take 16 pixels: .*at least 32'):
        count(dataclasses.replace(tiny_spec, size=16), settings)


def test_a_model_that_gives_no_logits_is_named(settings):
    class Two(nn.Linear):
        def forward(self, x):
            return x, x

    run = ClassifierRun(ModelSpec('two', 32, lambda: Two(2, 2)), settings)
    with pytest.raises(InputError, match='two gives tuple, not logits'):
        run.train_step()


def test_peak_memory_is_not_measured_for_compiled_models(tiny_spec, settings):
    assert measure_memory(tiny_spec, dataclasses.replace(settings, compile=True)) == {}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(device=torch.device('cpu'), precision='fp16'), 'fp16 does not train on a CPU'),
        (dict(device=torch.device('meta')), 'cpu and cuda'),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Settings(**options)


def test_scaling_varies_one_at_a_time(settings, monkeypatch):
    monkeypatch.setattr(comparison, 'SIZES', (64, 96))
    monkeypatch.setattr(comparison, 'BATCHES', (1, 2))
    monkeypatch.setattr(comparison, '_SCALING_SIZE', 64)
    rows = comparison.scale(['timm:resnet18', 'torchvision:resnet18'], settings, lambda line: None)
    assert [(r['varies'], r['size'], r['batch_size']) for r in rows[::2]] == [
        ('size', 64, 2),
        ('size', 96, 2),
        ('batch_size', 64, 1),
        ('batch_size', 64, 2),
    ]
    assert all(row['training_ratio'] == 1 for row in rows[::2])
