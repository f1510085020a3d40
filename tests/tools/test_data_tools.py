"""make_demo_data and voc_to_coco: what they write, print and refuse."""

import pytest
from PIL import Image


def test_make_demo_data_makes_data_and_sheet_and_refuses_to_overwrite(run, tmp_path):
    args = ('--num-train', 3, '--num-val', 2, '--preview', 'sheet.png')
    done = run('make_demo_data', *args)
    assert done.code == 0, done.err
    assert '3 training, 2 validation images, 10 classes' in done.out
    assert len(list((tmp_path / 'data/demo/train2017').iterdir())) == 3
    with Image.open(tmp_path / 'sheet.png') as sheet:
        assert sheet.width > sheet.height
    done = run('make_demo_data', '--num-train', 4, '--num-val', 2)
    assert done.error.startswith('error: data/demo holds other demo data')


def test_make_demo_data_makes_class_folders_and_their_sheet(run, tmp_path):
    args = ('--classes', '--size', 32, '--preview', 'sheet.png')
    done = run('make_demo_data', *args)
    assert done.code == 0, done.err
    assert 'data/demo_classes: 1438 training, 359 validation images, 10 classes' in done.out
    assert len(list((tmp_path / 'data/demo_classes/val').iterdir())) == 10
    with Image.open(tmp_path / 'sheet.png') as sheet:
        assert sheet.width > sheet.height
    assert 'size 32 (asked: 64)' in run('make_demo_data', '--classes').error
    done = run('make_demo_data', '--classes', '--num-val', 5)
    assert 'each digit is drawn once' in done.error


@pytest.mark.real
def test_voc_to_coco_prints_a_table_and_names_the_boxes_left_out(run, real_data):
    done = run('voc_to_coco', real_data / 'bccd/BCCD', 'out')
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines()]
    images = dict(test=72, train=205, trainval=292, val=87)
    assert {row[0]: int(row[1]) for row in rows[:4]} == {
        f'out/annotations/instances_{split}.json:': count for split, count in images.items()
    }
    assert rows[4] == ['class', *(word for split in images for word in (split, 'boxes'))]
    assert {row[0]: int(row[1]) + int(row[2]) + int(row[4]) for row in rows[6:9]} == dict(
        Platelets=361, RBC=4153, WBC=372
    )
    assert 'boxes without area, or a side below a pixel: 1 of 1138' in done.err
