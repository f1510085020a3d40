"""CurvesHook and ProgressBarHook in a real runner: what is drawn and what the terminal shows."""

import io
import re
import sys
from pathlib import Path

import pytest
from mmengine.hooks import Hook
from PIL import Image

import tresnet_det  # noqa: F401  (prepares the stack)
from tresnet_det.engine import ProgressBarHook


def test_curves_are_in_the_work_folder_after_training_not_after_validation_alone(build, tmp_path):
    runner = build([{'type': 'CurvesHook'}])
    runner.val()
    assert not (tmp_path / 'work' / 'curves.png').exists()
    runner.train()
    assert Image.open(tmp_path / 'work' / 'curves.png').size == (1500, 460)


def test_training_without_validation_has_curves_too(build, tmp_path):
    build([{'type': 'CurvesHook', 'file_name': 'loss.png'}], val=False).train()
    assert (tmp_path / 'work' / 'loss.png').is_file()


def test_image_that_fails_is_a_warning_and_training_goes_on(build, log, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError('no space left')

    monkeypatch.setattr('tresnet_det.evaluation.plots.draw_curves', fail)
    runner = build([{'type': 'CurvesHook'}])
    lines = log(runner)
    runner.train()
    assert runner.iter == 8
    assert 'curves.png could not be drawn: no space left' in lines


@pytest.fixture
def drawn(monkeypatch):
    """What the hook gives to be drawn: records and settings."""
    calls, name = [], 'tresnet_det.evaluation.plots.draw_curves'
    monkeypatch.setattr(name, lambda records, path, **settings: calls.append((records, settings)))
    return calls


@pytest.mark.parametrize('epochs_before', [1, 2])
def test_resumed_run_draws_the_whole_training_without_doubles(
    build, drawn, tmp_path, epochs_before
):
    hooks = [{'type': 'CurvesHook'}, {'type': 'CheckpointHook', 'interval': 1}]
    first = build(hooks, epochs=epochs_before)
    first.train()
    # The folders are named by the second, and this test takes less.
    Path(first.log_dir).rename(tmp_path / 'work' / '20200101_000000')
    build(hooks, resume=True, load_from=str(tmp_path / 'work' / 'epoch_1.pth')).train()
    records, _ = drawn[-1]
    assert [r['step'] for r in records if 'lr' in r] == [2, 4, 6, 8]
    assert [r['step'] for r in records if 'lr' not in r] == [1, 2]


BAR = [{'type': 'ProgressBarHook', 'force': True}]
# No more than one pass over the samples, between which mmengine sleeps for two seconds.
LOGGER = dict(type='LoggerHook', interval=2, log_metric_by_epoch=False)
BY_ITERATION = dict(
    train_cfg=dict(type='IterBasedTrainLoop', max_iters=4, val_interval=2),
    default_hooks=dict(logger=LOGGER),
    log_processor=dict(by_epoch=False),
)


@pytest.mark.parametrize(
    ('more', 'unit', 'steps'), [({}, 'epoch', [1, 2]), (BY_ITERATION, 'iteration', [2, 4])]
)
def test_curves_count_as_the_loop_does(build, drawn, more, unit, steps):
    build([{'type': 'CurvesHook'}], **more).train()
    records, settings = drawn[-1]
    assert settings['val_unit'] == unit
    assert [r['step'] for r in records if 'lr' not in r] == steps


def test_other_processes_draw_nothing_and_show_no_bar(build, drawn, monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', screen)
    monkeypatch.setattr('tresnet_det.engine.hooks.is_main_process', lambda: False)
    build([{'type': 'CurvesHook'}, *BAR]).train()
    monkeypatch.undo()
    assert drawn == []
    assert 'train:' not in screen.getvalue()
    monkeypatch.setattr(sys, 'stderr', screen)  # which is no terminal
    build([{'type': 'ProgressBarHook'}]).train()
    assert 'train:' not in screen.getvalue()


def one_screen(monkeypatch):
    """Stdout and stderr of one terminal; pytest's own would come back after a fixture."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, 'stdout', stream)
    monkeypatch.setattr(sys, 'stderr', stream)
    return stream


ACCUMULATED = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=2))


@pytest.mark.parametrize('more', [{}, BY_ITERATION, ACCUMULATED])
def test_bar_counts_all_iterations_and_leaves_log_lines_whole(build, monkeypatch, more):
    screen = one_screen(monkeypatch)
    runner = build(BAR, **more)
    before = list(runner.logger.handlers)
    runner.train()
    text = screen.getvalue()
    assert re.search(rf'train: 100%.* {runner.max_iters}/{runner.max_iters} .*loss \d\.\d+', text)
    log_lines = [line for line in re.split(r'[\r\n]', text) if '(train)' in line]
    assert len(log_lines) == runner.max_iters // 2
    assert not any('train:' in line for line in log_lines)
    assert all(' - mmengine - ' in line and 'loss_cls' in line for line in log_lines)
    assert runner.logger.handlers == before


class LogEachIteration(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.logger.debug('for developers')
        if batch_idx == 2:
            raise KeyError('stop')


def test_bar_shows_no_debug_lines_and_closes_after_an_exception_too(build, monkeypatch):
    screen = one_screen(monkeypatch)
    runner = build([*BAR, LogEachIteration()])
    before = list(runner.logger.handlers)
    with pytest.raises(KeyError):
        runner.train()
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, ProgressBarHook)]
    for _ in range(2):  # tools/train.py calls it after mmengine did or did not
        hook.after_train(runner)
        assert hook.bar is None
        assert runner.logger.handlers == before
    text = screen.getvalue()
    assert 'for developers' not in text
    assert text.endswith('\n')
    runner.logger.info('next line')
    assert screen.getvalue().count('next line') == 1
