"""What a user sees of the check of data: exit code, tables, report and image."""

import json
import shlex
import shutil

import numpy as np
import pytest
from bad_input_place import XML, BadPlace
from own_layouts import write_yolo
from PIL import Image

from tresnet_det.engine import config as edit
from tresnet_det.engine.own_data import use_folder


def count_red(path):
    """Pixels in the corner of the image that lists the errors."""
    with Image.open(path) as image:
        corner = np.asarray(image.convert('RGB'))[-40:, image.width // 2 :]
    return ((corner[..., 0] > 140) & (corner[..., 1] < 60)).sum()


def test_data_without_fault_exits_with_0_and_leaves_report_and_image(run, data, tmp_path):
    result = run('check_data', data.folder, '--workers', 0, '--out-dir', 'found')
    assert result.code == 0, result.err
    assert '0 errors' in result.out
    assert "after the resize to 1333 x 800 (the config's)" in result.out
    content = json.loads((tmp_path / 'found/report.json').read_text())
    train = {split['split']: split for split in content['splits']}['train']
    truth = json.loads((data.folder / 'annotations/instances_train2017.json').read_text())
    count = len(truth['annotations'])
    assert (train['images'], train['boxes']) == (12, count)
    assert sum(row['objects'] for row in train['class_table']) == count
    assert sum(content['boxes_by_level']['train'][f'P{n}'] for n in range(3, 8)) == count
    with Image.open(tmp_path / 'found/data.png') as image:
        assert image.width > image.height
        assert len(np.unique(np.asarray(image.convert('L')))) > 50
    assert count_red(tmp_path / 'found/data.png') == 0


def test_faults_exit_with_1_and_are_shown_with_examples_and_fix(run, data, tmp_path):
    images = sorted((data.folder / 'train2017').iterdir())
    for image in images[:5]:
        image.unlink()
    data.edit('val', lambda content: content['images'][0].update(width=999))
    result = run('check_data', data.folder, '--workers', 0, '--limit', 2, '--out-dir', 'found')
    assert result.code == 1
    assert result.err == ''
    (start,) = [i for i, line in enumerate(result.out.splitlines()) if '[missing-image]' in line]
    lines = [line.strip() for line in result.out.splitlines()[start : start + 5]]
    said = 'train: images that are not in the folder: 5 of 12 [missing-image]'
    assert lines[0].split(maxsplit=1) == ['error', said]
    assert lines[1:4] == [f'- {images[0].name}', f'- {images[1].name}', '- ... 3 more']
    assert lines[4].startswith('-> complete the folder')
    assert 'val: images of another size than annotated: 1 of 6' in result.out
    assert 'training would fail or mislead' in result.out
    assert 'next: fix the errors, then run this again' in result.out
    assert count_red(tmp_path / 'found/data.png') > 100
    content = json.loads((tmp_path / 'found/report.json').read_text())
    found = {(f['split'], f['code']): f['where'] for f in content['findings']}
    assert found['train', 'missing-image'] == [image.name for image in images[:5]]


def test_a_config_is_checked_with_its_resize_classes_and_data_root(run, config, data):
    options = ['--data-root', str(data.folder), '--cfg-options', 'train_dataloader.batch_size=2']
    result = run('check_data', config, *options, '--workers', 0)
    assert result.code == 0, result.out
    assert "(the config's)" in result.out
    assert f'next: python tools/train.py {config} {" ".join(options)}\n' in result.out
    result = run(
        'check_data', config, '--no-decode', '--cfg-options', 'model.bbox_head.num_classes=3'
    )
    assert result.code == 1
    assert 'num_classes of the head is 3, the data has 10 classes' in result.out
    assert 'The images were not read' in result.out


def test_files_and_folders_can_be_given_one_by_one(run, data):
    folder = data.folder
    pairs = [
        (folder / f'annotations/instances_{split}2017.json', folder / f'{split}2017')
        for split in ('train', 'val')
    ]
    result = run('check_data', *pairs[0], '--val', *pairs[1], '--workers', 0)
    assert result.code == 0, result.err
    result = run('check_data', *pairs[0], '--val', *pairs[0], '--no-decode')
    assert result.code == 0  # on purpose, perhaps
    assert 'warning  val: images that are in the training split, too: 12 of 12' in result.out


def test_yolo_is_checked_as_the_coco_files_that_it_was_made_of(run, data, tmp_path):
    write_yolo(data.folder, tmp_path / 'own')
    tables = []
    for folder in (data.folder, 'own/data.yaml'):
        result = run('check_data', folder, '--workers', 0)
        assert result.code == 0, result.out + result.err
        start, stop = (result.out.index(part) for part in ('split  images', '0 errors'))
        tables.append(result.out[start:stop])
    assert tables[0] == tables[1]
    assert "train: YOLO's label files, own/data.yaml, images in own/images/train" in result.out


@pytest.mark.parametrize('layout', ['coco', 'voc', 'yolo', 'csv', 'folders'])
def test_the_command_that_comes_next_takes_the_folder_that_was_checked(
    layout, run, demo_data, class_folders, project_root, tmp_path
):
    own = tmp_path / 'my own'
    if layout in ('coco', 'folders'):
        shutil.copytree(demo_data if layout == 'coco' else class_folders, own)
    elif layout == 'yolo':
        write_yolo(demo_data, own)
    elif layout == 'voc':
        place = BadPlace(own)
        place.voc()
        for name in 'ab':  # the config's filter drops what is below 32 pixels
            place.image(f'voc/JPEGImages/{name}.png', (40, 40))
            place.write(f'voc/Annotations/{name}.xml', XML.replace('ght>30', 'ght>40'))
    else:
        shutil.copytree(class_folders / 'train/red', own / 'images')
        rows = ''.join(f'{number}.png,cat;dog\n' for number in range(4))
        (own / 'train.csv').write_text(f'file,label\n{rows}')
    result = run('check_data', 'my own', '--workers', 0, '--out-dir', 'found')
    assert result.code == 0, result.out + result.err
    assert (tmp_path / 'found/data.png').is_file()
    if layout == 'folders':
        assert 'train labels' in result.out
        assert 'levels' not in result.out  # there are no boxes
    (line,) = (line for line in result.out.splitlines() if line.startswith('next: '))
    python, tool, config, option, folder = shlex.split(line.removeprefix('next: '))
    assert (python, tool, option) == ('python', 'tools/train.py', '--data')
    cfg = edit.load_config(project_root / config)
    trained = use_folder(cfg, tmp_path / folder, tmp_path / 'out', None)
    assert trained.layout.kind == layout
    assert trained.layout.root.is_relative_to(own)  # VOC's is in a folder of it


def test_a_folder_without_training_data_is_an_error_and_validation_data_alone_is_none(run, data):
    file = data.folder / 'annotations/instances_train2017.json'
    training = file.rename(data.folder.parent / 'train.json')
    result = run('check_data', data.folder, '--no-decode')
    assert result.code == 1
    assert 'datasets without a part for training: 1 [no-training-split]' in result.out
    pair = (training, data.folder / 'train2017')
    for arguments in (
        [data.folder / 'annotations/instances_val2017.json'], [*pair, '--val', data.folder]
    ):  # fmt: skip
        result = run('check_data', *arguments, '--no-decode')
        assert result.code == 0, result.out + result.err
        assert 'next: name these files in a config' in result.out


def test_a_work_directory_is_no_data_and_said_in_a_line(run, data, tmp_path):
    work = tmp_path / 'work'
    for name in ('20250101_000000/vis_data/scalars.json', 'summary.json', 'fcos.py', 'epoch_1.pth'):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text('{}')
    result = run('check_data', 'work')
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert f'{work}: no layout that is known; expected:' in result.err
    (work / 'data').mkdir()  # of a training by --data, which keeps no images
    for split in ('train', 'val'):
        file = data.folder / f'annotations/instances_{split}2017.json'
        shutil.copy(file, work / f'data/instances_{split}.json')
    result = run('check_data', 'work')
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert f'no folder below {work} has them' in result.err
