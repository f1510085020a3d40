"""Several processes train as one does with their batches together."""

import json

import pytest
from distributed_children import run_tool

STEPS = 24  # three epochs of 64 images by eight


def train(start, config, work, count, batch):
    alone = count == 1
    options = [] if alone else ['--launcher', 'pytorch']
    changes = [f'train_dataloader.batch_size={batch}']
    arguments = ('train', config, '--work-dir', work, *options, '--cfg-options', *changes)
    results = start(count, run_tool, *arguments, alone=alone)
    assert [result.code for result in results] == [0] * count, results[0].err
    return results, [json.loads((work / f'steps_{rank}.json').read_text()) for rank in range(count)]


def check_equal(one, parts, combine):
    """Hold each step's files, learning rate and losses, over the processes, against one's."""
    assert len(one) == STEPS
    for number, expected in enumerate(one):
        steps = [part[number] for part in parts]
        assert sorted(sum((step['files'] for step in steps), [])) == expected['files']
        assert {step['rate'] for step in steps} == {expected['rate']}
        for key, value in expected['losses'].items():
            if 'loss' in key:
                found = combine([step['losses'][key] for step in steps])
                assert found == pytest.approx(value, rel=1e-4, abs=1e-4), (number, key)


def mean(values):
    return sum(values) / len(values)


HOOKS = [dict(type='RecordHook'), dict(type='ShareStatisticsHook')]


def test_two_processes_train_a_detector_as_one_and_speak_once(start, write_config, tmp_path):
    config = write_config('detection', dict(custom_hooks=HOOKS))
    _, (one,) = train(start, config, tmp_path / 'one', 1, 8)
    results, parts = train(start, config, tmp_path / 'two', 2, 4)
    check_equal(one, parts, mean)
    assert one[-1]['losses']['loss'] < one[0]['losses']['loss']
    # One process prints, logs and saves.
    assert results[0].out.count('Epoch(train) [1][1/8]') == 1
    assert 'error' not in results[0].err
    assert (results[1].out, results[1].err) == ('', '')
    folders = [path for path in (tmp_path / 'two').iterdir() if (path / 'vis_data').is_dir()]
    assert len(folders) == 1
    assert len(list(folders[0].glob('*.log'))) == 1
    assert results[0].out.count('Saving checkpoint at 1 epochs') == 1


@pytest.mark.slow
def test_four_processes_train_a_detector_as_one(start, write_config, tmp_path):
    config = write_config('detection', dict(custom_hooks=HOOKS))
    _, (one,) = train(start, config, tmp_path / 'one', 1, 8)
    check_equal(one, train(start, config, tmp_path / 'four', 4, 2)[1], mean)


@pytest.mark.parametrize(
    ('reduction', 'combine'),
    [
        pytest.param('batch_mean', mean, marks=pytest.mark.slow),
        ('sum', sum),  # each process has its own images' loss; AdamW does not mind the factor
    ],
)
def test_two_processes_train_the_asymmetric_loss_as_one(
    start, write_config, tmp_path, reduction, combine
):
    loss = dict(type='AsymmetricLoss', gamma_neg=4, gamma_pos=0, clip=0.05, reduction=reduction)
    model = dict(head=dict(loss=dict(_delete_=True, **loss)))
    optim_wrapper = dict(clip_grad=None)  # of the demo only; a clipped sum is another step
    changes = dict(custom_hooks=HOOKS, model=model, optim_wrapper=optim_wrapper)
    config = write_config('multilabel', changes)
    _, (one,) = train(start, config, tmp_path / 'one', 1, 8)
    check_equal(one, train(start, config, tmp_path / 'two', 2, 4)[1], combine)
