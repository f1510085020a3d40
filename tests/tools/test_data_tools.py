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
    assert rows[0] == ['split', 'images', 'Platelets', 'RBC', 'WBC', 'boxes']
    table = {row[0]: [int(cell) for cell in row[1:]] for row in rows[1:5]}
    assert {split: row[0] for split, row in table.items()} == {
        'train': 205, 'val': 87, 'test': 72, 'trainval': 292
    }  # fmt: skip
    assert [sum(table[s][i] for s in ('train', 'val', 'test')) for i in range(1, 5)] == [
        361, 4153, 372, 4886
    ]  # fmt: skip
    assert 'boxes without area, or a side below a pixel: 1 of 1138' in done.err
