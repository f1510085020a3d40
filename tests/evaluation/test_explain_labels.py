"""What is said of a classifier's results, single-label and multi-label, worked out by hand."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from tresnet_det.errors import InputError
from tresnet_det.evaluation.explain_labels import _mean_precision, explain_labels
from tresnet_det.evaluation.labels import Labels, read_labels

NAMES = ('ant', 'bee', 'cow')


def read_csv(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def results_of(path, scores, files):
    rows = [{'file': f'some/{name}', 'predictions': [
        {'class': c, 'label': n, 'score': s} for n, (c, s) in enumerate(zip(NAMES, of, strict=True))
    ]} for name, of in zip(files, scores, strict=True)]  # fmt: skip
    path.write_text(json.dumps(rows))
    return path


def test_single_labels_by_hand(tmp_path):
    files = []
    for name, label in zip('abcd', ('ant', 'ant', 'bee', 'cow'), strict=True):
        (tmp_path / 'val' / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / 'val' / label / f'{name}.png').write_bytes(b'')
        files.append(f'{label}/{name}.png')
    scores = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.9, 0.1, 0.0]]
    result = read_labels(tmp_path / 'val', results_of(tmp_path / 'results.json', scores, files))
    assert not result.several
    assert explain_labels(result, tmp_path, 'x').startswith('top-1 0.500 (95 % interval ')
    matrix = [[int(v) for k, v in row.items() if k] for row in
              read_csv(tmp_path / 'confusion_matrix.csv')]  # fmt: skip
    assert matrix == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    worst = read_csv(tmp_path / 'worst_images.csv')
    assert [(row['image'], row['prediction']) for row in worst] == [
        ('cow/d.png', 'ant'), ('ant/b.png', 'bee')
    ]  # fmt: skip
    assert read_csv(tmp_path / 'classes.csv')[0] == {
        'class': 'ant', 'images': '2', 'recall': '0.5', 'precision': '0.5', 'F1': '0.5'
    }  # fmt: skip
    shares = read_csv(tmp_path / 'confusion_matrix_normalised.csv')
    assert [row['ant'] for row in shares] == ['0.5', '0.0', '1.0']
    explain_labels(result, tmp_path, 'x', tmp_path / 'val')  # whose images are empty files
    assert (tmp_path / 'report.md').read_text().count('Not drawn: ') == 2


def test_a_class_without_images_and_scores_that_were_not_written(tmp_path):
    scores = np.array([[0.6, 0.0, 0.4], [0.0, 0.9, 0.1]])
    truth = np.eye(3, dtype=np.int8)[[0, 0]]
    explain_labels(Labels(('a', 'b'), NAMES, truth, scores, False, 1), tmp_path, 'x')
    text = (tmp_path / 'report.md').read_text()
    assert "The weakest class is 'ant'" in text
    assert 'test.py writes the 10 highest' in text
    assert [row['F1'] for row in read_csv(tmp_path / 'classes.csv')][1:] == ['', '']
    (row,) = read_csv(tmp_path / 'worst_images.csv')
    assert (row['score'], row['score of the ground truth']) == ('0.9', '')


def test_several_labels_by_hand(tmp_path):
    (tmp_path / 'truth.csv').write_text('file,ant,bee,cow\na,1,0,0\nb,0,1,0\nc,1,1,-1\nd,0,0,0\n')
    scores = [[0.9, 0.1, 0.4], [0.2, 0.35, 0.3], [0.4, 0.3, 0.9], [0.1, 0.3, 0.6]]
    results = results_of(tmp_path / 'results.json', scores, 'abcd')
    result = read_labels(tmp_path / 'truth.csv', results)
    assert result.several
    explain_labels(result, tmp_path, 'x')
    written = json.loads((tmp_path / 'metrics.json').read_text())
    # Ant: both first. Bee: b first, then c and d with equal scores, so 1/2 + 1/2 * 2/3. No cow.
    assert written['metrics']['multilabel/mAP'] == pytest.approx((1 + 5 / 6) / 2, abs=1e-12)
    # Halfway between 0.4 and 0.2; of bee, below the two equal ones, where F1 is 4/5.
    assert written['thresholds'] == {
        'ant': pytest.approx(0.3), 'bee': pytest.approx(0.2), 'cow': None
    }  # fmt: skip
    assert written['threshold'] == pytest.approx(0.325)  # F1 2/3 above it, as above 0.25
    (half,) = [r for r in read_csv(tmp_path / 'curves.csv')
               if (r['class'], r['score']) == ('all', '0.5')]  # fmt: skip
    assert (half['right'], half['wrong'], half['missed']) == ('1', '1', '3')  # unknown counts not


@pytest.mark.parametrize('unknown', [False, True])
def test_map_of_drawn_images_is_scikit_learns(unknown):
    rng = np.random.default_rng(0)
    truth = rng.integers(-1 if unknown else 0, 2, (40, 3)).astype(np.int8)
    scores = rng.integers(0, 12, (40, 3)) / 12  # with ties
    labels = Labels(tuple('x' * 40), NAMES, truth, scores, True)
    drawn = rng.integers(40, size=40)
    expected = []
    for n in range(3):
        known = truth[drawn, n] >= 0
        of = truth[drawn, n][known], scores[drawn, n][known]
        expected.append(average_precision_score(*of))
    measured = _mean_precision(labels)(np.bincount(drawn, minlength=40))
    assert measured == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize(('text', 'line'), [
    ('file,class,score\na,dog,0.5\n', "no class 'dog'"), ('a,b\n', 'no results'),
    ('file,class,score\na,ant,50\n', 'in percent'), ('file,class,score\na,ant\n', 'is no file,cl'),
    ('file,class,score\nz,ant,0.5\n', 'another dataset'),
    ('file,class,score\na,ant,nan\n', 'not from 0 to 1'),
    ('file,class,score\na,ant,0.5\n', 'has nothing of 1 images'),
    ('file,class,score\na,ant,0.5\n"b,bee,0.5\n', ':3: no CSV'),
    ('file,class,score\na,ant,0.5\na,ant,0.6\nb,,\n', "line 3: 'a' has 'ant' a second time"),
    ('[]', 'has nothing of 2 images'),
    ('[{"image_id": 1}]', 'entry 0 has no file with predictions'),
    ('file,class,score\na,ant,0.5\nb,,\n', "'b' has no class"),
    ('[{"predictions": [{"class": ["ant"], "score": 0.5}], "file": "a"}]', "no class ['ant']"),
])  # fmt: skip
def test_results_of_others_are_refused(text, line, tmp_path, run):
    (tmp_path / 'truth.csv').write_text('file,label\na,ant\nb,bee\n')
    results = tmp_path / ('results.json' if text.startswith('[') else 'results.csv')
    results.write_text(text)
    assert line in run('evaluate', 'truth.csv', results).error
    option = ('--max-dets', 5)
    assert '--max-dets is for a det' in run('evaluate', 'truth.csv', results, *option).error
    with pytest.raises(InputError, match='give a folder of classes'):
        read_labels(tmp_path / 'truth.xml', results)


def test_a_csv_may_have_blank_lines_any_line_ends_and_images_without_a_label(tmp_path):
    (tmp_path / 'truth.csv').write_text('file,ant,bee,cow\na,1,0,0\nb,0,0,0\n')
    (tmp_path / 'results.csv').write_bytes(b'file,class,score\ra,ant,0.5\r\rb,,\r')
    result = read_labels(tmp_path / 'truth.csv', tmp_path / 'results.csv')
    assert (result.scores.tolist(), result.unscored) == ([[0.5, 0, 0], [0, 0, 0]], 5)


def test_thresholds_of_half_of_the_images_raise_of1_of_the_other_half(tmp_path):
    """Scores as the multi-label demo's after its training, whose absent labels are at 0.45."""
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 10)) < 0.18).astype(np.int8)
    logits = np.where(truth, rng.normal(2.9, 2, truth.shape), rng.normal(-0.2, 0.67, truth.shape))
    scores, names = 1 / (1 + np.exp(-logits)), tuple('0123456789')
    files = tuple(f'{n}.png' for n in range(100))
    explain_labels(Labels(files, names, truth[::2], scores[::2], several=True), tmp_path, 'half')
    found = json.loads((tmp_path / 'metrics.json').read_text())['thresholds']
    chosen = [found[name] for name in names]
    own, half = (
        f1_score(truth[1::2], scores[1::2] > least, average='micro') for least in (chosen, 0.5)
    )
    assert own >= half + 0.10


def test_a_metric_of_nothing_is_none_without_a_warning_and_its_interval_within_0_and_1(tmp_path):
    scores, truth = np.full((2, 3), 0.5), np.zeros((2, 3), np.int8)
    nothing = Labels(('a', 'b'), NAMES, truth, scores, several=True)
    assert 'no ground truth' in explain_labels(nothing, tmp_path, 'x')
    assert json.loads((tmp_path / 'metrics.json').read_text())['metrics']['multilabel/mAP'] is None
    one_of = Labels(('a', 'b'), NAMES, np.eye(3, dtype=np.int8)[[0, 1]], scores, several=False)
    explain_labels(one_of, tmp_path, 'x')
    interval = json.loads((tmp_path / 'metrics.json').read_text())['interval']
    assert (interval['value'], interval['low'], interval['high']) == (0.5, 0, 1)
