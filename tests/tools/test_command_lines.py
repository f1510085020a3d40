"""Each tool starts by itself: the tests' own imports must not be what makes it work."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    'tool',
    [
        'train',
        'test',
        'get_coco',
        'make_demo_data',
        'voc_to_coco',
        'convert_weights',
        'publish_weights',
        'predict',
        'sweep_detectors',
        'check_data',
        'export',
        'benchmark_data',
        'benchmark_guard',
        'benchmark_heads',
        'launch',
        'plan',
        'replay',
    ],
)
def test_help_works_in_a_fresh_process_from_another_folder(tool, project_root, tmp_path):
    path = project_root / 'tools' / f'{tool}.py'
    result = subprocess.run(
        [sys.executable, str(path), '--help'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''
    assert result.stdout.startswith('usage: ')
