"""benchmarks/import_time.py: what it prints and writes."""

import csv

import pytest


def test_it_compares_both_imports_pair_by_pair(run, tmp_path):
    done = run('benchmarks/import_time', '--rounds', 1, '--out', 'imports')
    assert done.code == 0, done.err
    lines = (tmp_path / 'imports.csv').read_text().splitlines()
    assert any(line.startswith('# command: python') for line in lines)
    stack, ours = csv.DictReader(line for line in lines if not line.startswith('#'))
    assert stack['import'] == 'import mmdet.registry, mmengine.model'
    assert ours['import'] == 'import tresnet_det'
    assert float(stack['ratio']) == 1
    assert float(ours['seconds']) > 0
    expected = float(ours['seconds']) / float(stack['seconds'])
    assert float(ours['ratio']) == pytest.approx(expected)
