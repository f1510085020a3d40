"""What a user sees of ``check_data.py --predictions``: the table, its files, and refusals."""

import csv
import json

import pytest
from own_layouts import write_yolo
from PIL import Image

from tresnet_det.readers.prepare import choose_held_out

CLASSES = [dict(id=n + 1, name=name) for n, name in enumerate('0123456789')]


@pytest.fixture
def found(data, tmp_path):
    """A results file of what is labelled in the validation images, before the labels change."""
    file = data.folder / 'annotations/instances_val2017.json'
    content = json.loads(file.read_text())
    rows = [
        dict(image_id=a['image_id'], category_id=a['category_id'], bbox=a['bbox'], score=0.9)
        for a in content['annotations']
    ]
    path = tmp_path / 'found/results.bbox.json'
    path.parent.mkdir()
    path.write_text(json.dumps(rows))
    return path


def plant(content):
    """Remove the first box, change the class of the second and move the third."""
    gone, other, moved = content['annotations'][:3]
    content['annotations'].remove(gone)
    other['category_id'] = other['category_id'] % 10 + 1
    moved['bbox'][0] += moved['bbox'][2] / 2


def read_rows(folder):
    with (folder / 'suspects.csv').open(newline='') as file:
        return {row['kind']: row for row in csv.DictReader(file)}


def test_wrong_boxes_are_printed_written_and_drawn(run, data, found, tmp_path):
    before = json.loads((data.folder / 'annotations/instances_val2017.json').read_text())
    data.edit('val', plant)
    gone, other, moved = before['annotations'][:3]
    names = {image['id']: image['file_name'] for image in before['images']}
    result = run('check_data', data.folder, '--workers', 0, '--predictions', found,
                 '--out-dir', 'out')  # fmt: skip
    assert result.code == 0, result.err
    total = len(before['annotations']) - 1
    for kind in ('missing box 1', 'wrong class 1', 'badly placed 1'):
        assert kind in result.out
    assert f'% of {total} boxes of val, by found/results.bbox.json' in result.out
    assert 'for training' not in result.out
    rows = read_rows(tmp_path / 'out')
    assert len(rows) == 3
    row = rows['missing box']
    assert (row['where'], row['labelled']) == (names[gone['image_id']], '')
    assert row['predicted'] == str(gone['category_id'] - 1)
    assert [float(row[key]) for key in ('left', 'top', 'width', 'height')] == gone['bbox']
    row = rows['wrong class']
    assert row['where'] == f'{names[other["image_id"]]}, annotation id {other["id"]}'
    assert (row['labelled'], row['predicted']) == (
        str(other['category_id'] % 10), str(other['category_id'] - 1)
    )  # fmt: skip
    assert (float(row['score']), float(row['IoU'])) == (0.9, 1)
    assert rows['badly placed']['where'].endswith(f'annotation id {moved["id"]}')
    assert float(rows['badly placed']['IoU']) == pytest.approx(1 / 3)
    with Image.open(tmp_path / 'out/suspects.jpg') as image:
        assert image.width > 2 * 288


def test_numbers_of_another_layout_are_those_of_the_images_next_to_the_results(
    run, data, found, tmp_path
):
    content = json.loads((data.folder / 'annotations/instances_val2017.json').read_text())
    data.edit('val', plant)
    write_yolo(data.folder, tmp_path / 'own')
    arguments = 'check_data', 'own', '--workers', 0, '--predictions', found
    assert 'no images.json next to it' in run(*arguments).error
    images = [dict(i, file_name=f'some/val/{i["file_name"]}') for i in content['images']]
    names = dict(images=images, categories=CLASSES, annotations=[])
    (found.parent / 'images.json').write_text(json.dumps(names))
    result = run(*arguments, '--out-dir', 'out')
    assert result.code == 0, result.err
    rows = read_rows(tmp_path / 'out')
    assert {*rows} == {'missing box', 'wrong class', 'badly placed'}
    other = content['annotations'][1]['image_id']
    name = next(image['file_name'] for image in images if image['id'] == other)
    file = name.replace('some/', 'labels/').replace('.png', '.txt')
    assert rows['wrong class']['where'].startswith(f'{file}:')
    names['categories'] = [*CLASSES, dict(id=11, name='ten')]
    (found.parent / 'images.json').write_text(json.dumps(names))
    assert "is of classes that val has not: 'ten'" in run(*arguments).error


