from pathlib import Path

import pytest
from pycocotools.coco import COCO

from tresnet_det.datasets.checks import check_coco_data, check_dataloader_cfg
from tresnet_det.errors import InputError, MissingFileError

CLASSES = ('cat', 'dog')


def check(coco, classes=CLASSES, num_classes=None, **options) -> list[str]:
    coco.write()
    return check_coco_data(coco.ann_file, coco.img_dir, classes, num_classes, **options)


def test_good_data_gives_no_warning(tiny_coco):
    assert check(tiny_coco, num_classes=2) == []


@pytest.mark.real
@pytest.mark.parametrize(('split', 'empty', 'count'), [('train', 3, 343), ('val', 2, 206)])
def test_real_coco_is_good_but_for_images_without_annotation(real_data, split, empty, count):
    root = real_data / 'coco_subset'
    ann_file = root / f'annotations/instances_{split}2017.json'
    classes = [c['name'] for c in COCO(str(ann_file)).cats.values()]
    (line,) = check_coco_data(ann_file, root / f'{split}2017', classes, 80)
    assert f'{empty} of {count} images have no annotation' in line


@pytest.mark.parametrize(
    ('what', 'missing', 'tool'),
    [
        ('ann_file', 'nowhere/instances_val2017.json', 'get_coco.py'),
        ('ann_file', 'nowhere/instances_val.json', 'voc_to_coco.py'),
        ('img_dir', 'nowhere/x', 'voc_to_coco.py'),
    ],
)
def test_missing_data_is_named_with_its_absolute_path_and_the_ways_on(
    tiny_coco, what, missing, tool, monkeypatch
):
    monkeypatch.chdir(tiny_coco.root)
    paths = {'ann_file': 'ann.json', 'img_dir': 'img', what: missing}
    with pytest.raises(MissingFileError) as caught:
        check_coco_data(**paths, classes=CLASSES)
    message = str(caught.value)
    assert str(tiny_coco.root / missing) in message
    for way in (f'python tools/{tool}', '--demo', '--data-root DIR'):
        assert way in message
    assert '\n' not in message


def test_truncated_json_is_named_with_the_position(tiny_coco):
    whole = tiny_coco.ann_file.read_text()
    tiny_coco.ann_file.write_text(whole[:200])
    with pytest.raises(InputError, match=r'ann\.json: no valid JSON at line 1 .* of 200\)'):
        check_coco_data(tiny_coco.ann_file, tiny_coco.img_dir, CLASSES)


def test_binary_is_no_json(tiny_coco):
    tiny_coco.ann_file.write_bytes(b'PK\x03\x04\xff\xff\xff')
    with pytest.raises(InputError, match=r'ann\.json: no '):
        check_coco_data(tiny_coco.ann_file, tiny_coco.img_dir, CLASSES)


@pytest.mark.parametrize('key', ['images', 'annotations', 'categories'])
def test_a_file_of_another_kind_is_no_instances_file(tiny_coco, key):
    del tiny_coco.content[key]
    with pytest.raises(InputError, match=f'no COCO instances file, it has no list {key!r}'):
        check(tiny_coco)
    tiny_coco.content[key] = []
    with pytest.raises(InputError, match=f'the list {key!r} is empty'):
        check(tiny_coco)


@pytest.mark.parametrize(
    ('part', 'key'),
    [('images', 'height'), ('annotations', 'area'), ('annotations', 'iscrowd'),
     ('annotations', 'bbox'), ('categories', 'name')],
)  # fmt: skip
def test_a_missing_key_is_named(tiny_coco, part, key):
    del tiny_coco.content[part][1][key]
    with pytest.raises(InputError, match=rf'{part}\[1\] .* without {key!r}'):
        check(tiny_coco)


def test_no_class_in_the_file_lists_both(tiny_coco):
    with pytest.raises(InputError, match=r"config has 'RBC', 'WBC', the file has 'cat', 'dog'"):
        check(tiny_coco, ('RBC', 'WBC'))


def test_a_class_missing_at_the_end_is_a_warning(tiny_coco):
    (line,) = check(tiny_coco, ('cat', 'dog', 'horse'))
    assert "no category for 1 of 3 classes ('horse')" in line


