import io
import math
import re
import sys

import pytest

import tresnet_det  # noqa: F401  (prepares the stack)
from tresnet_det.engine.hooks import _continue
from tresnet_det.errors import InputError


def test_curves_are_in_the_work_folder_after_training(build, tmp_path):
    build([{'type': 'CurvesHook'}]).train()
    assert (tmp_path / 'work' / 'curves.png').stat().st_size > 10_000


def test_training_without_validation_has_curves_too(build, tmp_path):
    build([{'type': 'CurvesHook', 'file_name': 'loss.png'}], val=False).train()
    assert (tmp_path / 'work' / 'loss.png').is_file()


def test_validation_alone_draws_no_curves(build, tmp_path):
    build([{'type': 'CurvesHook'}]).val()
    assert not (tmp_path / 'work' / 'curves.png').exists()


def test_picture_that_fails_is_a_warning_and_training_goes_on(build, log, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('no space left')

    monkeypatch.setattr('tresnet_det.evaluation.curves.draw_curves', fail)
    runner = build([{'type': 'CurvesHook'}])
    lines = log(runner)
    runner.train()
    assert runner.iter == 8
    assert 'curves.png could not be drawn: no space left' in lines


def test_resumed_training_continues_the_curve_without_doubles():
    train = [{'lr': 0.1, 'loss': 1.0, 'step': step} for step in (10, 20, 30)]
    val = [{'coco/bbox_mAP': 0.1, 'step': step} for step in (1, 2)]
    again = [{'lr': 0.1, 'loss': 0.5, 'step': 20}, {'coco/bbox_mAP': 0.2, 'step': 2}]
    assert _continue(train + val, again) == [train[0], val[0], *again]
    assert _continue([], again) == again


def test_resumed_run_draws_the_whole_training(build, monkeypatch):
    hooks = [{'type': 'CurvesHook'}, {'type': 'CheckpointHook', 'interval': 1}]
    build(hooks, epochs=1).train()
    drawn = []
    monkeypatch.setattr(
        'tresnet_det.evaluation.curves.draw_curves', lambda records, *_, **__: drawn.append(records)
    )
    build(hooks, resume=True).train()
    assert [r['step'] for r in drawn[-1] if 'lr' in r] == [2, 4, 6, 8]
    assert [r['step'] for r in drawn[-1] if 'lr' not in r] == [1, 2]


def test_bar_counts_all_iterations_and_leaves_log_lines_whole(build, monkeypatch):
    screen = io.StringIO()  # stdout and stderr of one terminal
    monkeypatch.setattr(sys, 'stdout', screen)
    monkeypatch.setattr(sys, 'stderr', screen)
    runner = build([{'type': 'ProgressBarHook', 'force': True}])
    consoles = [handler for handler in runner.logger.handlers if handler.stream is screen]
    assert consoles
    runner.train()
    text = screen.getvalue()
    assert re.search(r'train: 100%.* 8/8 .*loss \d\.\d+', text)
    log_lines = [line for line in re.split(r'[\r\n]', text) if 'Epoch(train)' in line]
    assert len(log_lines) == 4
    assert not any('train:' in line for line in log_lines)
    assert all(handler.stream is screen for handler in consoles)


def test_no_bar_where_stderr_is_no_terminal(build, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', screen)
    build([{'type': 'ProgressBarHook'}]).train()
    assert 'train:' not in screen.getvalue()


@pytest.mark.parametrize('runtime_info', [True, False])
def test_loss_that_is_not_finite_stops_and_names_files_and_parts(build, runtime_info):
    runner = build([{'type': 'StopOnNonFiniteHook'}], bad=5)
    if not runtime_info:
        runner._hooks = [h for h in runner.hooks if type(h).__name__ != 'RuntimeInfoHook']
    with pytest.raises(InputError) as caught:
        runner.train()
    message = str(caught.value)
    assert 'The loss is nan at iteration 3 (loss_cls = nan)' in message
    assert 'img_4.jpg, img_5.jpg:' in message
    assert 'loss_box' not in message
    assert '\n' not in message


def test_it_stops_before_the_broken_weights_are_saved(build, tmp_path):
    hooks = [
        {'type': 'StopOnNonFiniteHook'},
        {'type': 'CheckpointHook', 'interval': 1, 'by_epoch': False},
    ]
    with pytest.raises(InputError):
        build(hooks, bad=5).train()
    saved = {file.name for file in (tmp_path / 'work').glob('iter_*.pth')}
    assert saved == {'iter_1.pth', 'iter_2.pth'}


def test_sum_may_overflow_though_its_parts_are_finite(build):
    runner = build([])
    hook = tresnet_det.engine.StopOnNonFiniteHook()
    runner._hooks = []
    with pytest.raises(InputError, match='all its parts are finite.*does not name its files'):
        hook.after_train_iter(runner, 0, None, {'loss': math.inf, 'loss_cls': 1e38})


def test_finite_losses_train_to_the_end(build):
    runner = build([{'type': 'StopOnNonFiniteHook'}])
    runner.train()
    assert runner.iter == 8
