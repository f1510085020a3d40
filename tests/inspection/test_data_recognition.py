"""One recogniser: what `--data` takes, the check reads; the same is refused in the same words."""

import json
import shutil

import pytest
from planted_coco import Coco, codes, inspect_path, save_image
from planted_voc import write_voc

from tresnet_det.datasets.formats.layouts import find_layout
from tresnet_det.datasets.formats.own_splits import prepare_splits
from tresnet_det.errors import InputError, MissingFileError


def write_yolo(root):
    for split in ('train', 'val'):
        save_image(root / f'images/{split}/a.jpg', len(split))
        (root / f'labels/{split}').mkdir(parents=True)
        (root / f'labels/{split}/a.txt').write_text('0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.2 0.2\n')
    (root / 'classes.txt').write_text('cat\ndog\n')


def write_coco(root):
    Coco(root).write()


def write_roboflow(root):
    write_coco(root)
    for split in ('train', 'val'):
        file = root / f'annotations/instances_{split}.json'
        file.rename(root / split / '_annotations.coco.json')


def write_images_below(root):
    write_coco(root)
    for split in ('train', 'val'):
        (root / 'images').mkdir(exist_ok=True)
        (root / split).rename(root / f'images/{split}')


def write_csv(root):
    for seed, split in enumerate(('train', 'val')):
        (root / f'{split}.csv').write_text(f'file,label\n{split}.png,cat;dog\n')
        save_image(root / f'images/{split}.png', seed)


def write_folders(root):
    for seed, name in enumerate(('train/cat', 'train/dog', 'val/cat', 'val/dog')):
        save_image(root / name / 'a.png', seed)


def write_results_beside(root):
    write_coco(root)
    (root / 'results.csv').write_text('epoch,loss\n1,0.5\n')


LAYOUTS = {
    'coco': (write_coco, 'detection'),
    'coco and a table that is no data': (write_results_beside, 'detection'),
    'coco beside the images': (write_roboflow, 'detection'),
    'coco, images elsewhere': (write_images_below, 'detection'),
    'voc': (write_voc, 'detection'),
    'voc two folders down': (lambda root: write_voc(root / 'VOCdevkit/VOC2012'), 'detection'),
    'yolo': (write_yolo, 'detection'),
    'csv': (write_csv, 'multilabel'),
    'folders': (write_folders, 'classification'),
}


@pytest.mark.parametrize('name', list(LAYOUTS))
def test_the_check_reads_the_very_parts_that_a_training_does(tmp_path, name):
    write, task = LAYOUTS[name]
    root = tmp_path / 'set'
    root.mkdir()
    write(root)
    layout = find_layout(root, task)
    ready = prepare_splits(layout, task, tmp_path / 'out').splits
    report = inspect_path(root)
    assert codes(report) == {}
    found = {part.split.name: part.split for part in report.parts}
    assert list(found) == list(ready)
    for role, split in found.items():
        assert split.source.kind == layout.kind
        assert split.folder == ready[role].folder
        assert len(split.files) == ready[role].images
        assert len(split.labels) == ready[role].objects


def write_two_files(root):
    write_coco(root)
    file = root / 'annotations/instances_train.json'
    shutil.copy(file, file.with_name('instances_train2.json'))


REFUSED = {
    'empty': (lambda root: None, 'it is empty'),
    'images alone': (lambda root: save_image(root / 'a.png', 0), "wanted is COCO's JSON"),
    'two layouts': (lambda root: (write_coco(root), write_yolo(root)), 'has several layouts'),
    'two years': (
        lambda root: [write_voc(root / f'VOC{year}') for year in (2007, 2012)], 'has 2 data sets'
    ),
    'two files for a split': (write_two_files, 'could all be for train'),
    'voc without lists': (
        lambda root: (write_voc(root), shutil.rmtree(root / 'ImageSets')),
        'has no folder ImageSets/Main, as Pascal VOC is laid out',
    ),
    'voc under other names': (  # as it is often shared
        lambda root: (write_voc(root), shutil.rmtree(root / 'ImageSets'),
                      (root / 'Annotations').rename(root / 'annotations'),
                      (root / 'JPEGImages').rename(root / 'images')),
        'has no folder Annotations, as Pascal VOC is laid out',
    ),
    'voc with an empty folder of lists': (
        lambda root: (write_voc(root), [f.unlink() for f in root.glob('ImageSets/Main/*')]),
        'has no list of images, such as train.txt',
    ),
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
    if 'wanted is' in messages[0]:  # a folder alone does not say the task: more is wanted
        start, _, there = messages[0].partition(' for detection; wanted is ')
        assert messages[1].startswith(f'{start}; wanted is {there.partition("; in it")[0][:40]}')
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


def test_an_instances_file_that_is_cut_short_is_not_passed_over(tmp_path):
    write_coco(tmp_path)
    file = tmp_path / 'annotations/instances_val.json'
    file.write_text(file.read_text()[:10])
    assert list(find_layout(tmp_path, 'detection').splits) == ['train', 'val']
    assert codes(inspect_path(tmp_path)) == {('val', 'unreadable-annotations'): 1}
