"""The scripts in benchmarks/ on little: what they write, and that all sides do the same work."""

import csv

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    """Three smooth coloured images."""
    for number, name in enumerate(['a.jpg', 'b.JPEG', 'c/d.jpg']):
        path = tmp_path / 'photos' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 256, (5, 7, 3), np.uint8)
        Image.fromarray(coarse).resize((96, 64), Image.Resampling.BICUBIC).save(path, quality=95)
    return tmp_path / 'photos'


HEADS = '--classes 12 --groups 3 --in-channels 8 --batch-size 2 --rounds 2 --min-seconds 0'
COCO_EVAL = '--num-images 6 --detections 8 --rounds 1'
PIPELINE = '--data-root {photos} --rounds 1'


@pytest.mark.parametrize(
    ('script', 'options', 'column', 'values'),
    [
        ('heads', HEADS, 'head', ['linear', 'ml_decoder', 'timm ml_decoder']),
        ('coco_eval', COCO_EVAL, 'metric', ['pycocotools', 'faster_coco_eval', 'mmdet']),
        ('data_pipeline', PIPELINE, 'side', ['torchvision', 'tresnet_det'] * 2),
    ],
)
def test_a_row_is_written_for_each_side(script, options, column, values, run, photos, tmp_path):
    if script == 'coco_eval':
        pytest.importorskip('faster_coco_eval')
    out = 'found' if script == 'heads' else 'found.csv'
    done = run(f'benchmarks/{script}', *options.format(photos=photos).split(), '--out', out)
    assert done.code == 0, done.err
    lines = (tmp_path / 'found.csv').read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith('#')))
    assert [row[column] for row in rows] == values
    assert any('command' in line for line in lines)
    for row in rows:
        assert all(float(v) > 0 for k, v in row.items() if k.endswith(('_img_per_s', '_ratio')))


def test_a_folder_without_images_is_one_line(run, tmp_path):
    assert 'no JPEG found' in run('benchmarks/data_pipeline', '--data-root', tmp_path).error