@pytest.mark.parametrize('classes', [('dog', 'cat'), ('horse', 'cat', 'dog'), ('cat', 'x', 'dog')])
def test_labels_that_would_get_another_classs_name_are_an_error(tiny_coco, classes):
    # MMDetection numbers by the file: cat 0, dog 1, whatever the order in metainfo.classes
    with pytest.raises(InputError, match=r'label \d is .* by its order of categories'):
        check(tiny_coco, classes)


def test_categories_that_are_no_class_are_counted(tiny_coco):
    (line,) = check(tiny_coco, ('cat',), 1)
    assert '1 annotations of 1 categories' in line
    assert "'dog'" in line


def test_num_classes_of_the_head_must_fit(tiny_coco):
    with pytest.raises(InputError, match=r'model\.bbox_head\.num_classes is 80 .* has 2 classes'):
        check(tiny_coco, num_classes=80)


def test_one_class_without_its_comma_is_explained(tiny_coco):
    with pytest.raises(InputError, match=r"the text 'cat', .*classes=\('cat',\)"):
        check(tiny_coco, 'cat')


@pytest.mark.parametrize('key', ['image_id', 'category_id'])
@pytest.mark.parametrize('value', [404, '7', 7.5, [7]])
def test_references_to_nothing_are_named_and_counted(tiny_coco, key, value):
    tiny_coco.content['annotations'][1][key] = value
    with pytest.raises(
        InputError, match=f'1 of 3 annotations refer to an? {key} .* annotation id 2'
    ):
        check(tiny_coco)


@pytest.mark.parametrize('part', ['images', 'annotations', 'categories'])
def test_double_ids_are_an_error(tiny_coco, part):
    tiny_coco.content[part][1]['id'] = first = tiny_coco.content[part][0]['id']
    with pytest.raises(InputError, match=f'1 ids of {part} .* the first is {first}'):
        check(tiny_coco)


def test_missing_images_are_named_and_counted(tiny_coco):
    (tiny_coco.img_dir / 'b.png').unlink()
    with pytest.raises(MissingFileError, match=r"1 of 2 images .* the first is 'b\.png'"):
        check(tiny_coco)
    (tiny_coco.img_dir / 'a.png').unlink()
    with pytest.raises(MissingFileError, match=r'2 of 2 images .* data_prefix\.img'):
        check(tiny_coco)


def test_images_in_subfolders_are_found(tiny_coco):
    (tiny_coco.img_dir / 'deep/er').mkdir(parents=True)
    (tiny_coco.img_dir / 'b.png').rename(tiny_coco.img_dir / 'deep/er/b.png')
    tiny_coco.content['images'][1]['file_name'] = 'deep/er/b.png'
    assert check(tiny_coco) == []
    tiny_coco.content['images'][1]['file_name'] = 'deep/b.png'
    with pytest.raises(MissingFileError, match="'deep/b.png'"):
        check(tiny_coco)


@pytest.mark.parametrize(
    ('box', 'area', 'says'),
    [
        ([5, 5, 0, 9], 0, '1 of 3 boxes have no area'),
        ([5, 5, -3, 9], 27, '1 of 3 boxes have no area'),
        ([5, 5, 9, 9], 0, '1 of 3 boxes have no area'),
        ([5, 5, 0.5, 9], 4.5, '1 of 3 boxes have no area or a side below one pixel'),
        ([50, 5, 9, 9], 81, '1 of 3 boxes lie outside'),
        ([-9, 5, 9, 9], 81, '1 of 3 boxes lie outside'),
        ([35, 5, 9, 9], 81, '1 of 3 boxes lie partly outside'),
        ([-4, 5, 9, 9], 81, '1 of 3 boxes lie partly outside'),
        ([31.4, 5, 9, 9], 81, None),  # by rounding
    ],
)
def test_boxes_that_are_dropped_or_clipped_are_counted(tiny_coco, box, area, says):
    tiny_coco.content['annotations'][1] |= {'bbox': box, 'area': area}
    lines = check(tiny_coco)
    assert len(lines) == (says is not None)
    if says:
        assert says in lines[0]
        assert 'annotation id 2 on image id 7' in lines[0]


