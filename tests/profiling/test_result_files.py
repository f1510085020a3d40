"""Tables and CSV files of measurements."""

import csv
from types import SimpleNamespace

import torch

from tresnet_det.profiling import report


def test_the_table_shows_spreads_and_leaves_out_what_nobody_has():
    columns = [
        report.Column('model', 'model'),
        report.Column('kept MiB', 'kept', 2**20),
        report.Column('img/s', 'speed'),
        report.Column('largest batch', 'largest'),
    ]
    rows = [
        {'model': 'a', 'kept': 3 * 2**20, 'speed': 2.5, 'speed_min': 2.0, 'speed_max': 3.0},
        {'model': 'bcd', 'kept': None, 'speed': 20.0},
    ]
    assert report.format_table(rows, columns).splitlines() == [
        'model  kept MiB               img/s',
        'a          3.00  2.50 (2.00 - 3.00)',
        'bcd           -                20.0',
    ]


def test_the_csv_has_the_header_as_comments_and_replaces_the_old_one(tmp_path):
    path = tmp_path / 'figures.csv'
    path.write_text('old')
    report.write_csv(path, [{'a': 1 / 3}, {'a': 2, 'b': 'x'}], {'machine': 'a, b'})
    lines = path.read_text().splitlines()
    assert lines[0] == '# machine: a, b'
    assert list(csv.DictReader(lines[1:])) == [
        {'a': '0.3333333333', 'b': ''},
        {'a': '2', 'b': 'x'},
    ]
    assert [p.name for p in tmp_path.iterdir()] == ['figures.csv']


def test_the_header_of_a_gpu_has_its_clocks_and_temperature(monkeypatch, tmp_path):
    properties = SimpleNamespace(uuid='1234')
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: properties)
    device = torch.device('cuda', 1)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert report.gpu_state(device) == 'unknown: FileNotFoundError of nvidia-smi'
    tool = tmp_path / 'nvidia-smi'
    tool.write_text(
        '#!/bin/sh\n[ $1 = --id=GPU-1234 ] && echo "580.1, 1980 MHz, 1980 MHz, 3201 MHz, 41, 700 W"'
    )
    tool.chmod(0o755)
    assert 'clocks.sm 1980 MHz' in report.gpu_state(device)
    assert 'temperature.gpu 41' in report.gpu_state(device)


def test_the_header_says_what_the_figures_depend_on(settings):
    header = report.describe(settings)
    assert {'machine', 'device', 'versions', 'precision', 'layout', 'compile', 'date'} <= set(
        header
    )
    assert 'torch' in header['versions']
    assert header['layout'] == 'channels_last'
