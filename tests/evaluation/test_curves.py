import json

import pytest
from PIL import Image

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.evaluation import draw_curves
from tresnet_det.evaluation.curves import _split, _val_unit, read_records

TRAIN = [
    {'lr': 0.01, 'loss': 2 / n, 'loss_cls': 1 / n, 'epoch': n, 'iter': 10 * n, 'step': 10 * n}
    for n in range(1, 5)
]
VAL = [
    {'coco/bbox_mAP': 0.1 * n, 'coco/bbox_mAP_s': -1, 'data_time': 0.1, 'time': 0.2, 'step': n}
    for n in range(1, 5)
]


@pytest.mark.parametrize('records', [TRAIN + VAL, TRAIN, VAL, VAL[:1]])
def test_any_part_of_a_log_is_drawn(records, tmp_path):
    draw_curves(records, tmp_path / 'curves.png')
    assert Image.open(tmp_path / 'curves.png').size == (1500, 460)


def test_log_file_is_read_though_its_last_line_is_half_written(tmp_path):
    log = tmp_path / 'scalars.json'
    lines = [json.dumps(record) for record in TRAIN + VAL]
    log.write_text('\n'.join(lines) + '\n{"lr": 0.0')
    assert read_records(log) == TRAIN + VAL
    draw_curves(log, tmp_path / 'curves.png')


def test_records_become_series_without_times_minus_ones_and_nans():
    broken = {'lr': 0.01, 'loss': float('nan'), 'iter': 50, 'step': 50}
    losses, figures, rates = _split([*TRAIN, broken, *VAL])
    assert list(losses) == ['loss', 'loss_cls']
    assert losses['loss'] == [(10, 2.0), (20, 1.0), (30, 2 / 3), (40, 0.5)]
    assert figures == {'coco/bbox_mAP': [(n, 0.1 * n) for n in range(1, 5)]}
    assert len(rates['lr']) == 5


def test_validation_steps_are_epochs_or_iterations():
    figures = _split(VAL)[1]
    assert _val_unit(TRAIN + VAL, figures) == 'epoch'
    by_iteration = {'coco/bbox_mAP': [(20, 0.1), (40, 0.2)]}
    assert _val_unit(TRAIN, by_iteration) == 'iteration'


def test_mistakes_are_named(tmp_path):
    with pytest.raises(MissingFileError, match='scalars.json'):
        draw_curves(tmp_path / 'none.json', tmp_path / 'curves.png')
    with pytest.raises(InputError, match='has training begun'):
        draw_curves([], tmp_path / 'curves.png')
    bad = tmp_path / 'bad.json'
    bad.write_text('{"lr": 1}\nno json\n{"lr": 2}\n')
    with pytest.raises(InputError, match='line 2'):
        read_records(bad)
