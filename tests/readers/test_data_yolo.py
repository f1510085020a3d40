"""What the check says of YOLO's label files and data.yaml, several faults at once among them."""

import shutil

import planted_yolo as planted
import pytest
from planted import codes, inspect_path
from planted_yolo import ROWS, YAML, Yolo


@pytest.fixture
def yolo(tmp_path):
    return Yolo(tmp_path / 'set')


def test_an_empty_label_file_is_an_image_without_objects_and_no_fault(yolo):
    yolo.rows('train', 2, [])
    report = inspect_path(yolo.root)
    assert codes(report) == {('train', 'no-annotation'): 1}
    assert [f.level for f in report.findings.sorted()] == ['note']
    assert report.parts[0].numbers()['without'] == 1


@pytest.mark.parametrize(
    ('row', 'said'),
    [
        ('0 0.5 0.5 0.2', '4 numbers, where a box has 5'),
        ('0 0.5 x 0.2 0.2', "'0 0.5 x 0.2 0.2' are not all numbers"),
        ('2 0.5 0.5 0.2 0.2', 'the class 2, and'),
        (
            '0 24 20 10 10',
            '24 is not in 0 to 1, a fraction of the width or height: these are pixels',
        ),
    ],
)
def test_a_bad_row_is_named_with_file_and_row(yolo, row, said):
    yolo.rows('train', 1, [*ROWS, '', row])
    (finding,) = inspect_path(yolo.root, decode=False).findings.sorted()
    assert finding.examples[0].startswith(f'labels/train/1.txt:5: {said}')
    assert ': 1 of 13, first labels/train/1.txt:5: ' in finding.message


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


def test_all_faults_at_once_hide_none_of_the_others(yolo):
    yolo.describe(YAML.replace('dog', 'dog, cow') + 'nc: 7\ntest: images/tset')
    yolo.rows('train', 0, [*ROWS, 'x', '7 0.5 0.5 0.1 0.1', '0 90 0.5 0.1 0.1', ROWS[0]])
    yolo.label('train', 1).unlink()
    yolo.rows('train', 9, ROWS)
    yolo.rows('train', 2, [])
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
    planted.as_pixels(yolo)
    report = inspect_path(yolo.root, decode=decode)
    assert [part.numbers()['boxes'] for part in report.parts] == [0, 0]
    assert report.levels()['train']['P3'] == 0
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
