"""Splits made ready for a config: what is converted, where to, and what is held out."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from planted_coco import save_image

from tresnet_det.datasets import ImageFolderDataset, MultiLabelDataset
from tresnet_det.errors import InputError
from tresnet_det.readers.layouts import find_layout
from tresnet_det.readers.prepare import choose_held_out, prepare_splits


def save(path):
    save_image(path, 0, (40, 30))


def save_all(folder, count):
    for i in range(1, count + 1):
        save(folder / f'{i}.png')


def coco(count, categories=('cat', 'dog'), empty=0):
    """Images 1.png ..., each with a box; the last ones without."""
    images = [dict(id=i, file_name=f'{i}.png', width=40, height=30) for i in range(1, count + 1)]
    boxes = [
        dict(id=i, image_id=i, category_id=1, bbox=[1, 1, 9, 9], area=81, iscrowd=0)
        for i in range(1, count - empty + 1)
    ]
    named = [dict(id=i, name=name) for i, name in enumerate(categories, 1)]
    return dict(images=images, annotations=boxes, categories=named)


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


@pytest.fixture
def data(tmp_path):
    """A folder of data, and what becomes of it: ``data.ready(task, classes=..., testing=...)``."""
    root, out = tmp_path / 'data', tmp_path / 'work/data'
    root.mkdir()

    def ready(task='detection', **options):
        before = sorted(root.rglob('*'))
        result = prepare_splits(find_layout(root, task), task, out, **options)
        assert sorted(root.rglob('*')) == before  # nothing is written into it
        return result

    return SimpleNamespace(root=root, out=out, ready=ready)


@pytest.fixture
def one_split(data):
    write(data.root / 'annotations.json', coco(30, empty=10))
    save_all(data.root / 'images', 30)
    return data


def contents(ready):
    return {role: json.loads(split.ann_file.read_text()) for role, split in ready.splits.items()}


def test_a_tenth_by_the_digest_of_the_name_is_held_out():
    names = [f'{i}.png' for i in range(100)]
    digests = {hashlib.sha256(f'0/{name}'.encode()).hexdigest(): name for name in names}
    expected = {digests[digest] for digest in sorted(digests)[:10]}
    assert {names[i] for i in choose_held_out(names)} == expected
    reversed_names = names[::-1]
    assert {reversed_names[i] for i in choose_held_out(reversed_names)} == expected
    assert len(choose_held_out(names[:2])) == 1


def test_coco_with_all_splits_is_read_where_it_is(data):
    for split in ('train', 'val', 'test'):
        write(data.root / f'annotations/instances_{split}.json', coco(3))
        save_all(data.root / split, 3)
    ready = data.ready()
    assert ready.classes == ('cat', 'dog')
    assert {role: split.folder.name for role, split in ready.splits.items()} == dict(
        train='train', val='val', test='test'
    )
    train, counts = ready.splits['train'], ready.splits['train'].counts
    assert (counts.num_images, counts.num_objects, counts.num_empty) == (3, 3, 0)
    assert not train.written
    assert not data.out.exists()


def test_without_validation_a_part_of_the_training_is_written_for_it(one_split):
    ready = one_split.ready()
    parts = contents(ready)
    names = {role: {i['file_name'] for i in part['images']} for role, part in parts.items()}
    assert {role: len(found) for role, found in names.items()} == dict(train=27, val=3)
    assert names['train'] | names['val'] == {f'{i}.png' for i in range(1, 31)}
    assert not names['train'] & names['val']
    # 2 of the 20 with boxes, 1 of the 10 without.
    counts = ready.splits['val'].counts
    assert (counts.num_objects, counts.num_empty) == (2, 1)
    for part in parts.values():
        ids = {i['id'] for i in part['images']}
        assert all(a['image_id'] in ids for a in part['annotations'])
    files = {split.ann_file for split in ready.splits.values()}
    assert set(one_split.out.iterdir()) == files
    assert 'no validation split: 3 of the 30 training images are held out' in ready.notes[0]
    measured = {a['category_id'] for a in parts['val']['annotations']}
    (absent,) = (c['name'] for c in parts['val']['categories'] if c['id'] not in measured)
    assert ready.notes[1] == f"classes in no held-out image, so not measured: '{absent}'"
    again = one_split.ready()
    assert contents(again) == parts


def test_one_image_cannot_be_parted(data):
    write(data.root / 'annotations.json', coco(3, empty=2))
    save_all(data.root, 3)
    with pytest.raises(InputError, match='1 image with boxes or labels is too few to hold one out'):
        data.ready()
    assert not data.out.exists()


def test_a_test_file_without_annotations_is_left_out(data):
    for split in ('train', 'val', 'test'):
        write(data.root / f'annotations/{split}.json', coco(3, empty=3 * (split == 'test')))
        save_all(data.root / split, 3)
    ready = data.ready()
    assert list(ready.splits) == ['train', 'val']
    assert ready.notes == [
        f'{data.root / "annotations/test.json"} is skipped: it has no annotations'
    ]


def test_roboflows_category_of_the_project_is_no_class(data):
    content = coco(3, categories=('cells', 'cat', 'dog'))
    for category in content['categories']:
        category['supercategory'] = 'none' if category['name'] == 'cells' else 'cells'
    for annotation in content['annotations']:
        annotation['category_id'] = 2
    for split in ('train', 'valid'):
        write(data.root / split / '_annotations.coco.json', content)
        save_all(data.root / split, 3)
    ready = data.ready()
    assert ready.classes == ('cat', 'dog')
    assert "'cells' groups the others" in ready.notes[0]
    content['annotations'][0]['category_id'] = 1  # once it has a box, it is a class
    write(data.root / 'train/_annotations.coco.json', content)
    assert data.ready().classes == ('cells', 'cat', 'dog')


def test_data_without_training_serves_a_test_only(data):
    write(data.root / 'test.json', coco(1))
    save(data.root / '1.png')
    with pytest.raises(InputError, match="nothing in it is for training, there is 'test'"):
        data.ready()
    ready = data.ready(testing=True, classes=('cat', 'dog'))
    assert list(ready.splits) == ['test']


def test_a_class_that_the_checkpoint_does_not_know_is_named(one_split):
    with pytest.raises(InputError, match="has the classes 'dog', which the checkpoint does not kn"):
        one_split.ready(testing=True, classes=('cat', 'cow'))
    ready = one_split.ready(testing=True, classes=('cat', 'dog', 'cow'))
    assert ready.classes == ('cat', 'dog', 'cow')
    # The very images that the training validated on.
    known, own = contents(ready)['val'], contents(one_split.ready())['val']
    assert all(known[key] == own[key] for key in ('images', 'annotations'))


# ---------------------------------------------------------------------------------------------
# Classifiers


def read(kind, split, classes):
    """What a config's dataset makes of a split."""
    return kind(
        ann_file=str(split.ann_file or ''),
        data_root=str(split.folder),
        metainfo=dict(classes=classes),
        pipeline=[],
    )


