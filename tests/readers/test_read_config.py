"""What a training says of the datasets that its config names, before anything is built."""

import json

import pytest
from planted_coco import save_image
from small_coco import small_coco

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.readers.config import check_classification, check_detection

CLASSES = ('cat', 'dog')


class TinyCoco:
    """Two images, two classes, three boxes; `content` is there to be broken."""

    def __init__(self, root):
        self.root, self.ann_file, self.img_dir = root, root / 'ann.json', root / 'img'
        self.content = small_coco()
        for seed, name in enumerate(('a.png', 'b.png')):
            save_image(self.img_dir / name, seed, (40, 30))
        self.write()

    def write(self):
        self.ann_file.write_text(json.dumps(self.content))


@pytest.fixture
def tiny_coco(tmp_path):
    return TinyCoco(tmp_path)


def config(coco, **more) -> dict:
    cfg = {
        'type': 'CocoDataset',
        'data_root': str(coco.root),
        'ann_file': 'ann.json',
        'data_prefix': {'img': 'img/'},
        'metainfo': {'classes': CLASSES},
    }
    return cfg | more


def check(coco, classes=CLASSES, num_classes=None, split='val', needs_truth=True) -> list[str]:
    coco.write()
    cfg = config(coco, metainfo=dict(classes=classes))
    return check_detection(cfg, split, num_classes, needs_truth)


@pytest.mark.parametrize(
    ('settings', 'missing', 'tool'),
    [
        (dict(ann_file='nowhere/instances_val2017.json'), 'nowhere/instances_val2', 'get_coco.py'),
        (dict(ann_file='nowhere/val.json'), 'nowhere/val.json', 'voc_to_coco.py'),
        (dict(data_prefix=dict(img='nowhere')), 'nowhere', 'voc_to_coco.py'),
    ],
)
def test_missing_data_is_named_with_its_absolute_path_and_the_ways_on(
    tiny_coco, settings, missing, tool, monkeypatch
):
    monkeypatch.chdir(tiny_coco.root)
    with pytest.raises(MissingFileError) as caught:
        check_detection(config(tiny_coco, data_root='', **settings), 'val')
    message = str(caught.value)
    assert str(tiny_coco.root / missing) in message
    for way in (f'python tools/{tool}', '--demo', '--data-root DIR'):
        assert way in message


@pytest.mark.parametrize('key', ['images', 'annotations', 'categories'])
def test_a_file_of_another_kind_is_no_instances_file(tiny_coco, key):
    del tiny_coco.content[key]
    with pytest.raises(InputError, match=f'no COCO instances file, it has no list {key!r}'):
        check(tiny_coco)
    tiny_coco.content[key] = []
    says = 'no image has a usable box' if key == 'annotations' else f'the list {key!r} is empty'
    with pytest.raises(InputError, match=says):
        check(tiny_coco)


@pytest.mark.parametrize('classes', [('dog', 'cat'), ('horse', 'cat', 'dog'), ('cat', 'x', 'dog')])
def test_labels_that_would_get_another_classs_name_are_an_error(tiny_coco, classes):
    # MMDetection numbers by the file: cat 0, dog 1, whatever the order in metainfo.classes
    with pytest.raises(InputError, match=r'label \d is .* by the file'):
        check(tiny_coco, classes)


def test_images_in_subfolders_are_found(tiny_coco):
    (tiny_coco.img_dir / 'deep/er').mkdir(parents=True)
    (tiny_coco.img_dir / 'b.png').rename(tiny_coco.img_dir / 'deep/er/B.png')
    tiny_coco.content['images'][1]['file_name'] = 'deep/er/B.png'
    assert check(tiny_coco) == []
    tiny_coco.content['images'][1]['file_name'] = 'deep/er/b.png'
    with pytest.raises(MissingFileError, match=r'1 of 2, first deep/er/b.png \(there is B.png\)'):
        check(tiny_coco)


