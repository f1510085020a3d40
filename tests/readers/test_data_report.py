"""The report of a check: what it holds, and of which data a config has it made."""

import os

import numpy as np
import pytest
from mmdet.models.dense_heads import FCOSHead
from planted import codes, inspect, inspect_path
from planted_coco import PLANTS, Coco
from planted_yolo import ROWS, Yolo, as_pixels

from tresnet_det.errors import InputError
from tresnet_det.readers.config import find_config_sources, find_sources
from tresnet_det.readers.findings import Findings
from tresnet_det.readers.levels import REGRESS_RANGES, View
from tresnet_det.readers.report import inspect_data
from tresnet_det.readers.split import Source


@pytest.fixture
def coco(tmp_path):
    return Coco(tmp_path)


def plant(coco, *names):
    for name in names:
        PLANTS[name][0](coco)


def inspect_coco(coco, **options):
    coco.write()
    return inspect_path(coco.root, **options)


def test_all_faults_at_once_hide_none_of_the_others(coco):
    plant(coco, 'missing image', 'another size', 'box outside', 'image of both splits')
    coco.annotate(5, category_id=4)
    assert codes(inspect_coco(coco)) == {
        ('train', 'missing-image'): 1,
        ('train', 'size-differs'): 1,
        ('train', 'box-outside'): 1,
        ('train', 'unknown-category'): 1,
        ('val', 'overlap'): 1,
    }


@pytest.mark.parametrize('change', [lambda text: text[:200], lambda text: '{"images": []}'])
def test_a_file_that_is_no_instances_file_does_not_stop_the_others(coco, change):
    plant(coco, 'image of both splits', 'box outside')
    coco.write()
    path = coco.root / 'annotations/instances_val.json'
    path.write_text(change(path.read_text()))
    report = inspect_path(coco.root)
    assert ('train', 'box-outside') in codes(report)
    assert ('val', 'unreadable-annotations') in codes(report)


def test_a_missing_image_is_named_with_the_file_of_another_ending(coco):
    path = coco.image('train', 1)
    path.rename(path.with_suffix('.PNG'))
    report = inspect_coco(coco)
    found = {f.code: f.examples for f in report.findings.sorted()}
    assert found['missing-image'] == ['train_1.jpg (there is train_1.PNG)']


def test_without_decoding_only_what_the_files_names_say_is_found(coco):
    plant(coco, 'truncated image', 'image of both splits')
    coco.image('val', 0).unlink()
    assert codes(inspect_coco(coco, decode=False)) == {('val', 'missing-image'): 1}


def test_the_same_folder_in_both_splits_is_an_overlap_without_decoding(coco):
    coco.write()
    file, folder = coco.root / 'annotations/instances_train.json', coco.root / 'train'
    sources = [
        Source(name, 'coco', file, folder, training=name == 'train', detection=True)
        for name in ('train', 'val')
    ]
    assert codes(inspect(sources, decode=False)) == {('val', 'overlap'): 4}


def test_processes_find_what_this_one_finds(coco):
    plant(coco, 'truncated image', 'image of both splits')
    one, more = inspect_coco(coco), inspect_coco(coco, workers=2)
    assert one.as_dict() == more.as_dict()
    assert len(one.findings.sorted()) == 2


def die(path, detection):
    os._exit(9)


def test_a_process_that_is_killed_is_one_line(coco):
    coco.write()
    sources = find_sources(Findings(), coco.root)
    with pytest.raises(InputError, match='that reads images was killed, .*: lower --workers$'):
        inspect_data(sources, read_image=die, workers=1)


def config(coco, split='train', **options):
    return dict(
        type='CocoDataset',
        data_root=str(coco.root),
        ann_file=f'annotations/instances_{split}.json',
        data_prefix=dict(img=f'{split}/'),
        **options,
    )


@pytest.mark.parametrize(
    ('classes', 'num_classes', 'expected'),
    [
        (('cat', 'dog'), 2, {}),
        (('dog', 'cat'), 2, {'class-order': 1}),
        (('cat', 'dog', 'horse'), 3, {'class-without-category': 1}),
        (('cat',), 1, {'category-no-class': 4}),
        (('RBC', 'WBC'), 2, {'no-known-class': 1}),
        (('cat', 'dog'), 80, {'num-classes': 1}),
        ('cat', 1, {'bad-config': 1}),
    ],
)
def test_classes_of_a_config_are_compared_with_file_and_head(coco, classes, num_classes, expected):
    coco.write()
    findings = Findings()
    cfg = dict(type='RepeatDataset', dataset=config(coco, metainfo=dict(classes=classes)))
    sources = find_config_sources(cfg, 'train', True, findings)
    report = inspect(sources, findings, num_classes=num_classes)
    assert codes(report) == {('train', code): count for code, count in expected.items()}


def test_parts_of_a_concatenation_are_numbered_and_unknown_datasets_noted(coco):
    coco.write()
    metainfo = dict(classes=('cat', 'dog'))
    parts = [config(coco, split, metainfo=metainfo) for split in ('train', 'val')]
    parts.append(dict(type='TorchvisionDataset', name='CIFAR10'))
    findings = Findings()
    cfg = dict(type='ConcatDataset', datasets=parts)
    sources = find_config_sources(cfg, 'train', True, findings)
    assert [source.name for source in sources] == ['train[0]', 'train[1]']
    assert codes(inspect(sources, findings)) == {('train[2]', 'not-checked'): 1}


