"""What is said of a detector's results: planted faults, odd data by hand, refused files, pages."""

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tresnet_det.errors import InputError
from tresnet_det.evaluation.advice import advise
from tresnet_det.evaluation.detections import read_results, read_truth
from tresnet_det.evaluation.explain import Detections, Settings, explain

CLASSES = ('ant', 'bee', 'cow')


def write(folder, annotations, rows, images=4, side=200, classes=CLASSES):
    """COCO files; annotations are image, class, box and perhaps more; rows end with a score."""
    content = dict(
        images=[dict(id=n, file_name=f'{n}.png', width=side, height=side)
                for n in range(1, images + 1)],
        categories=[dict(id=n, name=name) for n, name in enumerate(classes, 1)],
        annotations=[
            dict(id=n, image_id=i, category_id=c, bbox=box, area=box[2] * box[3], iscrowd=0)
            | (more[0] if more else {})
            for n, (i, c, box, *more) in enumerate(annotations, 1)
        ],
    )  # fmt: skip
    found = [dict(image_id=i, category_id=c, bbox=box, score=s) for i, c, box, s in rows]
    (folder / 'truth.json').write_text(json.dumps(content))
    (folder / 'results.json').write_text(json.dumps(found))
    return folder / 'truth.json', folder / 'results.json'


def measure(files, settings=None):
    images, truth = read_truth(files[0])
    return Detections(images, truth, read_results(files[1], images), settings)


BOX, APART = [10, 10, 40, 40], [120, 120, 40, 40]
CASES = {
    # What is found in a crowd is neither right nor wrong, however often.
    'crowd': ([(1, 1, BOX, {'iscrowd': 1}), (1, 1, APART)],
              [(1, 1, BOX, 0.9), (1, 1, [12, 12, 30, 30], 0.8), (1, 1, APART, 0.7)], (1, 0, 0)),
    # The object is preferred to the crowd around it, and the second one on it is the crowd's.
    'crowd around': ([(1, 1, [0, 0, 200, 200], {'iscrowd': 1}), (1, 1, BOX)],
                     [(1, 1, BOX, 0.9), (1, 1, BOX, 0.8)], (1, 0, 0)),
    'empty image': ([(1, 1, BOX)], [(1, 1, BOX, 0.9), (2, 1, BOX, 0.8)], (1, 0, 0)),
    'nothing found': ([(1, 1, BOX), (2, 2, BOX)], [], (0, 0, 2)),
    'no object': ([], [(1, 1, BOX, 0.9)], (0, 0, 0)),
    'predicted alone': ([(1, 1, BOX)], [(1, 1, BOX, 0.8), (1, 3, BOX, 0.9)], (1, 1, 0)),
    'labelled alone': ([(1, 1, BOX), (2, 3, BOX)], [(1, 1, BOX, 0.9)], (1, 0, 1)),
}  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_odd_data_by_hand(name, tmp_path):
    annotations, rows, counts = CASES[name]
    result = measure(write(tmp_path, annotations, rows))
    at = result.at_cut
    assert (at.right[0], at.wrong[0], at.missed[0]) == counts
    right, wrong, missed = counts
    matrix = result.matrix
    assert (np.trace(matrix[:-1, :-1]), matrix[:-1].sum()) == (right, right + missed)
    assert matrix[:, :-1].sum() == right + wrong
    assert result.count_by_image().sum(0).tolist() == list(counts)
    headline = explain(result, tmp_path, name)
    assert headline.startswith('bbox mAP')
    assert '1.1' not in (tmp_path / 'report.md').read_text()  # no threshold that cannot be
    assert (tmp_path / 'report.html').is_file()


