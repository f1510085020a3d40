"""One recogniser: what `--data` takes, the check reads; the same is refused in the same words."""

import json
import os
import shutil

import pytest
from planted import codes, inspect, inspect_path
from planted_coco import Coco, save_image
from planted_labels import Folders
from planted_voc import Voc
from planted_yolo import Yolo

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.readers.config import find_config_sources
from tresnet_det.readers.findings import Findings
from tresnet_det.readers.layouts import find_layout
from tresnet_det.readers.prepare import prepare_splits
from tresnet_det.readers.split import Source


def write_coco(root):
    Coco(root).write()


def write_two_files(root):
    write_coco(root)
    file = root / 'annotations/instances_train.json'
    shutil.copy(file, file.with_name('instances_train2.json'))


REFUSED = {
    'empty': (lambda root: None, 'it is empty'),
    'images alone': (lambda root: save_image(root / 'a.png', 0), "expected: COCO's JSON"),
    'two layouts': (lambda root: (write_coco(root), Yolo(root)), 'has several layouts'),
    'two years': (
        lambda root: [Voc(root / f'VOC{year}') for year in (2007, 2012)], 'has 2 datasets'
    ),
    'two files for a split': (write_two_files, 'could all be for train'),
    'voc with an empty folder of lists': (
        lambda root: (Voc(root), [f.unlink() for f in root.glob('ImageSets/Main/*')]),
        'has no list of images, such as train.txt',
    ),
    'a pipe for data.yaml': (lambda root: os.mkfifo(root / 'data.yaml'), '.yaml: a pipe, socket'),
    'broken data.yaml': (
        lambda root: (root / 'data.yaml').write_text('names: [cat, dog'), 'no YAML'
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', list(REFUSED))
def test_what_a_training_does_not_recognise_is_refused_in_its_words(tmp_path, name):
    write, words = REFUSED[name]
    write(tmp_path)
    messages = []
    for find in (lambda: find_layout(tmp_path, 'detection'), lambda: inspect_path(tmp_path)):
        with pytest.raises(InputError) as caught:
            find()
        messages.append(str(caught.value))
    assert words in messages[0]
    if 'expected:' in messages[0]:  # a folder alone does not say the task: more is wanted
        start, _, there = messages[0].partition(' for detection; expected: ')
        assert messages[1].startswith(f'{start}; expected: {there.partition("; in it")[0][:40]}')
        assert messages[1].endswith(there.rpartition('; ')[2])
    else:
        assert messages[1] == messages[0]


def test_annotations_without_their_images_are_refused_in_a_trainings_words(tmp_path):
    write_coco(tmp_path)
    shutil.move(tmp_path / 'annotations', tmp_path / 'set/annotations')  # as a work directory has
    with pytest.raises(MissingFileError) as training:
        prepare_splits(find_layout(tmp_path / 'set', 'detection'), 'detection', tmp_path / 'out')
    with pytest.raises(InputError) as check:
        inspect_path(tmp_path / 'set')
    assert str(check.value) == str(training.value)
    shutil.move(tmp_path / 'train', tmp_path / 'set/train')
    assert codes(inspect_path(tmp_path / 'set')) == {('val', 'images-not-found'): 1}


def test_what_a_training_leaves_out_is_noted(tmp_path):
    write_coco(tmp_path)
    file = tmp_path / 'annotations/instances_val.json'
    content = json.loads(file.read_text())
    (file.with_name('instances_test.json')).write_text(json.dumps(content | {'annotations': []}))
    (file.with_name('instances_all.json')).write_text(file.read_text())
    report = inspect_path(tmp_path)
    assert codes(report) == {('test', 'left-out'): 1, (f'{tmp_path.name}/', 'left-out'): 1}
    assert [part.split.name for part in report.parts] == ['train', 'val']


@pytest.mark.parametrize(
    ('text', 'classes', 'expected'),
    [
        ('a.png cat\nb c.png dog\n', None, {}),
        ('a.png 0\nb c.png 1\n', ('cat', 'dog'), {}),
        ('a.png 0\nb c.png 2\n', ('cat', 'dog'), {'bad-label': 1, 'unused-category': 1}),
        ('a.png 1\nalone.png\n', ('0', '1'), {'bad-row': 1, 'unused-category': 1}),
    ],
)
def test_faults_in_a_label_list_are_found(tmp_path, text, classes, expected):
    (tmp_path / 'train.txt').write_text(text)
    for seed, name in enumerate(('a.png', 'b c.png')):
        save_image(tmp_path / 'train' / name, seed)
    source = Source('train', 'list', tmp_path / 'train.txt', tmp_path / 'train', classes=classes)
    found = {code: count for (_, code), count in codes(inspect([source])).items()}
    found.pop('unused-file', None)  # of the row that is none
    assert found == expected


def check_config(**cfg):
    findings = Findings()
    return inspect(find_config_sources(cfg, 'train', True, findings), findings, decode=False)


def test_class_folders_of_a_config_are_those_of_its_classes(tmp_path):
    Folders(tmp_path)
    cfg = dict(type='ImageFolderDataset', data_root=str(tmp_path), data_prefix=dict(img='train'))
    report = check_config(**cfg, metainfo=dict(classes=('cat', 'dog', 'cow')))
    assert codes(report) == {('train', 'missing-class'): 1}
    report = check_config(**cfg, metainfo=dict(classes=('cat',)))
    assert codes(report) == {('train', 'folder-no-class'): 1}


def test_folders_that_a_config_of_pascal_voc_names_are_read(tmp_path):
    Voc(tmp_path)
    (tmp_path / 'Annotations').rename(tmp_path / 'boxes')
    (tmp_path / 'JPEGImages').rename(tmp_path / 'images')
    report = check_config(
        type='XMLDataset',
        data_root=str(tmp_path),
        ann_file='ImageSets/Main/trainval.txt',
        img_subdir='images',
        ann_subdir='boxes',
        metainfo=dict(classes=('cat', 'dog')),
    )
    assert codes(report) == {}
    assert report.parts[0].split.class_counts().tolist() == [3, 3]
