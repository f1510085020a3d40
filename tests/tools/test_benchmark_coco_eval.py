import csv

import pytest


def test_the_backends_agree_and_a_row_for_each_is_written(run, tmp_path):
    pytest.importorskip('faster_coco_eval')
    sizes = ('--images', 6, '--detections', 8, '--rounds', 2)
    done = run('benchmarks/coco_eval', *sizes, '--out', 'times.csv')
    assert done.code == 0, done.err
    assert 'largest difference of the 12 metrics' in done.out
    lines = (tmp_path / 'times.csv').read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith('#')))
    assert [row['metric'] for row in rows] == ['pycocotools', 'faster_coco_eval', 'mmdet']
    assert all(float(row['evaluation_img_per_s']) > 0 for row in rows)