def test_mistakes_of_each_kind_are_counted_and_the_worst_images_found(tmp_path):
    """50 of each kind, one an image; what is planted last is in 20 images, three at a time."""
    annotations, rows = [], []
    kinds = ('classification', 'localization', 'both', 'duplicate', 'background', 'missed')
    for kind in kinds:
        for n in range(50):
            image = len({i for i, *_ in annotations}) + 1
            annotations.append((image, 1, BOX))
            good, loose = (image, 1, BOX, 0.5), [30, 10, 40, 40]  # IoU 1/3
            rows += {
                'classification': [(image, 2, BOX, 0.9)],
                'localization': [(image, 1, loose, 0.9)],
                'both': [(image, 2, loose, 0.9), good],
                'duplicate': [good, (image, 1, BOX, 0.4)],
                'background': [good, (image, 1, APART, 0.9 - 0.001 * n)],
                'missed': [],
            }[kind]
    planted = []
    for image in range(301, 321):
        annotations += [(image, 3, BOX), (image, 3, APART)]
        rows += [(image, 3, [10 + 8 * k, 150, 8, 8], 0.6) for k in range(3)]
        planted.append(f'{image}.png')
    result = measure(write(tmp_path, annotations, rows, images=320))
    objects = result.truth, result.matches
    counts = result.errors.counts(*objects, result.found.score > 0)
    counts['background'] -= 60
    counts['missed'] -= 40
    assert counts == dict.fromkeys(kinds, 50)
    # Without those of 0.5, what they found is missed in three kinds; what errs at 0.9 is not.
    counts = result.errors.counts(*objects, result.found.score > 0.8)
    assert counts['missed'] == 50 + 40 + 3 * 50
    assert {row['image'] for row in result.worst_images()[:20]} == set(planted)


@pytest.mark.parametrize(('rows', 'costs', 'step'), [
    ([], (1, 0), 'Nothing was found'),
    ([(1, 2, APART, 0.9)], (1, 0), 'Nothing that was found is right'),
    # Of bee nothing is left: AP 1/2, that of ant and so the mean, in place of 1/4.
    ([(1, 1, APART, 0.9), (1, 1, BOX, 0.8)], (1 / 4, 1 / 4), 'errors cost 0.250 AP50'),
])  # fmt: skip
def test_what_missed_objects_cost_where_all_of_a_class_are(rows, costs, step, tmp_path):
    result = measure(write(tmp_path, [(1, 1, BOX), (2, 2, BOX)], rows))
    cost = result.errors.cost
    assert (cost['missed'], cost['background']) == pytest.approx(costs)
    assert step in advise(result)[0]


def test_what_the_threshold_misses_is_what_the_curves_miss(tmp_path):
    files = write(tmp_path, [(1, 1, BOX), (2, 2, BOX)], [(1, 1, BOX, 0.9), (2, 1, BOX, 0.95)])
    steps = advise(measure(files))
    assert (
        'Then 1 of 2 objects have no right prediction' in steps[-1]
    )  # though it is found, as another class
    assert '--score-thr 0.900' in steps[-1]
    assert steps[-1].endswith('1 of them at any score.')  # which no threshold finds


@pytest.mark.parametrize(('never', 'recall'), [(0, '0.95'), (1, '0.8'), (2, None)])
def test_a_recall_is_advised_only_where_a_threshold_reaches_it(never, recall, tmp_path):
    objects = [(n, 1, BOX) for n in range(1, 7)]
    rows = [(n, 1, BOX, 0.9) for n in range(1, 5)] + [(1, 1, APART, 0.5)] * 9
    rows += [(n, 1, BOX, 0.1) for n in range(5, 7 - never)]
    step = advise(measure(write(tmp_path, objects, rows, images=6)))[-1]
    assert 'Then 2 of 6 objects have no right prediction' in step
    assert re.findall(r'--recall ([\d.]+)\)', step) == ([recall] if recall else [])


def test_one_image_has_no_interval(tmp_path):
    result = measure(write(tmp_path, [(1, 1, BOX)], [(1, 1, BOX, 0.9)], images=1))
    other = measure(write(tmp_path, [(1, 1, BOX)], [], images=1))
    headline, difference = explain(result, tmp_path, 'x', other=other).splitlines()
    assert headline == 'bbox mAP 1.000 (1 images: too few for an interval)'
    said = 'No difference can be read from these images: they are too few.'
    assert difference == f'difference +1.000. {said}'
    assert said in (tmp_path / 'report.md').read_text()