@pytest.mark.parametrize(
    ('box', 'area', 'says'),
    [
        ([5, 5, 0, 9], 0, 'without area, or a side below a pixel'),
        ([5, 5, -3, 9], 27, 'without area'),
        ([5, 5, 9, 9], 0, 'without area'),
        ([5, 5, 0.5, 9], 4.5, 'a side below a pixel'),
        ([50, 5, 9, 9], 81, 'wholly outside'),
        ([-9, 5, 9, 9], 81, 'wholly outside'),
        ([35, 5, 9, 9], 81, 'partly outside'),
        ([-4, 5, 9, 9], 81, 'partly outside'),
        ([31.4, 5, 9, 9], 81, None),  # by rounding
    ],
)
def test_boxes_that_are_dropped_or_clipped_are_counted(tiny_coco, box, area, says):
    tiny_coco.content['annotations'][1] |= {'bbox': box, 'area': area}
    lines = check(tiny_coco)
    assert len(lines) == (says is not None)
    if says:
        assert says in lines[0]
        assert '1 of 3, first a.png, annotation id 2: [' in lines[0]


BAD_BOXES = [
    [1, 2, 3], 'box', None, [1, 2, 3, float('nan')], [1, 2, 3, float('inf')], [1, 2, 3, '4a'],
    [1, 2, 3, '4'], ['1', '2', '3', '4'], [1, 2, 3, 10**400], [1.5, 2, 3, 10**400],
]  # fmt: skip
BAD_AREAS = [None, '64', 10**400, -(10**30)]


@pytest.mark.parametrize(
    ('key', 'value'),
    [*(('bbox', box) for box in BAD_BOXES), *(('area', area) for area in BAD_AREAS)],
)
def test_a_box_or_an_area_that_is_none_is_named(tiny_coco, key, value):
    tiny_coco.content['annotations'][2][key] = value
    with pytest.raises(InputError, match=f'1 of 3, first b.png, annotation id 3: {key} ') as caught:
        check(tiny_coco)
    assert len(str(caught.value)) < 300 + len(str(tiny_coco.ann_file))


def test_boxes_that_are_all_text_are_named(tiny_coco):
    for annotation in tiny_coco.content['annotations']:
        annotation['bbox'] = [str(value) for value in annotation['bbox']]
    with pytest.raises(InputError, match='3 of 3, first a.png, annotation id 1: bbox'):
        check(tiny_coco)


def test_ids_may_be_fractions_or_text(tiny_coco):
    images, annotations = tiny_coco.content['images'], tiny_coco.content['annotations']
    images[0]['id'], annotations[2]['id'] = 7.0, 'third'  # annotations say 7
    assert check(tiny_coco) == []
    images[1]['id'] = annotations[2]['image_id'] = 'b'
    with pytest.raises(InputError, match="partly numbers and partly text: images: 'b'. Number"):
        check(tiny_coco)  # NumPy makes '7.0' of the other, which evaluation does not find
    images[0]['id'] = 'a'
    for annotation in annotations[:2]:
        annotation['image_id'] = 'a'
    assert check(tiny_coco) == []


@pytest.mark.parametrize('empty', [True, False])
def test_test_dev_has_no_annotations(tiny_coco, empty):
    del tiny_coco.content['annotations']
    if empty:
        tiny_coco.content['annotations'] = []
    assert check(tiny_coco, needs_truth=False) == []
    with pytest.raises(InputError, match="no usable|no list 'annotations'|no image has"):
        check(tiny_coco)


def test_annotations_that_are_not_needed_are_checked_where_they_are(tiny_coco):
    del tiny_coco.content['annotations'][0]['iscrowd']  # but for what only evaluation needs
    assert check(tiny_coco, needs_truth=False) == []
    tiny_coco.content['annotations'][0]['image_id'] = 404
    with pytest.raises(InputError, match='image_id 404'):
        check(tiny_coco, needs_truth=False)


def test_training_does_without_iscrowd_and_id_0(tiny_coco):
    tiny_coco.content['annotations'][1]['id'] = 0
    assert 'Number annotations from 1' in check(tiny_coco)[0]
    del tiny_coco.content['annotations'][0]['iscrowd']
    assert check(tiny_coco, split='train') == []
    with pytest.raises(InputError, match="without 'iscrowd'"):
        check(tiny_coco)


def test_a_training_part_may_lack_annotations_and_not_the_whole(tiny_coco):
    (tiny_coco.root / 'full.json').write_bytes(tiny_coco.ann_file.read_bytes())
    tiny_coco.content['annotations'] = []
    tiny_coco.write()
    parts = [config(tiny_coco), config(tiny_coco, ann_file='full.json')]
    (line,) = check_detection(dict(type='ConcatDataset', datasets=parts), 'train', 2)
    assert 'images without an annotation: 2 of 2' in line
    with pytest.raises(InputError, match='nothing to learn'):
        check_detection(dict(type='ConcatDataset', datasets=parts[:1]), 'train', 2)