BAD_BOXES = [
    [1, 2, 3], 'box', None, [1, 2, 3, float('nan')], [1, 2, 3, float('inf')], [1, 2, 3, '4a'],
    [1, 2, 3, '4'], ['1', '2', '3', '4'], [1, 2, 3, 10**400], [1.5, 2, 3, 10**400],
]  # fmt: skip


@pytest.mark.parametrize('box', BAD_BOXES)
def test_a_box_that_is_none_is_named(tiny_coco, box):
    tiny_coco.content['annotations'][2]['bbox'] = box
    with pytest.raises(InputError, match='annotation id 3 has the bbox'):
        check(tiny_coco)


def test_boxes_that_are_all_text_are_named(tiny_coco):
    for annotation in tiny_coco.content['annotations']:
        annotation['bbox'] = [str(value) for value in annotation['bbox']]
    with pytest.raises(InputError, match='annotation id 1 has the bbox'):
        check(tiny_coco)


@pytest.mark.parametrize(
    ('area', 'named'), [(None, 'None'), ('64', "'64'"), (10**400, '1000'), (-(10**30), '-1000')]
)
def test_area_without_a_value_is_named(tiny_coco, area, named):
    tiny_coco.content['annotations'][2]['area'] = area
    with pytest.raises(InputError, match=f'annotation id 3 has the area {named}') as caught:
        check(tiny_coco)
    assert len(str(caught.value)) < 250 + len(str(tiny_coco.ann_file))


def test_a_category_name_that_is_a_list_is_named(tiny_coco):
    tiny_coco.content['categories'][1]['name'] = ['dog']
    with pytest.raises(InputError, match=r"a category has the name \['dog'\]"):
        check(tiny_coco)


def test_ids_may_be_fractions_or_text(tiny_coco):
    images, annotations = tiny_coco.content['images'], tiny_coco.content['annotations']
    images[0]['id'], annotations[2]['id'] = 7.0, 'third'  # annotations say 7
    images[1]['id'] = annotations[2]['image_id'] = 'b'
    assert check(tiny_coco) == []


@pytest.mark.parametrize('empty', [True, False])
def test_test_dev_has_no_annotations(tiny_coco, empty):
    del tiny_coco.content['annotations']
    if empty:
        tiny_coco.content['annotations'] = []
    assert check(tiny_coco, needs_annotations=False) == []
    cfg = config(tiny_coco, test_mode=True)
    assert check_dataloader_cfg({'type': 'ConcatDataset', 'datasets': [cfg]}, 2, False) == []
    with pytest.raises(InputError, match="the list 'annotations'|no list 'annotations'"):
        check_dataloader_cfg(cfg, 2)


def test_annotations_that_are_not_needed_are_checked_where_they_are(tiny_coco):
    del tiny_coco.content['annotations'][0]['iscrowd']  # but for what only evaluation needs
    assert check(tiny_coco, needs_annotations=False) == []
    tiny_coco.content['annotations'][0]['image_id'] = 404
    with pytest.raises(InputError, match='refer to an image_id'):
        check(tiny_coco, needs_annotations=False)


def test_training_does_without_iscrowd(tiny_coco):
    del tiny_coco.content['annotations'][0]['iscrowd']
    tiny_coco.write()
    assert check_dataloader_cfg(config(tiny_coco), 2) == []
    with pytest.raises(InputError, match="without 'iscrowd'"):
        check_dataloader_cfg(config(tiny_coco, test_mode=True), 2)


def test_a_training_part_without_annotations_is_a_warning(tiny_coco):
    tiny_coco.content['annotations'] = []
    tiny_coco.write()
    part = config(tiny_coco)
    lines = check_dataloader_cfg(dict(type='ConcatDataset', datasets=[part, part]), 2)
    assert all("the list 'annotations' is empty" in line for line in lines)
    assert len(lines) == 2
    with pytest.raises(InputError, match='nothing to learn from it'):  # as the whole
        check_dataloader_cfg(part, 2)


