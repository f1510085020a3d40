"""Each tool starts by itself: the tests' own imports must not be what makes it work."""

import subprocess
import sys

import pytest

BENCHMARKS = ('coco_eval', 'data_pipeline', 'heads', 'reuse_sweep')


@pytest.mark.parametrize(
    'tool',
    [
        *(f'benchmarks/{name}' for name in BENCHMARKS),
        'train',
        'test',
        'get_coco',
        'make_demo_data',
        'voc_to_coco',
        'convert_weights',
        'publish_weights',
        'predict',
        'check_data',
        'export',
        'launch',
        'plan',
    ],
)
def test_help_works_in_a_fresh_process_from_another_folder(tool, project_root, tmp_path):
    path = project_root / ('' if '/' in tool else 'tools') / f'{tool}.py'
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
