import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get('TRESNET_DET_DATA', ROOT.parent / 'shared/data'))


def run(tool: str, *args: object, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, ROOT / f'tools/{tool}.py', *map(str, args)],
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_demo_data_makes_data_and_sheet_and_refuses_to_overwrite(tmp_path):
    args = ('--num-train', 3, '--num-val', 2, '--preview', 'sheet.png')
    done = run('make_demo_data', *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '3 training, 2 validation pictures, 10 classes' in done.stdout
    assert len(list((tmp_path / 'data/demo/train2017').iterdir())) == 3
    with Image.open(tmp_path / 'sheet.png') as sheet:
        assert sheet.width > sheet.height
    done = run('make_demo_data', '--num-train', 4, '--num-val', 2, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith('error: data/demo holds other demo data')
    assert 'Traceback' not in done.stderr


@pytest.mark.real
def test_voc_to_coco_prints_a_table_and_names_the_boxes_left_out(tmp_path):
    if not REAL.is_dir():
        pytest.skip(f'no real data at {REAL}; set TRESNET_DET_DATA')
    done = run('voc_to_coco', REAL / 'bccd/BCCD', 'out', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ['split', 'pictures', 'Platelets', 'RBC', 'WBC', 'boxes']
    table = {row[0]: [int(cell) for cell in row[1:]] for row in rows[1:5]}
    assert {split: row[0] for split, row in table.items()} == {
        'train': 205, 'val': 87, 'test': 72, 'trainval': 292
    }  # fmt: skip
    assert [sum(table[s][i] for s in ('train', 'val', 'test')) for i in range(1, 5)] == [
        361, 4153, 372, 4886
    ]  # fmt: skip
    assert 'warning: 2 boxes without area' in done.stderr


def test_voc_to_coco_names_a_wrong_folder_in_one_line(tmp_path):
    done = run('voc_to_coco', 'nowhere', 'out', cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith('error: nowhere: has no folder')
    assert 'Traceback' not in done.stderr
