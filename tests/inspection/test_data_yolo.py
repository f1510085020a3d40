"""Faults in YOLO's label files and data.yaml, planted one at a time."""

import shutil

import numpy as np
import pytest
from PIL import Image
from planted_coco import BOXES, HEIGHT, WIDTH, codes, inspect_path, save_image

from tresnet_det.datasets.formats.layouts import find_layout
from tresnet_det.datasets.formats.own_splits import prepare_splits
from tresnet_det.datasets.formats.yolo import read_data_yaml, read_yolo
from tresnet_det.errors import InputError
from tresnet_det.inspection.findings import KINDS

YAML = 'train: images/train\nval: images/val\nnames: [cat, dog]\n'
ROWS = [
    f'{i % 2} {(x + w / 2) / WIDTH:.6f} {(y + h / 2) / HEIGHT:.6f} {w / WIDTH:.6f} {h / HEIGHT:.6f}'
    for i, (x, y, w, h) in enumerate(BOXES)
]


class Yolo:
    """Four images to learn from, three to measure on; two classes; three boxes per image."""

    def __init__(self, root):
        self.root = root
        for split, count in (('train', 4), ('val', 3)):
            for i in range(count):
                save_image(self.image(split, i), [len(split), i])
                self.write(split, i, ROWS)
        self.describe(YAML)

    def image(self, split, i):
        return self.root / f'images/{split}/{i}.jpg'

    def label(self, split, i):
        return self.root / f'labels/{split}/{i}.txt'

    def write(self, split, i, rows):
        self.label(split, i).parent.mkdir(parents=True, exist_ok=True)
        self.label(split, i).write_text('\n'.join(rows))

    def add(self, row):
        self.write('train', 1, [*ROWS, row])

    def describe(self, text):
        (self.root / 'data.yaml').write_text(text)


@pytest.fixture
def yolo(tmp_path):
    return Yolo(tmp_path / 'set')


def as_corners(yolo):
    """[x1, y1, x2, y2] in fractions, which are read as centre, width and height."""
    rows = [
        f'{i % 2} {x / WIDTH} {y / HEIGHT} {(x + w) / WIDTH} {(y + h) / HEIGHT}'
        for i, (x, y, w, h) in enumerate(BOXES)
    ]
    for i in range(4):
        yolo.write('train', i, rows)


def as_pixels(yolo):
    for split, count in (('train', 4), ('val', 3)):
        for i in range(count):
            rows = [f'0 {x + w / 2} {y + h / 2} {w} {h}' for x, y, w, h in BOXES]
            yolo.write(split, i, rows)


def turn(yolo):
    exif = Image.Exif()
    exif[0x0112] = 6
    save_image(yolo.image('train', 0), 77, exif=exif)


def list_one_that_is_not_there(yolo):
    files = [f'images/val/{i}.jpg' for i in range(3)]
    (yolo.root / 'val.txt').write_text('\n'.join([*files, 'images/val/gone.jpg']))
    shutil.copy(yolo.label('val', 0), yolo.root / 'labels/val/gone.txt')
    yolo.describe(YAML.replace('images/val', 'val.txt'))


