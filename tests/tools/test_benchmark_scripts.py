"""The scripts in benchmarks/ on little: what they write, and that all sides do the same work."""

import csv
import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image

OTHERS = ['pillow_v2', 'pillow_v1', 'tensors_v2']


@pytest.fixture
def photos(tmp_path):
    """Three smooth coloured images in COCO's layout, and one of another split."""
    for number, name in enumerate(['train2017/a.jpg', 'train2017/b.JPEG', 'train2017/c/d.jpg',
                                   'val2017/e.jpg']):  # fmt: skip
        path = tmp_path / 'coco' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 256, (5, 7, 3), np.uint8)
        Image.fromarray(coarse).resize((96, 64), Image.Resampling.BICUBIC).save(path, quality=95)
    return tmp_path / 'coco'


@pytest.fixture(scope='module')
def tool(project_root):
    path = project_root / 'benchmarks/data_pipeline.py'
    spec = importlib.util.spec_from_file_location('tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_csv(path):
    lines = path.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith('#')))


@pytest.mark.parametrize(
    ('script', 'options', 'column', 'values'),
    [
        (
            'heads',
            '--classes 12 --groups 3 --in-channels 8 --batch-size 2 --rounds 2 --min-seconds 0',
            'head',
            ['linear', 'ml_decoder', 'timm ml_decoder'],
        ),
        (
            'non_finite_overhead',
            '--config {config} --size 64 --rounds 2',
            'gradients',
            ['clipped', 'not clipped'],
        ),
        (
            'coco_eval',
            '--num-images 6 --detections 8 --rounds 1',
            'who',
            ['faster_coco_eval', 'pycocotools', 'mmdet'],
        ),
    ],
)
def test_a_row_is_written_for_each_side(
    script, options, column, values, run, tiny_config, tmp_path
):
    words = options.format(config=tiny_config('detection')).split()
    out = 'found.csv' if script == 'coco_eval' else 'found'
    done = run(f'benchmarks/{script}', *words, '--out', out)
    assert done.code == 0, done.err
    assert [row[column] for row in read_csv(tmp_path / 'found.csv')] == values


def test_it_prints_the_ratios_and_writes_a_row_for_each_round(run, photos, tmp_path):
    options = ('--data-root', photos, '--rounds', 2, '--parts', '--out', 'times')
    done = run('benchmarks/data_pipeline', *options)
    assert done.code == 0, done.err
    assert 'tresnet_det to it' in done.out
    text = (tmp_path / 'times.csv').read_text()
    assert '# images: 3, ' in text
    assert 'data_pipeline.py --data-root' in text
    assert 'pillow ' in text
    rows = read_csv(tmp_path / 'times.csv')
    assert [(row['pipeline'], row['round']) for row in rows] == [
        ('one_label_224', '1'),
        ('one_label_224', '2'),
        ('multi_label_448', '1'),
        ('multi_label_448', '2'),
    ]
    for row in rows:
        for who in OTHERS:
            ratio = float(row['tresnet_det_img_per_s']) / float(row[f'{who}_img_per_s'])
            assert float(row[f'{who}_ratio']) == pytest.approx(ratio)
    parts = read_csv(tmp_path / 'times_parts.csv')
    assert [row['step'] for row in parts if row['pipeline'] == 'multi_label_448'] == [
        'decode', 'Resize', 'Cutout', 'RandAugment', 'PILToTensor'
    ]  # fmt: skip
    for who in ('tresnet_det', 'pillow_v2'):
        for pipeline in ('one_label_224', 'multi_label_448'):
            shares = [row[f'{who}_percent'] for row in parts if row['pipeline'] == pipeline]
            assert sum(float(share or 0) for share in shares) == pytest.approx(100)


@pytest.mark.parametrize('pipeline', ['one_label_224', 'multi_label_448'])
@pytest.mark.parametrize('who', ['pillow_v2', 'tensors_v2'])
def test_a_seed_gives_both_sides_the_same_images(tool, photos, pipeline, who):
    folder, names = tool.find_images(photos, 3)
    ours, theirs = (
        tool.build_dataset(side, tool.PIPELINES[pipeline], folder, names)
        for side in ('tresnet_det', who)
    )
    same = []
    for seed in range(20):
        torch.manual_seed(seed)
        got = ours[seed % 3]['inputs'].int()
        torch.manual_seed(seed)
        want = theirs[seed % 3][0].int()
        assert got.shape == want.shape
        same.append(((got - want).abs() > 8).float().mean() < 0.02)
    # Where a rounded level meets a threshold or an equalisation, levels may lie further apart.
    assert sum(same) >= 17


def test_the_older_transforms_do_as_much(tool):
    for pipeline in tool.PIPELINES.values():
        ours, older = (tool.build_steps(who, pipeline) for who in ('tresnet_det', 'pillow_v1'))
        assert [*ours, 'PILToTensor'] == [*older]
        for key in ('num_ops', 'magnitude', 'num_magnitude_bins'):
            assert getattr(ours['RandAugment'], key) == getattr(older['RandAugment'], key)


def test_fewer_images_are_spread_over_all(tool, photos):
    assert tool.find_images(photos, 3)[1] == ['a.jpg', 'b.JPEG', 'c/d.jpg']
    assert tool.find_images(photos, 2)[1] == ['a.jpg', 'b.JPEG']
    assert len(tool.find_images(photos / 'val2017', 9)[1]) == 1


def test_what_cannot_be_measured_is_refused_in_one_line(run, photos, tmp_path):
    (tmp_path / 'empty').mkdir()
    (photos / 'train2017/b.JPEG').write_bytes(b'\xff\xd8 cut short')
    for folder, message in [
        (tmp_path / 'none', 'none: no such folder'),
        (tmp_path / 'empty', 'no JPEG'),
        (photos, 'b.JPEG: '),
    ]:
        done = run('benchmarks/data_pipeline', '--data-root', folder, '--rounds', 1)
        assert done.code == 2
        assert message in done.err
        errors = [line for line in done.err.splitlines() if line.startswith('error: ')]
        assert errors == done.err.splitlines()[-1:]
