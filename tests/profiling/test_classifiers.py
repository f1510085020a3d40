"""Measured classifiers: real steps, ratios to the first, and settings that cannot be."""

import dataclasses

import pytest
import torch
from torch import nn

from tresnet_det.errors import InputError
from tresnet_det.profiling import classifiers, modes
from tresnet_det.profiling.classifiers import ClassifierRun, compare, count, measure_memory
from tresnet_det.profiling.models import ModelSpec
from tresnet_det.profiling.report import format_table
from tresnet_det.profiling.settings import Settings


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_training_step_changes_the_weights_and_inference_does_not(tiny_spec, settings, precision):
    run = ClassifierRun(tiny_spec, dataclasses.replace(settings, precision=precision))
    before = run.model.fc.weight.clone()
    workloads = run.workloads()
    workloads['inference'].before()
    assert run.infer().shape == (2, 1000)
    assert torch.equal(run.model.fc.weight, before)
    workloads['training'].before()
    run.train_step()
    assert not torch.equal(run.model.fc.weight, before)
    assert run.model.fc.weight.dtype == torch.float32
    assert run.model.fc.weight.grad is None


def test_the_models_are_compared_with_the_first_and_saved_as_they_come(tiny_spec, settings):
    saved = []
    other = dataclasses.replace(tiny_spec, name='other')
    rows = compare([tiny_spec, other], settings, lambda rows: saved.append(str(rows)))
    assert [row['model'] for row in rows] == ['tiny', 'other']
    assert rows[1]['kept_ratio'] == 1
    assert rows[0]['training_ratio_min'] == rows[0]['training_ratio_max'] == 1
    for row in rows:
        assert row['training_img_per_s_min'] <= row['training_img_per_s']
        assert row['inference_img_per_s'] > 0
    assert len(saved) == 4  # two counts and two rounds
    assert 'other' not in saved[0]
    assert 'img_per_s' not in saved[1]
    assert saved[3] == str(rows)


def test_family_puts_published_accuracy_next_to_measured_speed(settings, monkeypatch, tmp_path):
    published = {'torchvision:squeezenet1_1@32': 58.2, 'timm:lcnet_050@32': 63.1}
    for module in (modes.models, classifiers):
        monkeypatch.setattr(module, 'PUBLISHED_TOP1', published)
    result = modes.run_family(dataclasses.replace(settings, rounds=1), print)
    assert '63.1 %' in format_table(result.rows, result.columns)
    result.draw(tmp_path / 'family.png', title='Title', caption='machine')
    assert (tmp_path / 'family.png').read_bytes().startswith(b'\x89PNG')


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


@pytest.mark.parametrize('has_hardware', [True, False])
def test_bf16_without_hardware_is_a_warning(monkeypatch, has_hardware):
    known = dict(architecture='x86_64', avx512_bf16=has_hardware, amx_bf16=False)
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: known, raising=False)
    warning = Settings(torch.device('cpu'), precision='bf16').warning
    assert (warning is None) == has_hardware
    assert has_hardware or 'no hardware for bf16' in warning
    assert Settings(torch.device('cpu')).warning is None