def test_the_table_says_what_was_measured(tmp_path, run):
    files = write(tmp_path, [(1, 1, [10, 10, 100, 100])], [(1, 1, [10, 10, 100, 100], 0.9)])
    out = run('evaluate', *files, '--iou-thrs', 0.6, '--max-dets', 5).out
    assert '0.50:0.95' not in out
    assert 'at all' not in out
    first, _, at_75 = (
        line.split() for line in out.splitlines() if '(AP)' in line and ' all ' in line
    )
    assert first[3:] == ['0.60', 'all', '5', '1.0000']
    assert at_75[-1] == '-'
    assert 'the mean over IoU 0.60, and 5 det' in (tmp_path / 'evaluation/report.md').read_text()


@pytest.mark.parametrize(('settings', 'threshold'), [
    (Settings(), 0.7), (Settings(precision=1.0), 0.9), (Settings(recall=1.0), 0.5)
])  # fmt: skip
def test_thresholds_by_hand(settings, threshold, tmp_path):
    # F1 is 2/4, 2/5, 4/6, 4/7 and 6/8 or, from 0.7 on, 4/5 with the last one not found.
    objects = [(n, 1, BOX) for n in (1, 2, 3)]
    rows = [(1, 1, BOX, 0.9), (2, 1, BOX, 0.7), (4, 1, BOX, 0.6), (3, 1, BOX, 0.5),
            (4, 1, APART, 0.55), (3, 1, APART, 0.5)]  # fmt: skip
    result = measure(write(tmp_path, objects, rows), settings)
    # 2 of 3 with nothing wrong: precision 1 allows 0.7, too, whose recall is higher.
    assert result.threshold == (0.7 if settings.precision else threshold)


WRONG = {
    'relative': ([(1, 1, [0.1, 0.1, 0.2, 0.2], 0.5)] * 3, 'are they relative'),
    'corners': ([(1, 1, [100, 110, 140, 150], 0.5)] * 3, 'width and height in place of right'),
    'resized': ([(1, 1, [500, 510, 90, 90], 0.5)] * 3, 'of resized images'),
    'image': ([(99, 1, BOX, 0.5)], 'results of another dataset'),
    'text': ([('1', 1, BOX, 0.5)], 'text in one file'),
    'category': ([(1, 0, BOX, 0.5)], 'labels from 0'),
    'percent': ([(1, 1, BOX, 87.0)], 'in percent'),
    'logit': ([(1, 1, BOX, -3.2)], 'a logit'),
    'list': ([(1, 1, BOX, [0.5])], r'score \[0.5\] is not from 0 to 1'),
    'nan': ([(1, 1, BOX, float('nan'))], 'not from 0 to 1'),
    'nan box': ([(1, 1, [1, 2, float('nan'), 3], 0.5)], 'not four finite numbers'),
    'negative': ([(1, 1, [5, 5, -4, 4], 0.5)], 'negative size'),
}


@pytest.mark.parametrize('name', WRONG)
def test_results_that_are_none_of_these_images_are_refused_with_the_likely_mistake(name, tmp_path):
    rows, line = WRONG[name]
    files = write(tmp_path, [(1, 1, BOX)], rows)
    with pytest.raises(InputError, match=line) as error:
        measure(files)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('text', 'line'), [
    ('{"images": [], "annotations": []}', 'it is an annotation file'), ('[[1, 2]]', 'row 0 must'),
    ('[{"image_id": 1, "bbox": [1, 2, 3, 4]}]', 'no category_id and no score'),
    ('[{"image_id": 1, "categ', 'truncated'), ('', 'no valid JSON'), ('3', 'no results file'),
])  # fmt: skip
def test_files_that_are_no_results_are_refused(text, line, tmp_path, run):
    truth, results = write(tmp_path, [(1, 1, BOX)], [])
    results.write_text(text)
    assert line in run('evaluate', truth, results).error


def test_a_pipe_in_place_of_results_is_refused(tmp_path, run):
    truth, results = write(tmp_path, [(1, 1, BOX)], [])
    results.unlink()
    os.mkfifo(results)
    assert 'a pipe, socket or device' in run('evaluate', truth, results).error


