"""Predictions as labelling tools read them: in each tool's own units, and by our own readers."""

import csv
import json
import subprocess
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from new_environment import install
from PIL import Image
from pycocotools.coco import COCO

from tresnet_det.inference.onnx_runner import LabellingFiles

CLASSES = ('cat', 'dog & <co>')
BOXES = [(0, np.float32(0.9), np.array([10, 5, 30, 25.0])), (1, 0.5, (0, 0, 40, 20))]


@pytest.fixture
def written(tmp_path):
    """All formats of two images of 40x80 pixels, and a third of the same name without objects."""
    folder, names = tmp_path / 'out', []
    for name, found in (('a.png', BOXES), ('b.png', BOXES[:1]), ('more/a.png', [])):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new('RGB', (80, 40)).save(path)
        names.append((str(path), found))
    files = LabellingFiles(folder, LabellingFiles.FORMATS, CLASSES, detects=True)
    for name, found in names:
        files.add(name, (40, 80), found)
    files.close()
    return folder


def test_coco_is_a_dataset_with_scores(written):
    loaded = COCO(str(written / 'coco.json'))
    assert [image['width'] for image in loaded.dataset['images']] == [80] * 3
    assert [
        (a['image_id'], a['category_id'], a['bbox'], a['area']) for a in loaded.anns.values()
    ] == [
        (1, 1, [10, 5, 20, 20], 400),
        (1, 2, [0, 0, 40, 20], 800),
        (2, 1, [10, 5, 20, 20], 400),
    ]
    assert loaded.anns[1]['score'] == pytest.approx(0.9)
    assert [c['name'] for c in loaded.dataset['categories']] == list(CLASSES)


def test_csv_has_a_row_for_each_box(written, tmp_path):
    header, *rows = csv.reader((written / 'predictions.csv').open())
    assert header == ['file', 'class', 'score', 'x1', 'y1', 'x2', 'y2']
    assert rows[1] == [
        str(tmp_path / 'a.png'),
        CLASSES[1],
        '0.500000',
        '0.0',
        '0.0',
        '40.0',
        '20.0',
    ]
    assert len(rows) == 3


def test_yolo_has_centre_and_size_in_shares_of_the_image(written):
    lines = (written / 'labels/a.txt').read_text().splitlines()
    assert lines == [
        '0 0.250000 0.375000 0.250000 0.500000',
        '1 0.250000 0.250000 0.500000 0.500000',
    ]
    assert (written / 'classes.txt').read_text() == 'cat\ndog & <co>\n'
    assert (written / 'labels/a_2.txt').read_text() == ''


def test_labelme_has_shapes_by_corners(written, tmp_path):
    content = json.loads((written / 'labelme/a.json').read_text())
    assert (content['imageHeight'], content['imageWidth'], content['imageData']) == (40, 80, None)
    assert content['shapes'][0]['points'] == [[10, 5], [30, 25]]
    assert set(content['shapes'][0]) == {
        'label', 'points', 'shape_type', 'group_id', 'description', 'flags'
    }  # fmt: skip
    assert (written / 'labelme' / content['imagePath']).resolve() == tmp_path / 'a.png'


def test_label_studio_has_percent_and_the_names_of_its_configuration(written, tmp_path):
    view = ElementTree.fromstring((written / 'label_studio.xml').read_text())
    image, labels = view
    assert (image.tag, labels.tag) == ('Image', 'RectangleLabels')
    assert [label.get('value') for label in labels] == list(CLASSES)
    task = json.loads((written / 'label_studio.json').read_text())[0]
    assert task['data'] == {
        image.get('value')[1:]: f'/data/local-files/?d={tmp_path}/a.png'.replace('=/', '=')
    }
    first, second = task['predictions'][0]['result']
    assert (first['from_name'], first['to_name']) == (labels.get('name'), image.get('name'))
    assert first['type'] == 'rectanglelabels'
    assert first['value'] == dict(
        rectanglelabels=['cat'], x=12.5, y=12.5, width=25.0, height=50.0, rotation=0
    )
    assert second['original_width'] == 80


