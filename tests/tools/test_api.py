"""``train`` and ``evaluate`` from Python: the tools' own runs, in a process that goes on."""

import asyncio
import io
import multiprocessing
import os
import re
import runpy
import shutil
import sys

import option_types
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.utils import ManagerMixin

from tresnet_det import Predictor, RunResult, evaluate, train
from tresnet_det.cli.ending import run_tool
from tresnet_det.compat.checkpoint_io import load_checkpoint_file
from tresnet_det.engine.guest import as_guest
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


# With workers, and another way to start processes than mmengine's.
SCRIPT = """
import multiprocessing
from tresnet_det import train

if __name__ == '__main__':
    multiprocessing.set_start_method('spawn', force=True)
    workers = {{'train_dataloader.num_workers': 1, 'val_dataloader.num_workers': 1}}
    result = train({config!r}, work_dir={work_dir!r}, cfg_options=workers)
"""


def test_two_trainings_and_a_test_in_one_process_are_those_of_the_tools(trained, tmp_path):
    done, mine = trained('classification'), MMLogger.get_instance('mine')
    MessageHub.get_instance('mine').update_info('kept', 7)
    before, environment = kept_of_runs(), dict(os.environ)
    path = tmp_path / 'script.py'
    path.write_text(SCRIPT.format(config=str(done.config), work_dir=str(tmp_path / 'b')))
    results = [train(done.config, work_dir=tmp_path / 'a')]
    method = multiprocessing.get_start_method(allow_none=True)
    try:
        results.append(runpy.run_path(path, run_name='__main__')['result'])
        assert multiprocessing.get_start_method() == 'spawn'
    finally:
        multiprocessing.set_start_method(method, force=True)
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
    assert evaluate(tmp_path / 'b').work_dir == tmp_path / 'b' / 'test'
    assert kept_of_runs() == before
    assert MMLogger.get_instance('mine') is mine
    assert MessageHub.get_instance('mine').get_info('kept') == 7
    assert dict(os.environ) == environment
    assert len(Predictor(results[1].work_dir)(next(done.data_root.rglob('*.png')))) == 3


def test_the_callers_scope_outlives_a_run_that_changes_scopes():
    callers = DefaultScope.get_instance('callers', scope_name='mmdet')
    with as_guest():
        DefaultScope.get_instance('own', scope_name='mmengine')
        with DefaultScope.overwrite_default_scope('mmdet'):  # as a config from mmdet:: does
            pass
    assert DefaultScope.get_current_instance() is callers


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


MISTAKES = [
    (dict(config='none.py'), MissingFileError, 'no config at .*none.py'),
    (dict(config=3), InputError, '3 is no file: give its path'),
    (dict(no_such=1), InputError, "no option 'no_such'"),
    (dict(epochs=0), InputError, 'argument --epochs: 0'),
    (dict(img_size=(1333, 800)), InputError, 'img_size must be one value, got'),
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
    for option in ({'no_such': 1}, {'help': True}, {'epoch': 3}):  # no abbreviation either
        with pytest.raises(InputError, match='no option .*: there are cfg_options, work_dir, '):
            train(trained('classification').config, **option)
    monkeypatch.setattr(sys, 'argv', ['train.py', 'x.py', '--no-such'])
    from tresnet_det.cli.train import main

    with pytest.raises(SystemExit, match='2'):
        run_tool(main)
    assert 'train.py: error: unrecognized arguments: --no-such' in capsys.readouterr().err


def test_the_list_for_type_checkers_is_that_of_the_parsers():
    command = 'python tests/tools/option_types.py'
    assert option_types.FILE.read_text() == option_types.write(), f'out of date: run {command}'


def test_what_the_readme_shows_runs_as_it_stands(
    project_root, demo_data, tiny_config, tmp_path, monkeypatch, capsys
):
    readme = (project_root / 'README.md').read_text()
    blocks = re.findall(r'```python\n(from tresnet_det import .*?)```', readme, re.DOTALL)
    training, test, prediction = blocks
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').mkdir()
    tiny_config('detection').rename('configs/fcos_tresnet_m.py')
    shutil.copytree(demo_data, 'data/mine')
    shutil.copy(demo_data / 'val2017' / '000001.png', 'street.jpg')
    for code in (training, test):
        exec(code, {})
        assert float(capsys.readouterr().out.split()[-1]) >= 0
    exec(prediction, names := {})
    assert names['result'].ori_shape == (64, 64)
    assert (tmp_path / 'found.jpg').is_file()