@pytest.mark.parametrize('classes', [('big cat', 'dog'), ('1', '7')])
def test_class_folders_are_parted_within_each_class(data, classes):
    for name in classes:
        for i in range(12):
            save(data.root / name / f'{i} x.png')
    ready = data.ready('classification')
    assert ready.classes == classes
    sets = {role: read(ImageFolderDataset, s, classes) for role, s in ready.splits.items()}
    paths = {role: {s.img_path(i) for i in range(len(s))} for role, s in sets.items()}
    assert {role: len(found) for role, found in paths.items()} == dict(train=22, val=2)
    assert not paths['train'] & paths['val']
    for found in sets.values():
        for i in range(len(found)):
            assert classes[found.gt_labels[i]] in found.img_path(i).split('/')
    assert np.bincount(sets['val'].gt_labels).tolist() == [1, 1]


def test_a_class_of_one_image_cannot_be_parted(data):
    for name in ('cat/1', 'cat/2', 'dog/1'):
        save(data.root / f'{name}.png')
    with pytest.raises(InputError, match='dog: its one image cannot be both'):
        data.ready('classification')
    (data.root / 'dog').rename(data.root / '.dog')
    with pytest.raises(InputError, match="one class, which leaves nothing to tell: 'cat'"):
        data.ready('classification')


def test_a_class_folder_of_validation_only_is_named(data):
    for part in ('train/cat', 'train/dog', 'val/cat', 'val/dog', 'val/cow'):
        save(data.root / part / '1.png')
    with pytest.raises(InputError, match="has the classes 'cow', which the training data does not"):
        data.ready('classification')


def test_several_labels_from_csv_are_parted_with_their_labels(data):
    rows = [f'{i}.png,{"cat;dog" if i % 2 else "dog"}' for i in range(20)]
    (data.root / 'labels.csv').write_text('\n'.join(['file,label', *rows, '20.png,']))
    for i in range(21):
        save(data.root / f'images/{i}.png')
    ready = data.ready('multilabel')
    sets = {role: read(MultiLabelDataset, s, ready.classes) for role, s in ready.splits.items()}
    assert ready.classes == ('cat', 'dog')
    assert {role: len(s) for role, s in sets.items()} == dict(train=18, val=2)
    for found in sets.values():
        for i in range(len(found)):
            number = int(found.img_path(i).rpartition('/')[2][:-4])
            assert found.gt_labels[i].tolist() == [number % 2, 1]


def test_several_labels_from_folders_keep_an_image_with_all_of_its_labels(data):
    for name in ('cat', 'dog'):
        for i in range(4):
            save(data.root / name / f'{i}.png')  # each in both
    ready = data.ready('multilabel')
    sets = {role: read(MultiLabelDataset, s, ready.classes) for role, s in ready.splits.items()}
    assert {role: len(s) for role, s in sets.items()} == dict(train=3, val=1)
    assert sets['val'].gt_labels.tolist() == [[1, 1]]


def test_several_labels_from_boxes_count_a_class_once_an_image(data):
    content = coco(4)
    content['annotations'].append(dict(content['annotations'][0], id=9))
    for split in ('train', 'val'):
        write(data.root / f'{split}.json', content)
        save_all(data.root / split, 4)
    ready = data.ready('multilabel')
    assert (ready.splits['train'].counts.num_objects, ready.unit) == (4, 'labels')