def test_predictions_of_training_images_are_told_and_held_out_ones_are_none(run, data, found):
    (data.folder / 'annotations/instances_train2017.json').unlink()
    file = data.folder / 'annotations/instances_val2017.json'
    training = file.rename(file.with_name('instances_train2017.json'))
    (data.folder / 'train2017').rename(data.folder / 'old')
    (data.folder / 'val2017').rename(data.folder / 'train2017')
    arguments = 'check_data', data.folder, '--no-decode', '--predictions', found
    assert 'warning  train: is for training' in run(*arguments).out
    content = json.loads(training.read_text())
    names = [image['file_name'] for image in content['images']]
    held_out = {content['images'][n]['id'] for n in choose_held_out(names)}
    rows = [row for row in json.loads(found.read_text()) if row['image_id'] in held_out]
    found.write_text(json.dumps(rows))
    assert 'for training' not in run(*arguments).out


def test_wrong_labels_of_images_are_found(run, class_folders, tmp_path):
    folders = class_folders / 'val'
    files = sorted(f'{p.parent.name}/{p.name}' for p in folders.glob('*/*.png'))
    rows = []
    for n, name in enumerate(files):
        own = 'red' if n == 0 else name.split('/')[0]
        rows.append(dict(file=name, predictions=[{'class': own, 'label': 0, 'score': 0.98}]))
    (tmp_path / 'results.json').write_text(json.dumps(rows))
    (tmp_path / 'boxes.json').write_text('[{"image_id": 1}]')
    result = run('check_data', class_folders, '--no-decode', '--predictions', 'results.json',
                 '--out-dir', 'out')  # fmt: skip
    assert result.code == 0, result.err
    (row,) = read_rows(tmp_path / 'out').values()
    assert (row['where'], row['labelled'], row['predicted']) == (files[0], 'blue', 'red')
    assert (tmp_path / 'out/suspects.jpg').is_file()
    result = run('check_data', class_folders, '--no-decode', '--predictions', 'boxes.json')
    assert 'has no labels of images, for which' in result.error


MISTAKES = {
    'no file': (None, 'no file at none.json'),
    'no JSON': ('{', 'results.bbox.json'),
    'no predictions': ('[]', 'has no predictions'),
    'labels': ('[{"file": "a.png", "predictions": []}]', 'has no boxes, for which'),
    'another dataset': (lambda rows: [dict(r, image_id=r['image_id'] + 999) for r in rows],
                        'image_id that the ground truth has not'),
    'an unknown class': (lambda rows: [dict(r, category_id=99) for r in rows],
                         'category_id that the ground truth has not'),
    'boxes of other images': (lambda rows: [dict(r, category_id=r['category_id'] % 10 + 1)
                                            for r in rows], 'of another dataset, or of a model'),
    'no row': ('[1]', 'row 0 must be a dict'),
    'a number': ('5', 'no results file'),
    'nothing': ('null', 'no results file'),
    'an annotation file': ('{"annotations": []}', 'it is an annotation file'),
}  # fmt: skip


@pytest.mark.parametrize('name', MISTAKES)
def test_wrong_predictions_are_refused_in_one_line(name, run, data, found):
    change, message = MISTAKES[name]
    path = found if change else 'none.json'
    if change:
        rows = json.loads(found.read_text())
        found.write_text(change if isinstance(change, str) else json.dumps(change(rows)))
    result = run('check_data', data.folder, '--no-decode', '--predictions', path)
    assert result.code == 2
    assert message in result.error
    assert result.err.count('\n') == 1


def test_ids_that_are_lists_are_refused(run, data, found):
    content = json.loads((data.folder / 'annotations/instances_val2017.json').read_text())
    content['images'][0]['id'] = [1]
    found.with_name('images.json').write_text(json.dumps(content))
    result = run('check_data', data.folder, '--no-decode', '--predictions', found)
    assert result.error.endswith('images.json: no COCO file with images and categories')
