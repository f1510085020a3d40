"""Results as text and JSON: COCO's twelve lines, tables, and files without NaN."""

import json

import numpy as np
import pytest
import torch

from tresnet_det.errors import InputError
from tresnet_det.evaluation import format_table, format_twelve, write_results_json
from tresnet_det.evaluation.report import TWELVE, format_threshold, read_seconds


def test_twelve_metrics_stand_in_cocos_order():
    metrics = {f'coco/bbox_{key}': (10 + n) / 100 for n, (key, *_) in enumerate(TWELVE)}
    head, *lines = format_twelve(metrics, prefix='coco/').splitlines()
    assert 'IoU' in head
    assert [float(line.split()[-1]) for line in lines] == [(10 + n) / 100 for n in range(12)]
    assert lines[0].split() == ['Average', 'Precision', '(AP)', '0.50:0.95', 'all', '100', '0.1000']
    assert len({len(line) for line in lines}) == 1


def test_minus_one_is_explained_and_an_absent_metric_is_a_dash():
    text = format_twelve({'bbox_mAP': 0.5, 'bbox_mAP_s': -1}).splitlines()
    assert text[1].endswith('0.5000')
    assert text[2].endswith(' -')
    assert text[4].endswith(' -1')
    assert text[-1] == (
        '-1 means not measured: there is no ground truth of small (under 32x32 pixels) size '
        '(bbox_mAP_s).'
    )


@pytest.mark.parametrize(('score', 'text'), [
    (0.6996, '0.699'), (0.29, '0.290'), (0.0004, '0.000'), (np.float32(0.5), '0.500')
])  # fmt: skip
def test_a_threshold_is_rounded_down(score, text):
    assert format_threshold(score) == text


def test_table_is_aligned_and_shows_none_as_a_dash():
    rows = [{'name': 'cat', 'AP': 0.25, 'num_gt': 12}, {'name': 'giraffe', 'AP': None, 'num_gt': 0}]
    assert format_table(rows).splitlines() == [
        'name         AP  num_gt',
        '-----------------------',
        'cat      0.2500      12',
        'giraffe       -       0',
    ]
    assert format_table([]) == ''


def test_a_name_of_a_million_letters_makes_no_wider_table():
    first, last = 'a' * 10**6, 'b' * 10**6
    lines = format_table([{'class': first + last, first: 1}]).splitlines()
    assert {*map(len, lines)} == {80 + 2 + 80}
    assert lines[2].split()[0] == f'{"a" * 39}...{"b" * 38}'


def test_results_are_unrounded_and_without_nan(tmp_path):
    path = tmp_path / 'new' / 'results.json'
    write_results_json(path, {'mAP': 0.5})
    assert json.loads(path.read_text())['metrics'] == {'mAP': 0.5}
    value = 0.1 + 0.2  # 0.30000000000000004
    metrics = {'mAP': value, 'bad': float('nan'), 'np': np.float32(0.5), 't': torch.tensor(2)}
    rows = [{'name': 'cat', 'AP': None}]
    write_results_json(path, metrics, rows, {'checkpoint': tmp_path, 'sizes': (1, 2)})
    assert json.loads(path.read_text()) == {
        'metrics': {'mAP': value, 'bad': None, 'np': 0.5, 't': 2},
        'per_class': rows,
        'checkpoint': str(tmp_path),
        'sizes': [1, 2],
    }
    assert list(path.parent.iterdir()) == [path]


def test_key_that_the_results_use_is_refused(tmp_path):
    with pytest.raises(InputError, match="the key 'metrics'"):
        write_results_json(tmp_path / 'results.json', {}, extra={'metrics': 1})


SUMMARIES = dict(
    empty='',
    deep='[' * 10**5,
    list='[]',
    nan='{"seconds": NaN}',
    text='{"seconds": "x"}',
    huge=f'{{"seconds": {10**400}}}',
)


@pytest.mark.parametrize('text', SUMMARIES.values(), ids=SUMMARIES)
def test_a_summary_of_another_program_has_no_seconds(tmp_path, text):
    (tmp_path / 'summary.json').write_text(text)
    assert read_seconds(tmp_path) is None
