"""The curves of a training: which points are drawn, from any part of a log."""

import json

import pytest
from PIL import Image

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.evaluation.plots import draw_curves, read_records

TRAIN = [
    {'lr': 0.01, 'loss': 2 / n, 'loss_cls': 1 / n, 'epoch': n, 'iter': 10 * n, 'step': 10 * n}
    for n in range(1, 5)
]
VAL = [
    {'coco/bbox_mAP': 0.1 * n, 'coco/bbox_mAP_s': -1, 'data_time': 0.1, 'time': 0.2, 'step': n}
    for n in range(1, 5)
]


def drawn(axes):
    """The points of each line in a panel, without the line that marks the best figure."""
    lines = [line for line in axes.get_lines() if not line.get_label().startswith('_')]
    return {line.get_label(): [*zip(*line.get_data(), strict=True)] for line in lines}


@pytest.mark.parametrize('records', [TRAIN + VAL, TRAIN, VAL, VAL[:1]])
def test_any_part_of_a_log_is_drawn_and_what_is_absent_is_said(records, tmp_path, figures):
    draw_curves(records, tmp_path / 'curves.png', title='Three panels')
    assert Image.open(tmp_path / 'curves.png').size == (1500, 460)
    assert figures[0].get_suptitle() == 'Three panels'
    missing = [any(t.get_text() == 'not in this log' for t in a.texts) for a in figures[0].axes]
    trained, validated = TRAIN[0] in records, VAL[0] in records
    assert missing == [not trained, not validated, not trained]


def test_series_are_drawn_without_times_minus_ones_and_nans(tmp_path, figures):
    broken = {'lr': 0.01, 'loss': float('nan'), 'iter': 50, 'step': 50}
    draw_curves([*TRAIN, broken, *VAL], tmp_path / 'curves.png')
    losses, validation, rate = figures[0].axes
    assert list(drawn(losses)) == ['loss', 'loss_cls']
    assert drawn(losses)['loss'] == [(10, 2.0), (20, 1.0), (30, 2 / 3), (40, 0.5)]
    assert drawn(validation) == {'coco/bbox_mAP': [(n, 0.1 * n) for n in range(1, 5)]}
    assert [y for _, y in drawn(rate)['lr']] == [0.01] * 5
    assert losses.get_yscale() == rate.get_yscale() == 'linear'


@pytest.mark.parametrize('unit', ['epoch', 'iteration'])
def test_best_validation_is_named_with_its_step(unit, tmp_path, figures):
    records = [*VAL, {'coco/bbox_mAP': 0.25, 'step': 5}]
    draw_curves(records, tmp_path / 'curves.png', val_unit=unit)
    axes = figures[0].axes[1]
    assert axes.get_title('left') == f'Validation: best coco/bbox_mAP 0.400 at {unit} 4'
    assert axes.get_xlabel() == unit


def test_losses_over_more_than_a_factor_of_ten_get_a_logarithmic_axis(tmp_path, figures):
    draw_curves([{'loss': 20.0, 'iter': 1}, {'loss': 1.0, 'iter': 2}], tmp_path / 'curves.png')
    assert figures[0].axes[0].get_yscale() == 'log'


def test_log_file_is_read_though_its_last_line_is_half_written(tmp_path):
    log = tmp_path / 'scalars.json'
    lines = [json.dumps(record) for record in TRAIN + VAL]
    log.write_text('\n'.join(lines) + '\n{"lr": 0.0')
    assert read_records(log) == TRAIN + VAL


def test_mistakes_are_named(tmp_path):
    with pytest.raises(MissingFileError, match='scalars.json'):
        read_records(tmp_path / 'scalars.json')
    with pytest.raises(InputError, match='has training begun'):
        draw_curves([], tmp_path / 'curves.png')
    bad = tmp_path / 'bad.json'
    bad.write_text('{"lr": 1}\nno json\n{"lr": 2}\n')
    with pytest.raises(InputError, match='line 2'):
        read_records(bad)
