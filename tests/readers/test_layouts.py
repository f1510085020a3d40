"""Folders of data: which layout they have, which part is for what, and what is refused."""

import json

import pytest
from planted_coco import save_image

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.readers.layouts import find_layout
from tresnet_det.readers.locate import find_images


def write_coco(file, names=('a.png',), **more):
    images = [dict(id=i, file_name=n, width=40, height=30) for i, n in enumerate(names, 1)]
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 9, 9], area=81, iscrowd=0)
    content = dict(images=images, annotations=[box], categories=[dict(id=1, name='cat')], **more)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def write_voc(root, **lists):
    for part in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (root / part).mkdir(parents=True)
    for name in {name for names in lists.values() for name in names}:
        (root / f'Annotations/{name}.xml').write_text('<annotation/>')
    for split, names in lists.items():
        (root / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names))
    return root


def write_yolo(root, *splits, labels='labels/{}', images='images/{}'):
    for split in splits:
        save_image(root / images.format(split) / 'a.png', 0)
        file = root / labels.format(split) / 'a.txt'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('0 0.5 0.5 0.2 0.2\n')
    (root / 'classes.txt').write_text('cat\ndog\n')
    return root


def coco_of(*files):
    return lambda root: [write_coco(root / file) for file in files]


def voc_in(folder, **lists):
    def write(root):
        write_voc(root / folder, **lists)
        (root / folder / 'ImageSets/Main/cat_train.txt').write_text('a 1\nb -1\n')

    return write


def images_in(*folders):
    return lambda root: [save_image(root / folder / 'a.png', 0) for folder in folders]


def csv_of(*splits):
    return lambda root: [(root / f'{s}.csv').write_text('file,label\na.png,cat\n') for s in splits]


TRAIN_VAL = dict(train=['a'], val=['b'], trainval=['a', 'b'])
MAIN = 'ImageSets/Main'
LAYOUTS = {  # how it is written, the task, the kind, the parts below the folder
    'COCO, its own names': (
        coco_of(*(f'annotations/{kind}_{split}2017.json' for split in ('train', 'val')
                  for kind in ('instances', 'person_keypoints', 'captions'))),
        'detection', 'coco',
        {s: f'annotations/instances_{s}2017.json' for s in ('train', 'val')},
    ),
    "COCO, Roboflow's export": (
        coco_of(*(f'{split}/_annotations.coco.json' for split in ('train', 'valid', 'test'))),
        'detection', 'coco',
        dict(train='train/_annotations.coco.json', val='valid/_annotations.coco.json',
             test='test/_annotations.coco.json'),
    ),
    'COCO, one file of no split': (
        coco_of('result.json'), 'detection', 'coco', dict(train='result.json')
    ),
    'VOC': (voc_in('.', **TRAIN_VAL), 'detection', 'voc',
            dict(train=f'{MAIN}/train.txt', val=f'{MAIN}/val.txt')),
    'VOC in a folder': (voc_in('BCCD', **TRAIN_VAL), 'detection', 'voc',
                        dict(train=f'BCCD/{MAIN}/train.txt', val=f'BCCD/{MAIN}/val.txt')),
    'VOC, trainval alone, two folders down': (
        voc_in('VOCdevkit/VOC2012', trainval=['a'], test=['b']), 'detection', 'voc',
        {role: f'VOCdevkit/VOC2012/{MAIN}/{name}.txt'
         for role, name in (('train', 'trainval'), ('test', 'test'))},
    ),
    'YOLO, splits in images': (lambda root: write_yolo(root, 'train', 'val'), 'detection', 'yolo',
                               dict(train='images/train', val='images/val')),
    'YOLO, images in splits': (
        lambda root: write_yolo(root, 'train', 'val', images='{}/images', labels='{}/labels'),
        'detection', 'yolo', dict(train='train/images', val='val/images'),
    ),
    'YOLO without splits': (lambda root: write_yolo(root, ''), 'detection', 'yolo',
                            dict(train='images')),
    'class folders': (images_in('train/cat', 'train/dog', 'valid/cat'), 'classification', 'folders',
                      dict(train='train', val='valid')),
    'class folders for several labels': (
        images_in('train/cat', 'val/cat'), 'multilabel', 'folders', dict(train='train', val='val')
    ),
    'classes alone, one called train': (images_in('bus', 'car', 'train'), 'classification',
                                        'folders', dict(train='.')),
    'class folders, each split in a folder of its name': (
        images_in('training_set/training_set/cat', 'test_set/test_set/cat'), 'classification',
        'folders', dict(train='training_set/training_set', test='test_set/test_set'),
    ),
    'class folders in capitals': (images_in('Train/cat', 'VALID/cat'), 'classification', 'folders',
                                  dict(train='Train', val='VALID')),
    'class folders in groups': (
        images_in('train/pets/cat', 'train/cars/van', 'val/pets/cat', 'val/cars/van'),
        'classification', 'folders', dict(train='train', val='val'),
    ),
    'class folders in groups, no splits': (images_in('pets/cat', 'cars/van'), 'classification',
                                           'folders', dict(train='.')),
    'CSV': (csv_of('train', 'val'), 'multilabel', 'csv', dict(train='train.csv', val='val.csv')),
}  # fmt: skip


@pytest.mark.parametrize('name', LAYOUTS)
def test_a_layout_is_recognised_with_its_parts(tmp_path, name):
    write, task, kind, parts = LAYOUTS[name]
    write(tmp_path)
    layout = find_layout(tmp_path, task)
    assert layout.kind == kind
    assert layout.splits == {role: tmp_path / part for role, part in parts.items()}
    if kind == 'yolo':  # its folders of images could be classes
        return
    other = 'detection' if task != 'detection' else 'classification'
    with pytest.raises(InputError, match=f'known for {other}; expected:'):
        find_layout(tmp_path, other)


