"""``train`` and ``evaluate`` from Python: the tools' own runs, in a process that goes on."""

import asyncio
import io
import multiprocessing
import os
import runpy
import sys
import textwrap

import option_types
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.utils import ManagerMixin

from tresnet_det import Predictor, RunResult, evaluate, train
from tresnet_det.cli.command_line import run_tool
from tresnet_det.compat.checkpoint_io import load_checkpoint_file
from tresnet_det.errors import InputError, MissingFileError


def assert_same_weights(path, other):
    one, two = (load_checkpoint_file(file)['state_dict'] for file in (path, other))
    assert [*one] == [*two]
    assert all(torch.equal(one[key], two[key]) for key in one)


def kept_of_runs():
    kinds = [ManagerMixin]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {(kind, name) for kind in kinds for name in kind._instance_dict}


def test_two_trainings_and_a_test_in_one_process_are_those_of_the_tools(trained, tmp_path):
    done, mine = trained('classification'), MMLogger.get_instance('mine')
    MessageHub.get_instance('mine').update_info('kept', 7)
    before, environment = kept_of_runs(), dict(os.environ)
    results = [train(done.config, work_dir=tmp_path / name, cfg_options={}) for name in 'ab']
    for name, result in zip('ab', results, strict=True):
        assert isinstance(result, RunResult)
        assert result.work_dir == tmp_path / name
        assert_same_weights(tmp_path / name / 'epoch_2.pth', done.checkpoint)
        best = max(done.logged('accuracy/top1'))
        assert result.metrics['accuracy/top1'] == best
        assert result.checkpoint.name == next(done.work_dir.glob('best_*')).name
    tested = evaluate(results[0].checkpoint, work_dir=tmp_path / 'tested')
    assert tested.metrics['accuracy/top1'] == best
    assert (tested.work_dir, tested.checkpoint) == (tmp_path / 'tested', results[0].checkpoint)
    assert evaluate(done.config, results[1].checkpoint).metrics == tested.metrics
    assert evaluate(tmp_path / 'a').work_dir == tmp_path / 'a' / 'test'
    assert kept_of_runs() == before
    assert MMLogger.get_instance('mine') is mine
    assert MessageHub.get_instance('mine').get_info('kept') == 7
    assert dict(os.environ) == environment
    assert len(Predictor(results[1].work_dir)(next(done.data_root.rglob('*.png')))) == 3


def test_a_notebook_can_train_and_change_the_config(trained, tmp_path, monkeypatch):
    """Its arguments are those of a kernel, its streams have no file, and a loop runs already."""
    done = trained('multilabel')
    monkeypatch.setattr(sys, 'argv', ['ipykernel_launcher.py', '-f', 'kernel.json'])
    for stream in ('stdout', 'stderr'):
        monkeypatch.setattr(sys, stream, io.StringIO())

    async def cell():
        options = dict(pretrained=done.work_dir, epochs=1, lr=1e-4, workers=0)
        options['cfg_options'] = {'default_hooks.checkpoint.save_best': None}
        return train(done.config, work_dir=tmp_path, **options)

    result = asyncio.run(cell())
    assert result.checkpoint == tmp_path / 'epoch_1.pth'  # the last one
    assert 0 <= result.metrics['multilabel/mAP'] <= 1
    assert 'Trained' in sys.stdout.getvalue()


def test_a_script_with_workers_keeps_its_own_way_to_start_processes(trained, tmp_path, capfd):
    done, path = trained('classification'), tmp_path / 'script.py'
    path.write_text(
        textwrap.dedent(f"""
        import multiprocessing
        from tresnet_det import train

        if __name__ == '__main__':
            multiprocessing.set_start_method('spawn', force=True)
            workers = {{'train_dataloader.num_workers': 1, 'val_dataloader.num_workers': 1}}
            result = train({str(done.config)!r}, work_dir={str(tmp_path)!r}, cfg_options=workers)
            print('last line:', result.checkpoint.name, multiprocessing.get_start_method())
        """)
    )
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        runpy.run_path(path, run_name='__main__')
    finally:
        multiprocessing.set_start_method(before, force=True)
    best = next(done.work_dir.glob('best_*')).name
    assert capfd.readouterr().out.splitlines()[-1] == f'last line: {best} spawn'
    assert_same_weights(tmp_path / 'epoch_2.pth', done.checkpoint)


MISTAKES = [
    (dict(config='none.py'), MissingFileError, 'no config at .*none.py'),
    (dict(config=3), InputError, '3 is no file: give its path'),
    (dict(no_such=1), InputError, 'unrecognized arguments: --no-such=1'),
    (dict(epochs=0), InputError, "argument --epochs: '0' is not a whole number above 0"),
    (dict(launcher='none at all'), InputError, 'argument --launcher: invalid choice'),
    (dict(from_scratch=True, pretrained='x'), InputError, 'not allowed with argument'),
    (dict(data='none'), InputError, 'none'),
    (dict(cfg_options=['a=1']), InputError, 'cfg_options must be a dict with keys of text'),
    (dict(cfg_options={1: 2}), InputError, 'cfg_options must be a dict with keys of text'),
    (dict(cfg_options={'model.type': 'NoSuch'}), InputError, 'NoSuch is not in the .*registry'),
    (
        dict(cfg_options={'train_dataloader.batch_size': 'many'}),
        InputError,
        'cfg-options train_dataloader.batch_size|batch_size',
    ),
]


@pytest.mark.parametrize(('options', 'kind', 'message'), MISTAKES, ids=[m[2] for m in MISTAKES])
def test_a_mistake_is_an_error_of_one_line(options, kind, message, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = options.get('config', trained('classification').config)
    with pytest.raises(kind, match=message) as caught:
        train(config, **{k: v for k, v in options.items() if k != 'config'})
    assert '\n' not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_test_without_a_checkpoint_or_with_a_wrong_one_is_named(trained, tmp_path):
    done = trained('classification')
    for arguments, message in (
        ([done.config], 'a config needs a checkpoint too'),
        ([tmp_path], 'has no config of a training'),
        ([tmp_path / 'none'], 'no work directory or checkpoint at'),
        ([done.config, tmp_path / 'none.pth'], 'no checkpoint at .*none.pth'),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(*arguments)


def test_a_tool_that_fails_still_ends_with_its_line(trained, monkeypatch, capsys):
    """After a call from Python, whose mistakes are no exits, too."""
    with pytest.raises(InputError, match='unrecognized arguments'):
        train(trained('classification').config, no_such=1)
    monkeypatch.setattr(sys, 'argv', ['train.py', 'x.py', '--no-such'])
    from tresnet_det.cli.train import main

    with pytest.raises(SystemExit, match='2'):
        run_tool(main)
    assert 'train.py: error: unrecognized arguments: --no-such' in capsys.readouterr().err


def test_the_list_for_type_checkers_is_that_of_the_parsers():
    command = 'python tests/tools/option_types.py'
    assert option_types.FILE.read_text() == option_types.write(), f'out of date: run {command}'
