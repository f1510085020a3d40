"""`MultiLabelDataset`: labels from COCO, CSV and class folders, and each mistake in them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from PIL import Image

from tresnet_det.datasets import MultiLabelDataset
from tresnet_det.errors import InputError, MissingFileError

SQUISH = [dict(type='Resize', size=(16, 16))]


@pytest.fixture
def images(tmp_path) -> Path:
    (tmp_path / 'img').mkdir()
    for number, name in enumerate('abcd'):
        Image.new('RGB', (8, 6), (number, 0, 0)).save(tmp_path / 'img' / f'{name}.png')
    return tmp_path


def from_csv(root: Path, text: str, classes=None, encoding='utf-8', **settings):
    (root / 'labels.csv').write_text(text, encoding=encoding)
    metainfo = None if classes is None else dict(classes=classes)
    prefix = dict(img='img')
    return MultiLabelDataset(str(root), 'labels.csv', prefix, metainfo, SQUISH, **settings)


def from_coco(root: Path, annotations, categories=((7, 'cat'), (3, 'dog')), classes=None, **more):
    """Four images with the ids 10 to 13; annotations are (image, category, crowd)."""
    content = dict(
        images=[dict(id=10 + i, file_name=f'{n}.png', width=8, height=6)
                for i, n in enumerate('abcd')],
        categories=[dict(id=i, name=name) for i, name in categories],
        annotations=[dict(id=i + 1, image_id=image, category_id=category, iscrowd=crowd,
                          bbox=[0, 0, 4, 4], area=16)
                     for i, (image, category, crowd) in enumerate(annotations)],
    )  # fmt: skip
    (root / 'ann.json').write_text(json.dumps(content))
    metainfo = None if classes is None else dict(classes=classes)
    return MultiLabelDataset(str(root), 'ann.json', dict(img='img'), metainfo, SQUISH, **more)


def read(dataset) -> dict[str, list[int]]:
    return {
        Path(dataset.img_path(i)).name: dataset.gt_labels[i].tolist() for i in range(len(dataset))
    }


ANNOTATIONS = [(10, 3, 0), (10, 3, 0), (12, 7, 0), (12, 3, 1), (13, 3, 1)]


def test_coco_counts_every_annotated_category_crowds_too(images):
    dataset = from_coco(images, ANNOTATIONS)
    assert dataset.metainfo == dict(classes=('cat', 'dog'))  # the file's order, not the ids'
    assert read(dataset) == {'a.png': [0, 1], 'c.png': [1, 1], 'd.png': [0, 1]}


def test_images_without_annotations_stay_on_demand(images):
    dataset = from_coco(images, ANNOTATIONS, filter_empty=False)
    assert read(dataset)['b.png'] == [0, 0]
    assert len(dataset) == 4


def test_coco_classes_are_restricted_and_ordered_by_metainfo(images):
    assert read(from_coco(images, ANNOTATIONS, classes=('cat',))) == {'c.png': [1]}
    swapped = from_coco(images, ANNOTATIONS, classes=('dog', 'cat'))
    assert read(swapped) == {'a.png': [1, 0], 'c.png': [1, 1], 'd.png': [1, 0]}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(annotations=[(10, 3, 0), (10, 4, 0)]), '1 of 2, .* annotation id 2: category_id 4'),
        (dict(annotations=[(99, 3, 0)]), '1 of 1, first annotation id 1: image_id 99'),
        (dict(annotations=[]), 'no image has a usable box or label'),
        (
            dict(annotations=ANNOTATIONS, classes=('cats',)),
            "the classes are 'cats', the file has 'cat', 'dog'",
        ),
        (dict(annotations=[], categories=((1, 'cat'), (2, 'cat'))), "name of another: name 'cat'"),
    ],
)
def test_coco_that_contradicts_itself_is_named(images, settings, message):
    with pytest.raises(InputError, match=rf'ann\.json.*{message}') as caught:
        from_coco(images, **settings)
    assert '\n' not in str(caught.value)


def test_coco_files_and_images_that_are_missing_are_named(images):
    with pytest.raises(MissingFileError, match=r'annotation file .*no\.json not found'):
        MultiLabelDataset(str(images), 'no.json', dict(img='img'))
    (images / 'img/b.png').unlink()
    with pytest.raises(
        MissingFileError, match=r'ann\.json: images that are not .*: 1 of 4, first b\.png'
    ):
        from_coco(images, ANNOTATIONS)
    (images / 'ann.json').write_text('{"images": [')
    with pytest.raises(InputError, match=r'ann\.json: no valid JSON at line 1'):
        MultiLabelDataset(str(images), 'ann.json', dict(img='img'))


@pytest.mark.real
def test_real_coco_has_its_80_classes(real_data):
    root = real_data / 'coco_subset'
    dataset = MultiLabelDataset(
        str(root), 'annotations/instances_val2017.json', dict(img='val2017'), pipeline=SQUISH
    )
    assert len(dataset) == 204  # of 206, two have no annotation
    assert dataset.metainfo['classes'][:2] == ('person', 'bicycle')
    content = json.loads((root / 'annotations/instances_val2017.json').read_text())
    pairs = {(a['image_id'], a['category_id']) for a in content['annotations']}
    assert dataset.gt_labels.shape == (204, 80)
    assert dataset.gt_labels.sum() == len(pairs)
    assert dataset[0]['inputs'].shape == (3, 16, 16)


def test_a_sample_has_a_label_for_each_class(images):
    dataset = from_csv(images, 'file,x,y,z\nb.png,1,0,-1\n')
    sample = dataset[0]['data_samples']
    assert sample.gt_label.dtype == torch.int64
    assert sample.gt_label.tolist() == [1, 0, -1]
    assert sample.img_path == str(images / 'img/b.png')
    sample.gt_label.fill_(5)
    assert dataset.gt_labels.tolist() == [[1, 0, -1]]


LIST = 'file,label\na.png,dog;cat\n\n"b.png", cat \nc.png,\n'


def test_csv_with_a_list_of_labels(images):
    dataset = from_csv(images, LIST)
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    assert read(dataset) == {'a.png': [1, 1], 'b.png': [1, 0]}
    kept = from_csv(images, LIST, ('dog', 'eel', 'cat'), 'utf-8-sig', filter_empty=False)
    assert read(kept) == {'a.png': [1, 0, 1], 'b.png': [0, 0, 1], 'c.png': [0, 0, 0]}


def test_csv_with_a_column_for_each_class(images):
    text = 'image,dog,cat,"x, y"\na.png,1,0,-1\nb.png,0.0, 1.0,-1.0\nc.png,0,-1,0\n'
    dataset = from_csv(images, text)
    assert dataset.metainfo['classes'] == ('dog', 'cat', 'x, y')
    assert read(dataset) == {'a.png': [1, 0, -1], 'b.png': [0, 1, -1]}  # of c, nothing is there
    assert read(from_csv(images, text, ('cat', 'dog'))) == {'a.png': [0, 1], 'b.png': [1, 0]}


def test_one_column_may_be_the_only_class(images):
    assert read(from_csv(images, 'file,dog\na.png,1\nb.png,0\n')) == {'a.png': [1]}


def test_what_was_left_out_is_logged(images, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'tresnet_det.datasets.classification.print_log', lambda t, _: lines.append(t)
    )
    from_csv(images, LIST)
    assert 'skipped 1 of 3 images' in lines[0]
    assert 'filter_empty=False keeps them' in lines[0]
    from_csv(images, LIST, filter_empty=False)
    assert len(lines) == 1


@pytest.mark.parametrize(
    ('text', 'classes', 'message'),
    [
        ('a.png,cat\nb.png,dog\n', None, r":1: no header but 'a\.png,cat': begin .*'file,label'"),
        ('', None, ': empty: write a header'),
        ('file,label\n', None, ': no image after the header'),
        ('file,label\na.png,cat\nb.png,cat,dog\n', None, '.*csv:3: 3 cells where the header has 2'),
        ('file,label\na.png,cat\n\na.png,dog\n', None, r".*csv:4: 'a\.png' was in row 2"),
        ('file,label\na.png,cat\nx.png,dog\n', None, r".*: 1 of 2, first x\.png\."),
        ('file,label\na.png,cat;dgo\n', ('cat', 'dog'), r".*csv:2: 'dgo' is no .*mean 'dog'\?"),
        ('file,cat,dog\na.png,1,0\nb.png,1,yes\n', None, r".*csv:3: 'dog' is 'yes'\. Write 1, 0"),
        ('file,cat,dog\na.png,1,\n', None, r".*csv:2: 'dog' is ''\. Write 1, 0 or -1"),
        ('file,found\na.png,cat dog\n', None, r".*csv:2: 'found' is 'cat dog'; .*only column"),
        ('file,cat\na.png,1\n', ('dog',), r": .*'dog': known are 'cat'"),
        ('file,cat,cat\na.png,1,0\n', None, r": .*column 'cat'"),
        ('file,label\na.png,"cat\n', None, r':2: no CSV \(.*\): fix the row'),
        ('file,label\na.png,\n', None, ': no image has a usable box or label of the classes'),
    ],
)  # fmt: skip
def test_a_broken_csv_is_named_with_its_row(images, text, classes, message):
    with pytest.raises(InputError, match=rf'labels\.csv{message}') as caught:
        from_csv(images, text, classes)
    assert '\n' not in str(caught.value)


def test_csv_that_is_missing_or_no_text_is_named(images):
    with pytest.raises(InputError, match='no text at byte .*save it as UTF-8'):
        from_csv(images, 'file,label\na.png,Käfer\n', encoding='latin-1')
    with pytest.raises(MissingFileError, match=r'annotation file .*no\.csv not found'):
        MultiLabelDataset(str(images), 'no.csv', dict(img='img'))
    with pytest.raises(InputError, match=r'labels\.txt must be a \.json .* or \.csv'):
        MultiLabelDataset(str(images), 'labels.txt', dict(img='img'))


@pytest.fixture
def folders(tmp_path) -> Path:
    for name, level in (('cat/a', 1), ('cat/sub/b', 2), ('dog/a', 1), ('dog/c', 3)):
        path = tmp_path / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 6), (level, 0, 0)).save(path)
    return tmp_path


def test_an_image_in_several_folders_has_all_their_labels(folders):
    dataset = MultiLabelDataset(str(folders), pipeline=SQUISH)
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    assert read(dataset) == {'a.png': [1, 1], 'b.png': [1, 0], 'c.png': [0, 1]}
    assert dataset[1]['inputs'][0, 3, 3] == 2
    swapped = MultiLabelDataset(str(folders), metainfo=dict(classes=('dog', 'cat')))
    assert read(swapped) == {'a.png': [1, 1], 'b.png': [0, 1], 'c.png': [1, 0]}


def test_different_images_of_one_name_are_refused(folders):
    Image.new('RGB', (8, 6), (9, 9, 9)).save(folders / 'dog/a.png')
    with pytest.raises(
        InputError, match=r'different images of the same name: cat/a\.png and dog/a\.png'
    ):
        MultiLabelDataset(str(folders))


def test_the_registry_knows_it_and_its_recipes(images):
    from_csv(images, LIST)
    cfg = dict(
        type='MultiLabelDataset',
        data_root=str(images),
        ann_file='labels.csv',
        data_prefix=dict(img='img/'),
    )
    train, test = DATASETS.build(cfg), DATASETS.build(dict(cfg, test_mode=True))
    assert train[0]['inputs'].shape == test[0]['inputs'].shape == (3, 448, 448)
    assert 'Cutout' in repr(train._transforms)
    assert np.unique(test[0]['inputs']).tolist() == [0]