PLANTS = {  # each with what the check says of it
    # Files.
    'no label file': (lambda y: y.label('train', 1).unlink(), {('train', 'missing-label-file'): 1}),
    'no label file in a whole split': (
        lambda y: shutil.rmtree(y.root / 'labels/val'),
        {('val', 'missing-label-file'): 3, ('val', 'nothing-to-learn'): 1},
    ),
    'label file of no image': (
        lambda y: y.write('train', 9, ROWS), {('train', 'label-without-image'): 1}
    ),
    'two images, one label file': (
        lambda y: save_image(y.root / 'images/train/1.png', 55),
        {('train', 'shared-label-file'): 1},
    ),
    'listed, not there': (list_one_that_is_not_there, {('val', 'missing-image'): 1}),
    'list that is no text': (
        lambda y: ((y.root / 'val.txt').write_bytes(b'\xff\xfe'), y.describe(
            YAML.replace('images/val', 'val.txt'))),
        {('val', 'unreadable-annotations'): 1},
    ),
    'folder without images': (
        lambda y: [y.image('val', i).unlink() for i in range(3)], {('val', 'nothing-to-learn'): 1}
    ),
    # Rows.
    'four numbers': (lambda y: y.add('0 0.5 0.5 0.2'), {('train', 'bad-label-row'): 1}),
    'a confidence': (lambda y: y.add('0 0.5 0.5 0.2 0.2 0.9'), {('train', 'bad-label-row'): 1}),
    'a name': (lambda y: y.add('cat 0.5 0.5 0.2 0.2'), {('train', 'bad-label-row'): 1}),
    'NaN': (lambda y: y.add('0 nan 0.5 0.2 0.2'), {('train', 'bad-label-row'): 1}),
    'no text': (
        lambda y: y.label('train', 1).write_bytes(b'0 0.5 \xff'), {('train', 'bad-label-row'): 1}
    ),
    'class too large': (
        lambda y: y.add('2 0.5 0.5 0.2 0.2'), {('train', 'unknown-class-number'): 1}
    ),
    'class below 0': (
        lambda y: y.add('-1 0.5 0.5 0.2 0.2'), {('train', 'unknown-class-number'): 1}
    ),
    'class and a half': (
        lambda y: y.add('0.5 0.5 0.5 0.2 0.2'), {('train', 'unknown-class-number'): 1}
    ),
    'pixels': (lambda y: y.add('0 24 20 10 10'), {('train', 'pixel-row'): 1}),
    'pixels everywhere': (as_pixels, {('train', 'pixel-row'): 12, ('val', 'pixel-row'): 9}),
    'above 1': (lambda y: y.add('0 1.2 0.5 0.2 0.2'), {('train', 'bad-fraction'): 1}),
    'below 0': (lambda y: y.add('0 0.5 0.5 -0.2 0.2'), {('train', 'bad-fraction'): 1}),
    'no width': (lambda y: y.add('0 0.5 0.5 0 0.2'), {('train', 'box-without-area'): 1}),
    'no height': (lambda y: y.add('0 0.5 0.5 0.2 0'), {('train', 'box-without-area'): 1}),
    'row twice': (lambda y: y.add(ROWS[0]), {('train', 'duplicate-box'): 1}),
    'over the border': (
        lambda y: y.add('0 0.95 0.5 0.3 0.2'), {('train', 'box-partly-outside'): 1}
    ),
    'corners': (as_corners, {('train', 'corner-boxes'): 1}),
    # Images.
    'cut image': (
        lambda y: y.image('train', 1).write_bytes(y.image('train', 1).read_bytes()[:-40]),
        {('train', 'undecodable-image'): 1},
    ),
    'web page': (
        lambda y: y.image('val', 1).write_text('<html>'), {('val', 'undecodable-image'): 1}
    ),
    'turned by EXIF': (turn, {('train', 'exif-turned'): 1}),
    'black image': (
        lambda y: Image.new('RGB', (WIDTH, HEIGHT)).save(y.image('train', 0)),
        {('train', 'blank-image'): 1},
    ),
    'in both splits': (
        lambda y: shutil.copy(y.image('train', 2), y.image('val', 1)), {('val', 'overlap'): 1}
    ),
    'one folder for both': (
        lambda y: y.describe(YAML.replace('images/val', 'images/train')), {('val', 'overlap'): 4}
    ),
    # Names and paths.
    'class without example': (
        lambda y: y.describe(YAML.replace('dog', 'dog, cow')),
        {('train', 'unused-category'): 1, ('val', 'unused-category'): 1},
    ),
    'no names': (
        lambda y: y.describe(YAML.replace('names: [cat, dog]', 'nc: 2')),
        {('set/', 'bad-layout'): 1},
    ),
    'numbered names with a gap': (
        lambda y: y.describe(YAML.replace('[cat, dog]', '{0: cat, 2: dog}')),
        {('set/', 'bad-layout'): 1},
    ),
    'another count': (lambda y: y.describe(YAML + 'nc: 3'), {('set/', 'bad-layout'): 1}),
    'a name twice': (
        lambda y: y.describe(YAML.replace('dog', 'cat')), {('set/', 'bad-layout'): 1}
    ),
    'path that is not there': (
        lambda y: y.describe(YAML.replace('images/val', 'images/wal')), {('set/', 'bad-layout'): 1}
    ),
    'test images without labels': (
        lambda y: (save_image(y.root / 'images/test/a.jpg', 9), y.describe(
            YAML + 'test: images/test')),
        {('set/', 'left-out'): 1},
    ),
}  # fmt: skip
# What no reader of annotations sees, and what is read as it stands.
NOT_BY_READING = ('undecodable-image', 'overlap', 'corner-boxes')


@pytest.mark.parametrize('name', list(PLANTS))
def test_a_planted_fault_gives_exactly_its_finding_and_training_refuses_errors(yolo, name):
    plant, expected = PLANTS[name]
    plant(yolo)
    report = inspect_path(yolo.root)
    assert codes(report) == expected
    levels = {KINDS[code].level for _, code in expected}
    assert report.failed == ('error' in levels)
    assert all(finding.examples for finding in report.findings.sorted())
    # An error is what stops a training: it, too, must say so, and of nothing else.
    if any(code in NOT_BY_READING for _, code in expected):
        return
    out = yolo.root.parent / 'out'
    if report.failed:
        with pytest.raises(InputError):
            prepare_splits(find_layout(yolo.root, 'detection'), 'detection', out)
    else:
        prepare_splits(find_layout(yolo.root, 'detection'), 'detection', out)