def test_a_missing_folder_or_file_of_a_config_is_a_finding(coco):
    coco.write()
    metainfo = dict(classes=('cat', 'dog'))
    findings, sources = Findings(), []
    for name, change in (
        ('train', dict(data_prefix=dict(img='nowhere/'))),
        ('val', dict(ann_file='nowhere.json')),
    ):
        cfg = {**config(coco, metainfo=metainfo), **change}
        sources += find_config_sources(cfg, name, name == 'train', findings)
    assert codes(inspect(sources, findings)) == {
        ('train', 'missing-folder'): 1,
        ('val', 'missing-file'): 1,
    }


def test_boxes_are_counted_by_half_of_their_longer_side_after_the_resize(coco):
    # 48 x 40 becomes 960 x 800 by a factor of 20; so half of the longer sides become 200, 300, 300
    report = inspect_coco(coco)
    counts = report.levels()['train']
    assert counts == dict(P3=0, P4=0, P5=4, P6=8, P7=0, narrow=0)
    # Squeezed to 24 x 80, they are 10 x 36, 15 x 48 and 10 x 60.
    squeeze = View((24, 80), keep_ratio=False, strides=(11, 16, 32, 64, 128))
    assert inspect_coco(coco, view=squeeze).levels()['val'] == dict(
        P3=9, P4=0, P5=0, P6=0, P7=0, narrow=6
    )


def test_ranges_are_those_of_mmdetections_head_unless_the_config_has_others():
    head = FCOSHead(num_classes=1, in_channels=32, feat_channels=32)
    assert [tuple(pair) for pair in head.regress_ranges[:-1]] == list(REGRESS_RANGES[:-1])
    assert head.regress_ranges[-1][0] == REGRESS_RANGES[-1][0]
    steps = [dict(type='RandomChoiceResize', scales=[(640, 400), (1333, 640)], keep_ratio=True)]
    view = View.of_config(steps, dict(regress_ranges=((-1, 32), (32, 1e8)), strides=[4, 8]))
    assert view.scale == (1333, 640)
    assert view.names() == ['P2', 'P3']
    assert view.count(np.array([[64, 3], [3, 64.2]])) == dict(P2=1, P3=1, narrow=2)
    assert View.of_config([], {}).scale == (1333, 800)


@pytest.mark.real
def test_real_coco_has_five_images_without_annotation_and_no_fault(real_data):
    report = inspect_path(real_data / 'coco_subset')
    assert codes(report) == {('train', 'no-annotation'): 3, ('val', 'no-annotation'): 2}
    assert not report.failed
    numbers = {n['split']: n for n in (part.numbers() for part in report.parts)}
    assert (numbers['train']['boxes'], numbers['train']['ignored']) == (2974, 29)
    assert (numbers['val']['boxes'], numbers['val']['ignored']) == (1786, 21)


# ---------------------------------------------------------------------------------------------
# YOLO


@pytest.fixture
def yolo(tmp_path):
    return Yolo(tmp_path / 'set')


def test_an_empty_label_file_is_an_image_without_objects_and_no_fault(yolo):
    yolo.rows('train', 2, [])
    report = inspect_path(yolo.root)
    assert codes(report) == {('train', 'no-annotation'): 1}
    assert [f.level for f in report.findings.sorted()] == ['note']
    assert report.parts[0].numbers()['without'] == 1


def test_a_missing_label_file_is_named_where_it_would_be(yolo):
    yolo.label('train', 1).unlink()
    (finding,) = inspect_path(yolo.root).findings.sorted()
    assert finding.examples == ['images/train/1.jpg: no labels/train/1.txt']


def test_without_names_the_classes_are_numbers_and_the_rest_is_checked(yolo):
    yolo.describe('train: images/train\nval: images/wal\nnc: 2\n')
    yolo.rows('train', 1, [*ROWS, '0 24 20 10 10', '1000000000000000 0.5 0.5 0.1 0.1'])
    report = inspect_path(yolo.root / 'data.yaml')
    assert codes(report) == {
        ('set/', 'bad-layout'): 2,
        ('train', 'pixel-row'): 1,
        ('train', 'unknown-class-number'): 1,
    }
    assert report.parts[0].split.classes == ('0', '1')


def test_folders_without_anything_that_names_the_classes_are_checked_too(yolo):
    (yolo.root / 'data.yaml').unlink()
    yolo.add('0 24 20 10 10')
    report = inspect_path(yolo.root)
    assert codes(report) == {('set/', 'bad-layout'): 1, ('train', 'pixel-row'): 1}
    assert 'write classes.txt' in report.findings.sorted()[0].examples[0]
    (yolo.root / 'classes.txt').write_text('cat\ndog\n')
    assert codes(inspect_path(yolo.root)) == {('train', 'pixel-row'): 1}


@pytest.mark.parametrize('decode', [True, False])
def test_faults_in_every_row_leave_numbers_and_no_warning_of_arrays(yolo, decode, recwarn):
    as_pixels(yolo)
    report = inspect_path(yolo.root, decode=decode)
    assert [part.numbers()['boxes'] for part in report.parts] == [0, 0]
    assert report.levels()['train']['P3'] == 0
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_a_validation_split_of_one_image_is_warned_of(yolo):
    for file in (yolo.root / 'images/val').iterdir():
        if file.stem != '0':
            file.unlink()
    (found,) = (f for f in inspect_path(yolo.root).findings if f.code == 'one-image')
    assert (found.level, found.split) == ('warning', 'val')
    assert 'splits of one image: 0.' in found.message
