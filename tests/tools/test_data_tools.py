import importlib.util
from pathlib import Path

import pytest
from PIL import Image

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a tool's ``main`` in a folder of its own: returns the exit code, stdout and stderr."""

    def call(tool: str, *args: object) -> tuple[int, str, str]:
        spec = importlib.util.spec_from_file_location(f'tools_{tool}', TOOLS / f'{tool}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.chdir(tmp_path)
        return module.main([*map(str, args)]), *capsys.readouterr()

    return call


def test_make_demo_data_makes_data_and_sheet_and_refuses_to_overwrite(run, tmp_path):
    args = ('--num-train', 3, '--num-val', 2, '--preview', 'sheet.png')
    code, out, err = run('make_demo_data', *args)
    assert code == 0, err
    assert '3 training, 2 validation images, 10 classes' in out
    assert len(list((tmp_path / 'data/demo/train2017').iterdir())) == 3
    with Image.open(tmp_path / 'sheet.png') as sheet:
        assert sheet.width > sheet.height
    code, out, err = run('make_demo_data', '--num-train', 4, '--num-val', 2)
    assert code == 2
    assert err.strip().splitlines()[-1].startswith('error: data/demo holds other demo data')
    assert 'Traceback' not in err


def test_make_demo_data_makes_class_folders_and_their_sheet(run, tmp_path, capsys):
    args = ('--classes', '--size', 32, '--preview', 'sheet.png')
    code, out, err = run('make_demo_data', *args)
    assert code == 0, err
    assert 'data/demo_classes: 1438 training, 359 validation images, 10 classes' in out
    assert len(list((tmp_path / 'data/demo_classes/val').iterdir())) == 10
    with Image.open(tmp_path / 'sheet.png') as sheet:
        assert sheet.width > sheet.height
    code, _, err = run('make_demo_data', '--classes')
    assert code == 2
    assert 'size 32 (asked: 64)' in err
    with pytest.raises(SystemExit):
        run('make_demo_data', '--classes', '--num-val', 5)
    assert 'each digit is drawn once' in capsys.readouterr().err


@pytest.mark.real
def test_voc_to_coco_prints_a_table_and_names_the_boxes_left_out(run, real_data):
    code, out, err = run('voc_to_coco', real_data / 'bccd/BCCD', 'out')
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ['split', 'images', 'Platelets', 'RBC', 'WBC', 'boxes']
    table = {row[0]: [int(cell) for cell in row[1:]] for row in rows[1:5]}
    assert {split: row[0] for split, row in table.items()} == {
        'train': 205, 'val': 87, 'test': 72, 'trainval': 292
    }  # fmt: skip
    assert [sum(table[s][i] for s in ('train', 'val', 'test')) for i in range(1, 5)] == [
        361, 4153, 372, 4886
    ]  # fmt: skip
    assert 'warning: 2 boxes without area' in err


def test_voc_to_coco_names_a_wrong_folder_in_one_line(run):
    code, _, err = run('voc_to_coco', 'nowhere', 'out')
    assert code == 2
    assert err.strip().splitlines()[-1].startswith('error: nowhere: has no folder')
    assert 'Traceback' not in err