def test_a_clean_set_gives_no_finding_and_the_boxes_that_training_reads(yolo):
    polygon = '1 0.25 0.5 0.5 0.1 0.75 0.5'  # of 48 x 40: from 12, 4 to 36, 20
    yolo.write('train', 0, [*ROWS, polygon, ''])
    odd = [f'0 0.{n}17 0.{n}31 0.1{n}7 0.2{n}3' for n in (31, 41, 53, 61)]  # of no whole pixels
    yolo.write('train', 3, [*ROWS, *odd])
    report = inspect_path(yolo.root)
    assert codes(report) == {}
    split = report.parts[0].split
    assert split.classes == ('cat', 'dog')
    first = split.boxes.xywh[split.rows == 0]
    np.testing.assert_allclose(first, [*BOXES, [12, 4, 24, 16]], atol=1e-4)
    assert split.labels[split.rows == 0].tolist() == [0, 1, 0, 1]
    content, folder = read_yolo(read_data_yaml(yolo.root / 'data.yaml'), ['train'])[0]['train']
    assert folder == split.folder
    assert [i['file_name'] for i in content['images']] == split.files
    assert [a['bbox'] for a in content['annotations']] == split.boxes.xywh.tolist()
    assert report.parts[0].class_counts().tolist() == [12, 5]


def test_an_empty_label_file_is_an_image_without_objects_and_no_fault(yolo):
    yolo.write('train', 2, [])
    report = inspect_path(yolo.root)
    assert codes(report) == {('train', 'no-annotation'): 1}
    assert [f.level for f in report.findings.sorted()] == ['note']
    assert report.parts[0].numbers()['without'] == 1


def test_a_bad_row_is_named_with_file_and_row_and_pixels_are_called_so(yolo):
    yolo.add('0 24 20 10 10')
    (finding,) = inspect_path(yolo.root).findings.sorted()
    assert finding.examples == [
        'labels/train/1.txt:4: 24 is not in 0 to 1, a fraction of the width or height: these are '
        'pixels'
    ]
    assert 'divide x and width' in finding.as_dict()['mend']


def test_a_missing_label_file_is_named_where_it_would_be(yolo):
    yolo.label('train', 1).unlink()
    (finding,) = inspect_path(yolo.root).findings.sorted()
    assert finding.examples == ['images/train/1.jpg: there is no labels/train/1.txt']


def test_without_names_the_classes_are_numbers_and_the_rest_is_checked(yolo):
    yolo.describe('train: images/train\nval: images/wal\nnc: 2\n')
    yolo.write('train', 1, [*ROWS, '0 24 20 10 10', '1000000000000000 0.5 0.5 0.1 0.1'])
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


def test_all_faults_at_once_hide_none_of_the_others(yolo):
    yolo.describe(YAML.replace('dog', 'dog, cow') + 'nc: 7\ntest: images/tset')
    yolo.write('train', 0, [*ROWS, 'x', '7 0.5 0.5 0.1 0.1', '0 90 0.5 0.1 0.1', ROWS[0]])
    yolo.label('train', 1).unlink()
    yolo.write('train', 9, ROWS)
    yolo.write('train', 2, [])
    shutil.copy(yolo.image('train', 2), yolo.image('val', 1))
    yolo.image('val', 0).write_text('no image')
    assert codes(inspect_path(yolo.root)) == {
        ('set/', 'bad-layout'): 1,
        ('set/', 'left-out'): 1,
        ('train', 'bad-label-row'): 1,
        ('train', 'unknown-class-number'): 1,
        ('train', 'pixel-row'): 1,
        ('train', 'duplicate-box'): 1,
        ('train', 'missing-label-file'): 1,
        ('train', 'label-without-image'): 1,
        ('train', 'no-annotation'): 1,
        ('train', 'unused-category'): 1,
        ('val', 'unused-category'): 1,
        ('val', 'overlap'): 1,
        ('val', 'undecodable-image'): 1,
    }


@pytest.mark.parametrize('decode', [True, False])
def test_faults_in_every_row_leave_numbers_and_no_warning_of_arrays(yolo, decode, recwarn):
    as_pixels(yolo)
    report = inspect_path(yolo.root, decode=decode)
    assert [part.numbers()['boxes'] for part in report.parts] == [0, 0]
    assert report.levels()['train']['P3'] == 0
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
