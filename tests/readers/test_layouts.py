"""Folders of data: which layout they have, which part is for what, and what is refused."""

import json

import pytest
from PIL import Image

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.readers.files import find_images
from tresnet_det.readers.layouts import find_layout
from tresnet_det.readers.split import role_of


def save(path, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size).save(path)


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
        save(root / images.format(split) / 'a.png')
        file = root / labels.format(split) / 'a.txt'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('0 0.5 0.5 0.2 0.2\n')
    (root / 'classes.txt').write_text('cat\ndog\n')
    return root


@pytest.mark.parametrize(
    ('name', 'role'),
    [
        ('instances_train2017', 'train'),
        ('instances_val2017', 'val'),
        ('valid', 'val'),
        ('image_info_test-dev2017', 'test'),
        ('trainval', 'trainval'),
        ('train_val', 'trainval'),
        ('annotations', None),
        ('straining', None),
    ],
)
def test_a_name_says_what_a_part_is_for(name, role):
    assert role_of(name) == role


# ---------------------------------------------------------------------------------------------
# COCO


def test_cocos_own_layout(tmp_path):
    for split in ('train', 'val'):
        write_coco(tmp_path / f'annotations/instances_{split}2017.json')
        write_coco(tmp_path / f'annotations/person_keypoints_{split}2017.json')
        write_coco(tmp_path / f'annotations/captions_{split}2017.json')
    layout = find_layout(tmp_path, 'detection')
    assert (layout.kind, layout.root) == ('coco', tmp_path)
    assert {role: file.name for role, file in layout.splits.items()} == {
        'train': 'instances_train2017.json',
        'val': 'instances_val2017.json',
    }


def test_roboflows_export_has_a_file_next_to_the_images_of_each_split(tmp_path):
    for split in ('train', 'valid', 'test'):
        write_coco(tmp_path / split / '_annotations.coco.json')
    splits = find_layout(tmp_path, 'detection').splits
    assert {role: file.parent.name for role, file in splits.items()} == dict(
        train='train', val='valid', test='test'
    )


def test_one_file_of_no_split_is_for_training(tmp_path):
    file = write_coco(tmp_path / 'result.json')
    assert find_layout(tmp_path, 'detection').splits == {'train': file}


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
    save(tmp_path / folder / 'a.png')
    assert find_images(tmp_path, ['a.png'], file, 'train') == tmp_path / folder


def test_where_each_split_counts_from_one_the_name_decides(tmp_path):
    names = ['1.png', '2.png', '3.png']
    for split in ('train', 'val'):
        for name in names:
            save(tmp_path / split / name)
    (tmp_path / 'val/3.png').unlink()  # it lacks one, which the other folder has
    for split, role in (('train', 'train'), ('val', 'val')):
        file = tmp_path / f'annotations/instances_{split}.json'
        assert find_images(tmp_path, names, file, role) == tmp_path / split
    # Beside the annotations, as Roboflow puts them.
    file = tmp_path / 'val/_annotations.coco.json'
    assert find_images(tmp_path, names, file, 'val') == tmp_path / 'val'


def test_a_folder_in_the_listed_name_is_part_of_it(tmp_path):
    save(tmp_path / 'data/images/a.png')
    file = tmp_path / 'train.json'
    assert find_images(tmp_path, ['images/a.png'], file, 'train') == tmp_path / 'data'


def test_images_in_two_folders_or_none_are_named(tmp_path):
    file = tmp_path / 'labels.json'
    with pytest.raises(MissingFileError, match=r"labels\.json: names images such as 'a\.png'"):
        find_images(tmp_path, ['a.png'], file, 'train')
    for folder in ('large', 'small'):
        save(tmp_path / folder / 'a.png')
    with pytest.raises(InputError, match=r'large and .*small both have images'):
        find_images(tmp_path, ['a.png'], file, 'train')


# ---------------------------------------------------------------------------------------------
# VOC


@pytest.mark.parametrize('below', ['', 'BCCD', 'VOCdevkit/VOC2012'])
def test_voc_is_found_also_in_a_folder_of_the_folder(tmp_path, below):
    root = write_voc(tmp_path / below, train=['a'], val=['b'], trainval=['a', 'b'])
    (root / 'ImageSets/Main/cat_train.txt').write_text('a 1\nb -1\n')
    layout = find_layout(tmp_path, 'detection')
    assert (layout.kind, layout.root) == ('voc', root)
    assert {role: file.stem for role, file in layout.splits.items()} == dict(
        train='train', val='val'
    )


def test_voc_images_to_be_tested_by_others_are_left_out(tmp_path):
    write_voc(tmp_path, train=['a'], test=['c'])
    (tmp_path / 'Annotations/c.xml').unlink()
    layout = find_layout(tmp_path, 'detection')
    assert list(layout.splits) == ['train']
    assert 'test.txt is skipped: its images have no annotations' in layout.notes[0]


def test_vocs_trainval_alone_is_for_training(tmp_path):
    write_voc(tmp_path, trainval=['a'], test=['b'])
    splits = find_layout(tmp_path, 'detection').splits
    assert {role: file.stem for role, file in splits.items()} == dict(train='trainval', test='test')


# ---------------------------------------------------------------------------------------------
# YOLO


