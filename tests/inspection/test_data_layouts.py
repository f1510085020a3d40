"""Faults in Pascal VOC, CSV files, label lists and class folders, planted one at a time."""

import shutil
from xml.etree import ElementTree

import pytest
from planted_coco import Coco, codes, inspect_path, save_image
from planted_voc import write_voc

from tresnet_det.inspection.findings import Findings
from tresnet_det.inspection.report import inspect_data
from tresnet_det.inspection.sources import Source, find_config_sources, find_sources


def change_xml(root, name, path, text):
    file = root / f'Annotations/{name}.xml'
    tree = ElementTree.parse(file)
    tree.find(path).text = text
    tree.write(file)


VOC_PLANTS = {
    'clean': (lambda root: None, {}),
    'no XML file': (
        lambda root: (root / 'Annotations/b.xml').unlink(), {('train', 'missing-annotation'): 1}
    ),
    'cut XML file': (
        lambda root: (root / 'Annotations/b.xml').write_text('<annotation><obj'),
        {('train', 'broken-xml'): 1},
    ),
    'no image': (
        lambda root: (root / 'JPEGImages/c.jpg').unlink(), {('val', 'missing-image'): 1}
    ),
    'listed twice': (
        lambda root: (root / 'ImageSets/Main/train.txt').write_text('a\nb\na\n'),
        {('train', 'repeated-row'): 1},
    ),
    'in both lists': (
        lambda root: (root / 'ImageSets/Main/val.txt').write_text('c\na\n'), {('val', 'overlap'): 1}
    ),
    'another size': (
        lambda root: change_xml(root, 'a', 'size/width', '99'), {('train', 'size-differs'): 1}
    ),
    'coordinate in words': (
        lambda root: change_xml(root, 'a', 'object/bndbox/xmin', 'one'), {('train', 'bad-box'): 1}
    ),
    'click in place of a box': (
        lambda root: change_xml(root, 'a', 'object/bndbox/xmax', '1'),
        {('train', 'box-without-area'): 1},
    ),
    'class in no other image': (
        lambda root: change_xml(root, 'c', 'object/name', 'cow'),
        {('train', 'unused-category'): 1, ('val', 'unused-category'): 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', list(VOC_PLANTS))
def test_a_fault_in_pascal_voc_gives_exactly_its_finding(tmp_path, name):
    write_voc(tmp_path)
    change, expected = VOC_PLANTS[name]
    change(tmp_path)
    assert codes(inspect_path(tmp_path)) == expected


CSV = 'file,cat,dog\na.png,1,0\nb.png,0,1\nc.png,-1,1\n'
CSV_PLANTS = [
    (CSV, {}),
    ('file,label\na.png,cat;dog\nb.png,dog\nc.png,cat\n', {}),
    (CSV.replace('1,0', '1'), {'bad-row': 1, 'unused-file': 1, 'unused-category': 1}),
    (CSV.replace('-1,1', 'yes,1'), {'bad-label': 1}),
    (CSV + 'a.png,1,0\n', {'repeated-row': 1}),
    (CSV + 'd.png,1,0\n', {'missing-image': 1}),
    (CSV.replace('-1,1', '0,0'), {'no-annotation': 1}),
    (CSV.replace('dog', 'cat'), {'duplicate-category': 1, 'no-annotation': 2}),
    (CSV[CSV.index('\n') + 1 :], {'unreadable-annotations': 1}),
]


@pytest.mark.parametrize(('text', 'expected'), CSV_PLANTS)
def test_faults_in_a_csv_file_are_found(tmp_path, text, expected):
    (tmp_path / 'train.csv').write_text(text)
    for seed, name in enumerate('abc'):
        save_image(tmp_path / f'images/{name}.png', seed)
    report = inspect_path(tmp_path)
    found = codes(report)
    found.pop(('train', 'similar-classes'), None)
    assert found == {('train', code): count for code, count in expected.items()}


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
    found = {code: count for (_, code), count in codes(inspect_data([source])).items()}
    found.pop('unused-file', None)  # of the row that is none
    assert found == expected


@pytest.fixture
def folders(tmp_path):
    for seed, (split, name) in enumerate(
        (split, name) for split in ('train', 'val') for name in ('cat', 'dog')
    ):
        for i in range(2):
            save_image(tmp_path / split / name / f'{i}.png', [seed, i])
    return tmp_path


FOLDER_PLANTS = {
    'clean': (lambda root: None, {}),
    'empty': (
        lambda root: [shutil.rmtree(root / f'{s}/dog') or (root / f'{s}/dog').mkdir()
                      for s in ('train', 'val')],
        {('train', 'empty-class-folder'): 1, ('val', 'empty-class-folder'): 1},
    ),
    'one class': (
        lambda root: [shutil.rmtree(root / f'{s}/dog') for s in ('train', 'val')],
        {('train', 'single-class'): 1, ('val', 'single-class'): 1},
    ),
    'other classes': (
        lambda root: (root / 'val/dog').rename(root / 'val/cow'), {('val', 'classes-differ'): 1}
    ),
    'broken': (
        lambda root: (root / 'val/dog/0.png').write_text('x'), {('val', 'undecodable-image'): 1}
    ),
    'under two classes': (
        lambda root: shutil.copy(root / 'train/dog/0.png', root / 'train/cat/2.png'),
        {('train', 'contradicting-labels'): 1},
    ),
    'no image by its name': (
        lambda root: (root / 'train/dog/Thumbs.db').write_text('x'), {('train', 'unused-file'): 1}
    ),
    'in both splits': (
        lambda root: shutil.copy(root / 'train/dog/0.png', root / 'val/dog/0.png'),
        {('val', 'overlap'): 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', list(FOLDER_PLANTS))
def test_a_fault_in_class_folders_gives_exactly_its_finding(folders, name):
    change, expected = FOLDER_PLANTS[name]
    change(folders)
    assert codes(inspect_path(folders)) == expected


def test_a_class_of_the_config_without_a_folder_is_an_error(folders):
    cfg = dict(
        type='ImageFolderDataset',
        data_root=str(folders),
        data_prefix=dict(img='train'),
        metainfo=dict(classes=('cat', 'dog', 'cow')),
    )
    findings = Findings()
    report = inspect_data(find_config_sources(cfg, 'train', True, findings), findings)
    assert codes(report) == {('train', 'missing-class'): 1}


def test_folders_that_a_config_of_pascal_voc_names_are_read(tmp_path):
    write_voc(tmp_path)
    (tmp_path / 'Annotations').rename(tmp_path / 'boxes')
    (tmp_path / 'JPEGImages').rename(tmp_path / 'images')
    cfg = dict(
        type='XMLDataset',
        data_root=str(tmp_path),
        ann_file='ImageSets/Main/trainval.txt',
        img_subdir='images',
        ann_subdir='boxes',
        metainfo=dict(classes=('cat', 'dog')),
    )
    findings = Findings()
    report = inspect_data(find_config_sources(cfg, 'train', True, findings), findings)
    assert codes(report) == {}
    assert report.parts[0].class_counts().tolist() == [3, 3]


@pytest.mark.real
def test_real_voc_has_two_boxes_without_area_and_no_other_fault(real_data):
    report = inspect_path(real_data / 'bccd')
    assert {(f.code, e.split()[0]) for f in report.findings.sorted() for e in f.examples} == {
        ('box-without-area', 'BloodImage_00338.xml'),
        ('box-without-area', 'BloodImage_00343.xml'),
    }


@pytest.fixture
def coco(tmp_path):
    return Coco(tmp_path)


def name_sources(root):
    sources = find_sources(Findings(), root)
    return [(s.name, s.kind, s.training, s.ann_file.name) for s in sources]


def test_usual_layouts_of_coco_files_are_recognised(coco, tmp_path):
    coco.write()
    annotations = tmp_path / 'annotations'
    (annotations / 'captions_train.json').write_text('{}')
    expected = [('train', 'coco', True), ('val', 'coco', False)]
    assert [source[:3] for source in name_sources(tmp_path)] == expected
    for split in ('train', 'val'):  # beside the folders of the images, with others
        (annotations / f'instances_{split}.json').rename(tmp_path / f'{split}.json')
    (tmp_path / 'info.json').write_text('{"images": []}')
    shutil.rmtree(annotations)
    assert [source[:3] for source in name_sources(tmp_path)] == expected
    assert codes(inspect_path(tmp_path)) == {}
    (tmp_path / 'info.json').unlink()
    for split in ('train', 'val'):  # among the images, as Roboflow exports
        (tmp_path / f'{split}.json').rename(tmp_path / split / '_annotations.coco.json')
    assert [source[:3] for source in name_sources(tmp_path)] == expected
    assert codes(inspect_path(tmp_path)) == {}


def test_class_folders_are_recognised_with_and_without_splits(folders):
    (folders / 'info.json').write_text('{"images": [{"file_name": "train/cat/0.png"}]}')
    assert name_sources(folders) == [
        ('train', 'folders', True, 'train'), ('val', 'folders', False, 'val')
    ]  # fmt: skip
    assert name_sources(folders / 'train') == [('train', 'folders', True, 'train')]