def read_csv(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def test_the_tool_needs_no_pytorch_and_leaves_a_report(tmp_path, project_root):
    objects = [(n, 1 + n % 2, BOX) for n in (1, 2, 3)]
    rows = [(1, 2, BOX, 0.9), (2, 2, BOX, 0.8), (4, 3, APART, 0.7)]
    files = write(tmp_path, objects, rows)
    for n in range(1, 5):
        Image.new('RGB', (200, 200), (90, 90, 90)).save(tmp_path / f'{n}.png')
    tool = project_root / 'tools/evaluate.py'
    command = [sys.executable, '-X', 'importtime', tool, *files, '--images', tmp_path, '--out',
               tmp_path / 'out', '--compare', files[1]]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    imported = {line.rsplit('|', 1)[-1].strip() for line in done.stderr.splitlines()}
    assert 'numpy' in imported
    assert not imported & {'torch', 'mmdet', 'mmcv'}
    page = (tmp_path / 'out/report.html').read_text()
    # No address but what is in the page: images as data, and nothing of another kind.
    assert set(re.findall(r'(?:src|href)="([a-z]+:)', page)) == {'data:'}
    assert not re.search(r'https?:|url\(|@import|<script|<link rel="style', page)
    assert page.count('<figure>') == 2 + 4  # images with a mistake, and charts
    text = (tmp_path / 'out/report.md').read_text()
    assert text.index('**bbox mAP') < text.index('What to do next') < text.index('What costs most')
    assert 'No difference can be read' in text
    metrics = json.loads((tmp_path / 'out/metrics.json').read_text())
    assert metrics['difference']['value'] == 0
    assert metrics['threshold'] == 0.9
    matrix = read_csv(tmp_path / 'out/confusion_matrix.csv')
    assert [row['background'] for row in matrix] == ['1', '1', '0', '0']
    (curve,) = [r for r in read_csv(tmp_path / 'out/curves.csv')
                if r['class'] == 'all' and r['score'] == '0.75']  # fmt: skip
    assert (curve['right'], curve['wrong'], curve['missed']) == ('1', '1', '2')
    for name in re.findall(r'\]\((\S+)\)', text):
        assert Image.open(tmp_path / 'out' / name).size[0] > 300


def test_classes_named_as_what_the_report_adds_keep_their_rows(tmp_path):
    names = ('background', 'all', '(all)')
    files = write(tmp_path, [(1, 1, BOX)], [(1, 1, BOX, 0.9), (1, 2, BOX, 0.8)], classes=names)
    explain(measure(files), tmp_path, 'x')
    matrix = read_csv(tmp_path / 'confusion_matrix.csv')
    assert [row['(background)'] for row in matrix] == ['0'] * 4
    assert [row[''] for row in matrix] == [*matrix[0]][1:] == [*names, '(background)']
    for name in ('curves', 'precision_recall'):
        rows = Counter(row['class'] for row in read_csv(tmp_path / f'{name}.csv'))
        assert rows == dict.fromkeys(('((all))', *names), 101)
    files = write(tmp_path, [(1, 1, BOX)], [], classes=('', 'ant'))
    explain(measure(files), tmp_path, 'x')
    assert [*read_csv(tmp_path / 'confusion_matrix.csv')[0]] == ['()', '', 'ant', 'background']


def test_images_that_cannot_be_drawn_are_named_and_the_report_is_whole(tmp_path, run):
    files = write(tmp_path, [(n, 1, BOX) for n in (1, 2, 3)], [])
    Image.new('RGB', (200, 200)).save(tmp_path / '1.png')
    (tmp_path / '2.png').write_bytes(b'no image')
    result = run('evaluate', *files, '--images', tmp_path, '--out', tmp_path / 'out')
    assert result.code == 0, result.err
    page = (tmp_path / 'out/report.html').read_text()
    assert page.count('Not drawn: ') == 2
    assert page.count('<figure>') == 1 + 4
    assert 'The twelve metrics of COCO' in page
