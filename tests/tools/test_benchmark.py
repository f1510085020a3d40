"""tools/benchmark.py on small models and images: what it prints and writes, and its refusals."""

import csv
import sys

import pytest
import torch

from tresnet_det.cli import benchmark
from tresnet_det.errors import InputError

QUICK = ['--size', '64', '--rounds', '2', '--min-seconds', '0.01', '--batch-size', '2',
         '--device', 'cpu', '--out', 'figures']  # fmt: skip


def read_csv(path):
    lines = path.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith('#')))


def test_two_models_side_by_side(run, tmp_path):
    done = run('benchmark', '--models', 'timm:resnet18', 'torchvision:resnet18', *QUICK)
    assert done.code == 0, done.err
    assert 'ratios to timm:resnet18' in done.out
    assert 'channels_last' in done.out
    first, second = read_csv(tmp_path / 'figures.csv')
    assert float(first['training_ratio']) == 1
    assert first['macs'] == second['macs']
    assert first['kept_bytes_per_image'] == second['kept_bytes_per_image']
    assert (tmp_path / 'figures.png').read_bytes().startswith(b'\x89PNG')
    assert 'figures.csv' in done.out.splitlines()[-1]


def test_the_device_that_is_named_is_the_current_one(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    for device in ('cuda:1', 'cuda', 'cuda:2'):
        monkeypatch.setattr(sys, 'argv', ['benchmark', '--device', device])
        if device == 'cuda:2':
            with pytest.raises(InputError, match='--device cuda:2: 2 CUDA devices are visible'):
                benchmark.build_settings(benchmark.parse_args())
        else:
            assert benchmark.build_settings(benchmark.parse_args()).device == torch.device(device)
    assert chosen == [torch.device('cuda:1')]


def test_counts_alone_and_a_profile(run, tmp_path):
    done = run('benchmark', '--no-speed', '--models', 'timm:resnet18', *QUICK)
    assert done.code == 0, done.err
    assert 'img/s' not in done.out
    (row,) = read_csv(tmp_path / 'figures.csv')
    assert row['parameters'] == '11689512'
    (tmp_path / 'figures.png').unlink(missing_ok=True)
    done = run('benchmark', '--profile', '--models', 'timm:resnet18', *QUICK)
    assert done.code == 0, done.err
    assert 'timm:resnet18, training' in done.out
    assert {row['task'] for row in read_csv(tmp_path / 'figures.csv')} == {'training', 'inference'}
    assert not (tmp_path / 'figures.png').exists()


def test_detectors_with_and_without_their_data(run, config, tmp_path):
    other = tmp_path / 'without.py'
    other.write_text(config.read_text().replace('instances_train2017', 'instances_none'))
    done = run('benchmark', '--detector', config, other, *QUICK)
    assert done.code == 0, done.err
    assert 'without: loading is not measured: ' in done.out
    assert 'instances_none2017.json' in done.out or 'instances_none.json' in done.out
    assert 'INFO' not in done.out + done.err
    first, second = read_csv(tmp_path / 'figures.csv')
    assert float(first['loading_img_per_s']) > 0
    assert second['loading_img_per_s'] == ''
    assert float(second['kept_ratio']) == 1