def test_only_the_first_process_looks(tiny_coco, monkeypatch):
    monkeypatch.setattr('tresnet_det.datasets.checks.is_main_process', lambda: False)
    assert check_dataloader_cfg(config(tiny_coco, ann_file='gone.json'), 2) == []
    monkeypatch.undo()
    monkeypatch.setenv('RANK', '1')  # left over: no launcher was asked for
    with pytest.raises(MissingFileError, match='gone.json'):
        check_dataloader_cfg(config(tiny_coco, ann_file='gone.json'), 2)


def test_a_folder_that_cannot_be_listed_is_one_line(tiny_coco):
    tiny_coco.content['images'][1]['file_name'] = 'x' * 300 + '/b.png'
    with pytest.raises(InputError, match=r'x: cannot be read \(File name too long\)$'):
        check(tiny_coco)


@pytest.mark.parametrize('what', ['read_bytes', 'is_file', 'read_text'])
def test_what_may_not_be_read_is_one_line(tiny_coco, monkeypatch, what):
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(Path, what, refuse)
    cfg = config(tiny_coco, metainfo={'classes': str(tiny_coco.ann_file)})
    with pytest.raises(InputError, match=r'ann\.json: cannot be read \(Permission denied\)$'):
        check_dataloader_cfg(cfg if what == 'read_text' else config(tiny_coco), 2)


def test_annotation_id_zero_is_a_warning(tiny_coco):
    tiny_coco.content['annotations'][0]['id'] = 0
    (line,) = check(tiny_coco)
    assert 'number annotations from 1' in line


def config(coco, **more) -> dict:
    cfg = {
        'type': 'CocoDataset',
        'data_root': str(coco.root),
        'ann_file': 'ann.json',
        'data_prefix': {'img': 'img/'},
        'metainfo': {'classes': CLASSES},
    }
    return cfg | more


@pytest.mark.parametrize(
    'wrap',
    [
        lambda cfg: cfg,
        lambda cfg: {'type': 'RepeatDataset', 'times': 2, 'dataset': cfg},
        lambda cfg: {'type': 'ConcatDataset', 'datasets': [cfg]},
        lambda cfg: {'type': 'MultiImageMixDataset', 'dataset': {
            'type': 'mmdet.ClassBalancedDataset', 'oversample_thr': 0.1, 'dataset': cfg}},
    ],
)  # fmt: skip
def test_configs_are_resolved_through_wrappers(tiny_coco, wrap):
    assert check_dataloader_cfg(wrap(config(tiny_coco)), 2) == []
    with pytest.raises(MissingFileError, match='gone.json'):
        check_dataloader_cfg(wrap(config(tiny_coco, ann_file='gone.json')), 2)


def test_config_paths_without_root_or_absolute(tiny_coco, monkeypatch):
    monkeypatch.chdir(tiny_coco.root)
    assert check_dataloader_cfg(config(tiny_coco, data_root=None), 2) == []
    absolute = config(tiny_coco, data_root='/else', ann_file=str(tiny_coco.ann_file))
    absolute['data_prefix'] = {'img': str(tiny_coco.img_dir)}
    assert check_dataloader_cfg(absolute, 2) == []


@pytest.mark.parametrize(
    'more',
    [
        {'type': 'VOCDataset'},
        {'data_root': 's3://bucket/coco'},
        {'backend_args': {'backend': 'petrel'}},
    ],
)
def test_other_types_and_remote_data_are_passed_over(tiny_coco, more):
    assert check_dataloader_cfg(config(tiny_coco, **more), 99) == []


def test_classes_default_to_cocos_eighty(tiny_coco):
    coco = config(tiny_coco)
    del coco['metainfo']
    with pytest.raises(InputError, match='num_classes is 2 and the data has 80 classes'):
        check_dataloader_cfg(coco, 2)


def test_classes_may_be_a_file(tiny_coco):
    (tiny_coco.root / 'names.txt').write_text('cat\ndog\n')
    cfg = config(tiny_coco, metainfo={'classes': str(tiny_coco.root / 'names.txt')})
    assert check_dataloader_cfg(cfg, 2) == []


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
        check_dataloader_cfg(config(tiny_coco, **more), 2)