def test_only_the_first_process_looks(tiny_coco, monkeypatch):
    monkeypatch.setattr('tresnet_det.readers.config.is_main_process', lambda: False)
    assert check_detection(config(tiny_coco, ann_file='gone.json'), 'train', 2) == []
    monkeypatch.undo()
    monkeypatch.setenv('RANK', '1')  # left over: no launcher was asked for
    with pytest.raises(MissingFileError, match=r'gone\.json'):
        check_detection(config(tiny_coco, ann_file='gone.json'), 'train', 2)


def test_what_cannot_be_read_is_one_line(tiny_coco, monkeypatch):
    tiny_coco.content['images'][1]['file_name'] = 'x' * 300 + '/b.png'
    with pytest.raises(InputError, match=r'x: cannot be read \(File name too long\)$'):
        check(tiny_coco)

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr('pathlib.Path.open', refuse)
    with pytest.raises(InputError, match=r'ann\.json: cannot be read \(Permission denied\)$'):
        check_detection(config(tiny_coco), 'val', 2)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda cfg: {'type': 'RepeatDataset', 'times': 2, 'dataset': cfg},
        lambda cfg: {'type': 'ConcatDataset', 'datasets': [cfg]},
        lambda cfg: {'type': 'MultiImageMixDataset', 'dataset': {
            'type': 'mmdet.ClassBalancedDataset', 'oversample_thr': 0.1, 'dataset': cfg}},
    ],
)  # fmt: skip
def test_configs_are_resolved_through_wrappers(tiny_coco, wrap):
    assert check_detection(wrap(config(tiny_coco)), 'train', 2) == []
    with pytest.raises(MissingFileError, match=r'gone\.json'):
        check_detection(wrap(config(tiny_coco, ann_file='gone.json')), 'train', 2)


def test_config_paths_without_root_or_absolute(tiny_coco, monkeypatch):
    monkeypatch.chdir(tiny_coco.root)
    assert check_detection(config(tiny_coco, data_root=None), 'train', 2) == []
    absolute = config(tiny_coco, data_root='/else', ann_file=str(tiny_coco.ann_file))
    absolute['data_prefix'] = {'img': str(tiny_coco.img_dir)}
    assert check_detection(absolute, 'train', 2) == []


@pytest.mark.parametrize(
    'more',
    [
        {'type': 'TorchvisionDataset'},
        {'data_root': 's3://bucket/coco'},
        {'backend_args': {'backend': 'petrel'}},
    ],
)
def test_other_types_and_remote_data_are_passed_over(tiny_coco, more):
    assert check_detection(config(tiny_coco, **more), 'train', 99) == []


def test_classes_default_to_cocos_eighty_and_may_be_a_file(tiny_coco):
    cfg = config(tiny_coco)
    del cfg['metainfo']
    with pytest.raises(InputError, match="label 0 is 'cat' by the file, 'person' by metainfo"):
        check_detection(cfg, 'train', 80)
    (tiny_coco.root / 'names.txt').write_text('cat\ndog\n')
    cfg = config(tiny_coco, metainfo={'classes': str(tiny_coco.root / 'names.txt')})
    assert check_detection(cfg, 'train', 2) == []


@pytest.mark.parametrize(
    ('more', 'says'),
    [
        ({'metainfo': {'CLASSES': CLASSES}}, 'write metainfo.classes'),
        ({'data_prefix': {}}, "no key 'img'"),
        ({'ann_file': ''}, 'ann_file is not set'),
    ],
)
def test_config_keys_that_would_mislead_are_named(tiny_coco, more, says):
    with pytest.raises(InputError, match=says):
        check_detection(config(tiny_coco, **more), 'train', 2)


def test_loaders_of_a_classifier_must_have_the_same_classes(tiny_coco):
    cfg = config(tiny_coco, type='MultiLabelDataset', pipeline=[])
    other = dict(cfg, metainfo=dict(classes=('dog', 'cat')))
    check_classification(dict(train=cfg, val=cfg), 2)
    with pytest.raises(InputError, match='train: num_classes of the head is 3, the data has 2'):
        check_classification(dict(train=cfg), 3)
    with pytest.raises(InputError, match='they are in another order'):
        check_classification(dict(train=cfg, val=other), 2)