JUDGE = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
view = LabelInterface(open(sys.argv[1]).read())
for task in json.load(open(sys.argv[2])):
    assert view.validate_task({'data': task['data']}, validate_regions_only=False), task
    for prediction in task['predictions']:
        print(view.validate_prediction(prediction, return_errors=True))
        for result in prediction['result']:
            result['value']['rectanglelabels'] = ['none of its classes']
        assert not prediction['result'] or not view.validate_prediction(prediction)
"""


@pytest.mark.slow
def test_label_studios_own_package_takes_its_files_and_no_others(written, tmp_path):
    try:
        python = install(tmp_path / 'venv', 'label-studio-sdk==2.1.2')
    except subprocess.CalledProcessError:
        pytest.skip('the package index has no label-studio-sdk 2.1.2')
    files = [written / 'label_studio.xml', written / 'label_studio.json']
    printed = subprocess.run([python, '-c', JUDGE, *files], check=True, capture_output=True)
    assert printed.stdout.decode().splitlines() == ['[]'] * 3  # no errors


def test_classes_of_images_are_choices_and_flags(tmp_path):
    files = LabellingFiles(tmp_path, ['csv', 'labelme', 'labelstudio'], CLASSES, detects=False)
    files.add('x.png', (40, 80), [(1, 0.75, None)])
    files.close()
    assert json.loads((tmp_path / 'labelme/x.json').read_text())['flags'] == {CLASSES[1]: True}
    task = json.loads((tmp_path / 'label_studio.json').read_text())[0]
    (result,) = task['predictions'][0]['result']
    assert (result['type'], result['value']) == ('choices', {'choices': [CLASSES[1]]})
    with pytest.raises(ValueError, match='--format yolo is for boxes'):
        LabellingFiles(tmp_path, ['yolo'], CLASSES, detects=False)


@pytest.mark.parametrize('name', ['a\nb', '', ' ', 'a\x1b', 'a\u2028b', '\ud800'])
def test_lists_of_classes_have_a_line_for_each_name(name, tmp_path):
    LabellingFiles(tmp_path, ['csv', 'coco', 'labelme'], ['cat', name], detects=True)
    for kind in ('yolo', 'labelstudio'):
        with pytest.raises(ValueError, match=f'--format {kind}: no line of its') as caught:
            LabellingFiles(tmp_path, [kind], ['cat', name], detects=True)
        assert str(caught.value).isprintable()


def test_a_frame_has_its_number_in_the_name_and_other_names_may_have_a_hash(tmp_path):
    files = LabellingFiles(tmp_path, ['yolo'], CLASSES, detects=True)
    for name in ('a#1.jpg', 'dir#x/img.jpg', 'b.MP4#7', '0#12', 'c#3'):
        files.add(name, (40, 80), [])
    written = {path.name for path in (tmp_path / 'labels').iterdir()}
    assert written == {'a#1.txt', 'img.txt', 'b_7.txt', '0_12.txt', 'c#3.txt'}


def test_predict_writes_what_it_draws(trained, run, tmp_path):
    done = trained('detection')
    options = '--score-thr', 0.0, '--format', 'yolo', 'coco', '--no-images', '--out-dir', tmp_path
    result = run('predict', done.as_run, done.checkpoint, done.data_root / 'val2017', *options)
    assert result.code == 0, result.printed
    boxes = json.loads((tmp_path / 'results.bbox.json').read_text())
    written = json.loads((tmp_path / 'coco.json').read_text())
    assert len(written['annotations']) == len(boxes) > 0
    assert len(list((tmp_path / 'labels').iterdir())) == len(written['images']) == 6
    done = trained('classification')
    options = '--format', 'yolo', '--out-dir', tmp_path
    image = next((tmp_path / 'labels').iterdir())
    assert (
        '--format yolo is for'
        in run('predict', done.as_run, done.checkpoint, image, *options).error
    )
