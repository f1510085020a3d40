"""A work directory that was moved or copied is used where it is, by all that reads its state."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from tresnet_det.engine import config as edit


@pytest.mark.parametrize('how', ['moved', 'copied', 'moved with its project', 'run from elsewhere'])
@pytest.mark.parametrize('relative', [False, True])
def test_its_config_names_what_is_there_now(how, relative, tmp_path, monkeypatch):
    project = tmp_path / 'project'
    old = project / 'work_dirs' / 'run'
    (old / 'data').mkdir(parents=True)
    for name in ('data/val.json', 'epoch_1.pth', 'last_checkpoint'):
        (old / name).touch()
    kept = dict(
        work_dir='./work_dirs/run' if relative else str(old),
        val_evaluator=[dict(ann_file=str(old / 'data' / 'val.json'))],
        load_from=str(old / 'epoch_1.pth'),
        other=('work_dirs/run/gone.json', str(project / 'images'), 'a/b', ''),
    )
    Config(kept).dump(old / 'as_run.py')
    monkeypatch.chdir(project)
    new = project / 'kept' / 'first'
    if how == 'moved':
        new.parent.mkdir()
        old.rename(new)
    elif how == 'copied':
        shutil.copytree(old, new)
    elif how == 'moved with its project':
        project.rename(tmp_path / 'renamed')
        new = tmp_path / 'renamed' / 'work_dirs' / 'run'
    else:
        monkeypatch.chdir(tmp_path)
        new = old
    cfg = edit.load_config(new / 'as_run.py')
    assert (tmp_path / cfg.work_dir) == new or (how, relative) == ('moved with its project', True)
    assert cfg.val_evaluator[0].ann_file == str(new / 'data' / 'val.json')
    assert cfg.load_from == str(new / 'epoch_1.pth')
    assert tuple(cfg.other) == kept['other']


def test_a_config_that_lies_elsewhere_stays(tmp_path):
    kept = dict(work_dir='runs/a', load_from='runs/a/b.pth')
    Config(kept).dump(tmp_path / 'own.py')
    assert edit.load_config(tmp_path / 'own.py').to_dict() == kept


def test_it_is_tested_predicted_and_resumed_where_it_is(run, tiny_config, data, tmp_path):
    shutil.rmtree(data.folder / 'val2017')
    (data.folder / 'annotations' / 'instances_val2017.json').unlink()
    config, old, new = tiny_config('detection'), tmp_path / 'old', tmp_path / 'new'
    result = run('train', config, '--data', data.folder, '--work-dir', old)
    assert result.code == 0, result.printed
    assert (old / 'data' / 'instances_val_of_train.json').is_file()
    old.rename(new)
    as_run, images = new / config.name, data.folder / 'train2017'
    resume = ('--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    for arguments in (('test', as_run, new), ('predict', new, images), ('train', as_run, *resume)):
        result = run(*arguments)
        assert result.code == 0, result.printed
        verb = dict(test='Tested', predict='Predicted', train='Trained')[arguments[0]]
        said = result.out.partition(f'\n{verb} ')[2]
        assert 'new/' in said
        assert not re.search(r'\bold\b', said)
    assert not old.exists()
    summary = json.loads((new / 'summary.json').read_text())
    assert (new / summary['checkpoint']).is_file()
    state = torch.load(new / 'epoch_3.pth', weights_only=False)
    known = state['message_hub']['runtime_info']
    assert {Path(known[key]).parent for key in ('best_ckpt', 'last_ckpt')} == {new}
    assert str(old) not in as_run.read_text()