@pytest.mark.parametrize(
    ('images', 'labels'), [('images/{}', 'labels/{}'), ('{}/images', '{}/labels')]
)
def test_yolo_by_its_folders(tmp_path, images, labels):
    write_yolo(tmp_path, 'train', 'val', images=images, labels=labels)
    layout = find_layout(tmp_path, 'detection')
    assert (layout.kind, layout.yolo.names) == ('yolo', ('cat', 'dog'))
    assert layout.splits == {s: tmp_path / images.format(s) for s in ('train', 'val')}


def test_yolo_without_splits_is_for_training(tmp_path):
    write_yolo(tmp_path, '')
    assert find_layout(tmp_path, 'detection').splits == {'train': tmp_path / 'images'}


def test_yolos_data_yaml_goes_before_its_folders_and_can_be_named_itself(tmp_path):
    write_yolo(tmp_path, 'train', 'val')
    file = tmp_path / 'data.yaml'
    file.write_text('train: images/train\nval: images/val\nnames: [kitten, puppy]\n')
    (tmp_path / 'hyp.yaml').write_text('lr0: 0.01\n')
    for path in (tmp_path, file):
        layout = find_layout(path, 'detection')
        assert layout.yolo.names == ('kitten', 'puppy')
        assert layout.root == tmp_path
    (tmp_path / 'coco.yaml').write_text('names: [x]\n')
    with pytest.raises(InputError, match=r"has 'coco.yaml', 'data.yaml': name one of these"):
        find_layout(tmp_path, 'detection')


def test_yolo_without_the_names_of_its_classes_says_what_to_write(tmp_path):
    write_yolo(tmp_path, 'train')
    (tmp_path / 'classes.txt').rename(tmp_path / 'labels/train/classes.txt')  # as LabelImg does
    assert find_layout(tmp_path, 'detection').yolo.names == ('cat', 'dog')
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


def test_class_folders_below_train_and_val(tmp_path):
    for part in ('train/cat', 'train/dog', 'valid/cat', 'valid/dog'):
        save(tmp_path / part / 'a.png')
    layout = find_layout(tmp_path, 'classification')
    assert layout.splits == dict(train=tmp_path / 'train', val=tmp_path / 'valid')
    assert find_layout(tmp_path, 'multilabel').kind == 'folders'


def test_class_folders_alone_are_for_training_also_one_that_is_called_train(tmp_path):
    for part in ('bus', 'car', 'train'):
        save(tmp_path / part / 'a.png')
    assert find_layout(tmp_path, 'classification').splits == {'train': tmp_path}


def test_validation_images_without_class_folders_are_told(tmp_path):
    save(tmp_path / 'train/cat/a.png')
    save(tmp_path / 'val/a.png')
    assert 'val is skipped' in find_layout(tmp_path, 'classification').notes[0]


def test_csv_files_of_splits_are_for_several_labels(tmp_path):
    for split in ('train', 'val'):
        (tmp_path / f'{split}.csv').write_text('file,label\na.png,cat\n')
    layout = find_layout(tmp_path, 'multilabel')
    assert (layout.kind, list(layout.splits)) == ('csv', ['train', 'val'])


# ---------------------------------------------------------------------------------------------
# What is refused


def test_what_is_not_there_or_empty_is_said(tmp_path):
    with pytest.raises(MissingFileError, match='nowhere: not found'):
        find_layout(tmp_path / 'nowhere', 'detection')
    with pytest.raises(InputError, match='it is empty'):
        find_layout(tmp_path, 'detection')


def test_an_unknown_layout_is_shown_with_what_is_wanted(tmp_path):
    save(tmp_path / 'images/a.png')
    with pytest.raises(InputError) as caught:
        find_layout(tmp_path, 'detection')
    for part in ("COCO's JSON", 'Pascal VOC', 'data.yaml', "in it are 'images/'"):
        assert part in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_layout_of_another_task_is_no_layout(tmp_path):
    write_coco(tmp_path / 'annotations/instances_train.json')
    save(tmp_path / 'train/a.png')
    with pytest.raises(InputError, match='known for classification; wanted is class folders'):
        find_layout(tmp_path, 'classification')
    save(tmp_path / 'folders/train/cat/a.png')
    with pytest.raises(InputError, match='known for detection'):
        find_layout(tmp_path / 'folders', 'detection')


def test_two_layouts_in_one_folder_are_both_named(tmp_path):
    write_coco(tmp_path / 'annotations/instances_train.json')
    write_yolo(tmp_path, 'train')
    with pytest.raises(InputError) as caught:
        find_layout(tmp_path, 'detection')
    assert "COCO's JSON (annotations/instances_train.json)" in str(caught.value)
    assert "YOLO's label files (classes.txt)" in str(caught.value)


@pytest.mark.real
def test_the_real_sets_are_recognised(real_data):
    bccd = find_layout(real_data / 'bccd', 'detection')
    assert (bccd.kind, bccd.root.name, list(bccd.splits)) == (
        'voc',
        'BCCD',
        ['train', 'val', 'test'],
    )
    coco = find_layout(real_data / 'coco_subset', 'detection')
    assert (coco.kind, list(coco.splits)) == ('coco', ['train', 'val'])
    signs = find_layout(real_data / 'sign_digits', 'classification')
    assert (signs.kind, list(signs.splits)) == ('folders', ['train', 'val'])