# ---------------------------------------------------------------------------------------------
# COCO


def test_trainval_is_passed_over_where_there_are_train_and_val(tmp_path):
    for split in ('train', 'val', 'trainval', 'everything'):
        write_coco(tmp_path / f'annotations/instances_{split}.json')
    layout = find_layout(tmp_path, 'detection')
    assert list(layout.splits) == ['train', 'val']
    assert layout.notes == ['instances_everything is skipped: its name is of no split']


def test_other_json_is_no_coco(tmp_path):
    (tmp_path / 'package.json').write_text('{"name": "x"}')
    (tmp_path / 'notes.json').write_text('{"categories": [{"id": 0, "name": "cat"}], "info": {}}')
    write_yolo(tmp_path, 'train')
    assert find_layout(tmp_path, 'detection').kind == 'yolo'  # as Label Studio exports it


@pytest.mark.parametrize('folder', ['train2017', 'images/train', 'train/images', 'images', '.'])
def test_images_are_found_by_the_names_that_the_file_lists(tmp_path, folder):
    file = write_coco(tmp_path / 'annotations/instances_train2017.json')
    save_image(tmp_path / folder / 'a.png', 0)
    assert find_images(tmp_path, ['a.png'], file, 'train') == tmp_path / folder


def test_where_each_split_counts_from_one_the_name_decides(tmp_path):
    names = ['1.png', '2.png', '3.png']
    for split in ('train', 'val'):
        for name in names:
            save_image(tmp_path / split / name, 0)
    (tmp_path / 'val/3.png').unlink()  # it lacks one, which the other folder has
    for split, role in (('train', 'train'), ('val', 'val')):
        file = tmp_path / f'annotations/instances_{split}.json'
        assert find_images(tmp_path, names, file, role) == tmp_path / split
    # Beside the annotations, as Roboflow puts them.
    file = tmp_path / 'val/_annotations.coco.json'
    assert find_images(tmp_path, names, file, 'val') == tmp_path / 'val'


def test_a_folder_in_the_listed_name_is_part_of_it(tmp_path):
    save_image(tmp_path / 'data/images/a.png', 0)
    file = tmp_path / 'train.json'
    assert find_images(tmp_path, ['images/a.png'], file, 'train') == tmp_path / 'data'


def test_images_in_two_folders_or_none_are_named(tmp_path):
    file = tmp_path / 'labels.json'
    with pytest.raises(MissingFileError, match=r"labels\.json: names images such as 'a\.png'"):
        find_images(tmp_path, ['a.png'], file, 'train')
    for folder in ('large', 'small'):
        save_image(tmp_path / folder / 'a.png', 0)
    with pytest.raises(InputError, match=r'large and .*small both have images'):
        find_images(tmp_path, ['a.png'], file, 'train')


# ---------------------------------------------------------------------------------------------
# VOC


def test_voc_images_to_be_tested_by_others_are_left_out(tmp_path):
    write_voc(tmp_path, train=['a'], test=['c'])
    (tmp_path / 'Annotations/c.xml').unlink()
    layout = find_layout(tmp_path, 'detection')
    assert list(layout.splits) == ['train']
    assert 'test.txt is skipped: its images have no annotations' in layout.notes[0]


# ---------------------------------------------------------------------------------------------
# YOLO


def test_yolos_data_yaml_goes_before_its_folders_and_can_be_named_itself(tmp_path):
    write_yolo(tmp_path, 'train', 'val')
    file = tmp_path / 'data.yaml'
    file.write_text('train: images/train\nval: images/val\nnames: [kitten, puppy]\n')
    (tmp_path / 'hyp.yaml').write_text('lr0: 0.01\n')
    for path in (tmp_path, file):
        layout = find_layout(path, 'detection')
        assert layout.names == ('kitten', 'puppy')
        assert layout.root == tmp_path
    (tmp_path / 'coco.yaml').write_text('names: [x]\n')
    with pytest.raises(InputError, match=r"has 'coco.yaml', 'data.yaml': name one of these"):
        find_layout(tmp_path, 'detection')


def test_yolo_without_the_names_of_its_classes_says_what_to_write(tmp_path):
    write_yolo(tmp_path, 'train')
    (tmp_path / 'classes.txt').rename(tmp_path / 'labels/train/classes.txt')  # as LabelImg does
    assert find_layout(tmp_path, 'detection').names == ('cat', 'dog')
    (tmp_path / 'labels/train/classes.txt').unlink()
    with pytest.raises(MissingFileError, match='nothing that names the classes: write classes.txt'):
        find_layout(tmp_path, 'detection')


def test_yolos_test_images_without_labels_are_left_out(tmp_path):
    write_yolo(tmp_path, 'train', 'val', 'test')
    (tmp_path / 'labels/test/a.txt').unlink()
    layout = find_layout(tmp_path, 'detection')
    assert list(layout.splits) == ['train', 'val']
    assert layout.notes == ['test is skipped: its images have no label files']


# ---------------------------------------------------------------------------------------------
# Classifiers


def test_validation_images_without_class_folders_are_told(tmp_path):
    save_image(tmp_path / 'train/cat/a.png', 0)
    save_image(tmp_path / 'val/a.png', 0)
    assert 'val is skipped' in find_layout(tmp_path, 'classification').notes[0]


def test_an_archive_is_not_called_missing(tmp_path):
    (tmp_path / 'data.zip').write_bytes(b'PK')
    with pytest.raises(InputError, match=r'data\.zip: a file; give the folder'):
        find_layout(tmp_path / 'data.zip', 'detection')
