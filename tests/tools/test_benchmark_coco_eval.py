import csv
import subprocess
import sys

import pytest


def test_benchmark_compares_the_backends_and_writes_a_line_for_each_run(project_root, tmp_path):
    pytest.importorskip('faster_coco_eval')
    out = tmp_path / 'times.csv'
    command = [sys.executable, 'benchmarks/coco_eval.py', '--images', '6', '--detections',
               '8', '--rounds', '2', '--out', str(out)]  # fmt: skip
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=True)
    assert 'largest difference of the twelve figures' in done.stdout
    with out.open() as file:
        rows = list(csv.DictReader(file))
    order = ['faster_coco_eval', 'pycocotools', 'mmdet']
    assert [row['who'] for row in rows] == order + order[::-1]
    assert all(float(row['whole']) >= float(row['inner']) > 0 for row in rows)
