"""What a user sees of the check of data: exit code, tables, report and picture."""

import json

import numpy as np
import pytest
from PIL import Image


def test_data_without_fault_exits_with_0_and_leaves_report_and_picture(run, data, tmp_path):
    result = run('check_data', data.folder, '--workers', 0, '--out', 'found')
    assert result.code == 0, result.err
    assert '0 errors' in result.out
    assert 'after the resize to 1333 x 800 (the default)' in result.out
    content = json.loads((tmp_path / 'found/report.json').read_text())
    numbers = {split['split']: split for split in content['splits']}
    assert numbers['train2017']['pictures'] == 12
    truth = json.loads((data.folder / 'annotations/instances_train2017.json').read_text())
    assert numbers['train2017']['boxes'] == len(truth['annotations'])
    assert sum(row['objects'] for row in numbers['train2017']['class_table']) == len(
        truth['annotations']
    )
    assert sum(content['boxes_by_level']['train2017'][f'P{n}'] for n in range(3, 8)) == len(
        truth['annotations']
    )
    with Image.open(tmp_path / 'found/data.png') as image:
        assert image.width > image.height
        assert len(np.unique(np.asarray(image.convert('L')))) > 50


def test_faults_exit_with_1_and_are_shown_with_examples_and_mend(run, data, tmp_path):
    pictures = sorted((data.folder / 'train2017').iterdir())
    for picture in pictures[:5]:
        picture.unlink()
    data.edit('val', lambda content: content['images'][0].update(width=999))
    result = run('check_data', data.folder, '--workers', 0, '--limit', 2, '--out', 'found')
    assert result.code == 1
    assert result.err == ''
    (start,) = [i for i, line in enumerate(result.out.splitlines()) if '[missing-picture]' in line]
    lines = [line.strip() for line in result.out.splitlines()[start : start + 5]]
    assert lines[0].split(maxsplit=1) == [
        'error', 'train2017: pictures that are not in the folder: 5 of 12 [missing-picture]'
    ]  # fmt: skip
    assert lines[1:4] == [f'- {pictures[0].name}', f'- {pictures[1].name}', '- ... 3 more']
    assert lines[4].startswith('-> complete the folder')
    assert 'val2017: pictures of another size than annotated: 1 of 6' in result.out
    assert 'training would fail or mislead' in result.out
    content = json.loads((tmp_path / 'found/report.json').read_text())
    found = {(f['split'], f['code']): f['where'] for f in content['findings']}
    assert found['train2017', 'missing-picture'] == [picture.name for picture in pictures[:5]]


def test_a_config_is_checked_with_its_resize_classes_and_data_root(run, config, data):
    result = run('check_data', config, '--data-root', data.folder, '--workers', 0)
    assert result.code == 0, result.out
    assert "(the config's)" in result.out
    result = run(
        'check_data', config, '--no-decode', '--cfg-options', 'model.bbox_head.num_classes=3'
    )
    assert result.code == 1
    assert 'num_classes is 3, the data has 10 classes' in result.out
    assert 'The pictures were not read' in result.out


def test_no_decode_leaves_a_broken_picture_unseen(run, data):
    next((data.folder / 'train2017').iterdir()).write_bytes(b'no picture')
    assert run('check_data', data.folder, '--no-decode').code == 0
    assert run('check_data', data.folder, '--workers', 0).code == 1


def test_files_and_folders_can_be_given_one_by_one(run, data):
    folder = data.folder
    pairs = [
        (folder / f'annotations/instances_{split}2017.json', folder / f'{split}2017')
        for split in ('train', 'val')
    ]
    result = run('check_data', *pairs[0], '--val', *pairs[1], '--workers', 0)
    assert result.code == 0, result.err
    result = run('check_data', *pairs[0], '--val', *pairs[0], '--no-decode')
    assert result.code == 1
    assert 'val: pictures that are in the training split, too: 12 of 12' in result.out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere'], 'nowhere: no such file or folder'),
        (['nowhere.py'], 'no config at'),
        (['.', '--data-root', '.'], '--data-root is for a config'),
        (['a', 'b', 'c'], 'an annotation file and a folder'),
        (['.'], 'no data in it that is known'),
        (['.', '--workers', '-1'], '--workers must not be negative'),
        ([], 'required: DATA'),
    ],
)
def test_a_mistake_in_the_command_line_is_one_line_and_exits_with_2(run, arguments, message):
    result = run('check_data', *arguments)
    assert result.code == 2
    assert message in result.err
    assert 'Traceback' not in result.err


def test_class_folders_are_drawn_without_boxes(run, tmp_path):
    for seed, name in enumerate(('train/cat', 'train/dog', 'val/cat', 'val/dog')):
        folder = tmp_path / 'set' / name
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(seed).integers(256, size=(9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(folder / 'a.png')
    result = run('check_data', 'set', '--workers', 0, '--out', 'found')
    assert result.code == 0, result.out
    assert 'train labels' in result.out
    assert 'levels' not in result.out
    assert (tmp_path / 'found/data.png').is_file()
