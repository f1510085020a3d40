"""``--logger``: what each package's own reader finds after a training in two halves.

The halves are also resumed to the bit, with stages frozen and classes balanced.
"""

import importlib.util
import json
import struct
import sys
import time

import pytest
import tool_runs
import torch
from mmengine.config import Config

FLAGS = ('--workers', 0, '--img-size', 64, '--batch-size', 4, '--freeze', 1, '--balance')
NO_METRIC = {'step', 'iter', 'epoch', 'time', 'data_time', 'memory'}
OFFLINE = dict(WANDB_MODE='offline', WANDB_SILENT='true', CLEARML_OFFLINE_MODE='1')


def is_installed(name):
    return importlib.util.find_spec(name) is not None


@pytest.fixture(scope='module')
def halves(tmp_path_factory, demo_data):
    """The folder of an epoch and of its resume to two, with all loggers that are installed."""
    folder = tmp_path_factory.mktemp('halves')
    config = tool_runs.write_config('detection', folder / 'tiny.py', demo_data)
    loggers = [name for name in ('tensorboard', 'wandb', 'mlflow', 'clearml') if is_installed(name)]
    flags = (*FLAGS, *(word for name in loggers for word in ('--logger', name)))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OFFLINE.items():
            patch.setenv(name, value)
        patch.setenv('CLEARML_CACHE_DIR', str(folder / 'clearml'))
        patch.delenv('MLFLOW_TRACKING_URI', raising=False)
        for more in (['--epochs', 1], ['--epochs', 2, '--resume']):
            done = tool_runs.run_here(
                'train', config, '--work-dir', folder / 'work', *flags, *more, cwd=folder
            )
            assert done.code == 0, done.printed
            time.sleep(1)  # mmengine names the folder of a run by the second
    return folder, done


@pytest.fixture(scope='module')
def expected(halves):
    """Step and value of each scalar in the order in which the runs wrote them."""
    files = sorted((halves[0] / 'work').glob('*/vis_data/scalars.json'))
    assert len(files) == 2
    found = {}
    for line in ''.join(file.read_text() for file in files).splitlines():
        record = json.loads(line)
        for key in record.keys() - NO_METRIC:
            found.setdefault(key, []).append((record['step'], record[key]))
    assert [step for step, _ in found['loss']] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in found['coco/bbox_mAP']] == [3, 6]
    assert [step for step, _ in found['coco/AP/7']] == [3, 6]
    return found


def as_32_bits(scalars):
    return {
        key: [(step, torch.tensor(value).item()) for step, value in points]
        for key, points in scalars.items()
    }


def test_two_halves_end_in_the_bits_of_a_whole(halves, demo_data, run, tmp_path):
    config = tool_runs.write_config('detection', tmp_path / 'tiny.py', demo_data)
    whole = run('train', config, '--work-dir', 'work', '--epochs', 2, *FLAGS)
    assert whole.code == 0, whole.printed
    one, two = (
        torch.load(folder / 'work/epoch_2.pth', weights_only=True)
        for folder in (halves[0], tmp_path)
    )
    for key, value in two['state_dict'].items():
        assert torch.equal(one['state_dict'][key], value), key
    first = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=True)
    for key, value in first['state_dict'].items():  # of the average, which is saved
        if key.startswith(('backbone.conv1.', 'backbone.layer1.')):
            assert torch.equal(two['state_dict'][key], value), key
    for line in (
        '--img-size 64x64: instead of 96x96',
        '--freeze: frozen_stages=1 of TResNet',
        '--balance: an epoch still draws 12 images; ',
        'trainable parameters: ',
    ):
        assert line in whole.printed
    (log,) = (tmp_path / 'work').glob('*/*.log')
    assert 'requires_grad=' not in log.read_text().replace('requires_grad=True', '')


def test_tensorboard(halves, expected):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in sorted((halves[0] / 'work').glob('*/vis_data')):
        events = EventAccumulator(str(folder), size_guidance=dict(scalars=0))
        events.Reload()
        for key in events.Tags()['scalars']:
            points = [(event.step, event.value) for event in events.Scalars(key)]
            found.setdefault(key, []).extend(points)
    assert {key: found[key] for key in found.keys() - NO_METRIC} == as_32_bits(expected)


def wandb_records(data):
    """Records of a .wandb file: LevelDB's log of protocol buffers, which wandb reads in Go."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, whole = 7, b''
    while at + 7 <= len(data):
        room = 2**15 - at % 2**15  # of the block
        _, length, kind = struct.unpack_from('<IHB', data, at)
        if room >= 7:
            whole += data[at + 7 : at + 7 + length]
            if kind in (1, 4):  # all of a record, or the end of one
                yield Record.FromString(whole)
                whole = b''
        at += 7 + length if room >= 7 else room


def test_wandb(halves, expected):
    pytest.importorskip('wandb', reason='needs wandb: pip install wandb')
    found, ids = {}, set()
    files = sorted((halves[0] / 'work/wandb').glob('offline-run-*/*.wandb'))
    for record in (record for file in files for record in wandb_records(file.read_bytes())):
        if record.run.run_id:
            ids.add(record.run.run_id)
        for item in record.history.item:
            key = item.key or '/'.join(item.nested_key)
            point = record.history.step.num, json.loads(item.value_json)
            if key not in NO_METRIC and not key.startswith('_'):
                found.setdefault(key, []).append(point)
    assert len(files) == 2
    assert len(ids) == 1  # a sync puts them together
    assert found == expected


def test_mlflow(halves, expected):
    mlflow = pytest.importorskip('mlflow', reason='needs mlflow: pip install mlflow')
    client = mlflow.MlflowClient(f'sqlite:///{halves[0] / "work/mlflow.db"}')
    experiment = client.get_experiment_by_name('tresnet_det')
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ('work', 'FINISHED')
    names = {key: key.replace('@', '_') for key in expected}
    assert run.data.metrics.keys() - NO_METRIC == set(names.values())
    for key, name in names.items():
        points = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        assert sorted(points) == expected[key]


def test_clearml(halves, expected):
    pytest.importorskip('clearml', reason='needs clearml: pip install clearml')
    found = {}
    for file in sorted(
        (halves[0] / 'clearml').rglob('metrics.jsonl'), key=lambda f: f.stat().st_mtime
    ):
        for line in file.read_text().splitlines():
            for event in json.loads(line):
                if event['type'] == 'training_stats_scalar' and event['metric'][0] != ':':
                    found.setdefault(event['metric'], []).append((event['iter'], event['value']))
    assert {key: found[key] for key in found.keys() - NO_METRIC} == expected


@pytest.mark.parametrize(
    ('code', 'state'),
    [
        (None, 'is not installed'),
        ('import nowhere', "cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        ('1 / 0', 'cannot be imported (ZeroDivisionError: division by zero)'),
    ],
    ids=['missing', 'in need of another', 'broken'],
)
def test_a_package_that_is_not_there_is_one_line(
    code, state, run, tiny_config, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'mlflow', raising=False)
    if code:
        (tmp_path / 'mlflow.py').write_text(code)
    else:
        monkeypatch.setitem(sys.modules, 'mlflow', None)
    error = run('train', tiny_config('detection'), '--logger', 'mlflow').error
    assert error == f'error: --logger mlflow: the package {state}: pip install -U mlflow'


def test_two_loggers_and_a_resume_continue_one_run(monkeypatch, tmp_path):
    from tresnet_det.engine.loggers import add_loggers

    monkeypatch.setattr(importlib, 'import_module', lambda name: name)
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    ids = []
    for resume in (False, True, False):
        cfg = Config(dict(work_dir=str(tmp_path), resume=resume, default_hooks={}))
        add_loggers(cfg, ['wandb', 'mlflow'])
        _, wandb, mlflow = cfg.visualizer.vis_backends
        assert wandb.init_kwargs.id == mlflow.run_tag
        ids.append(mlflow.run_tag)
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ('name', 'taken'),
    [
        ('coco/bbox_AR@1', 'coco/bbox_AR_1'),
        ('coco/AP/../x', 'coco/AP/_/x'),
        ('coco/AP//a', 'coco/AP/_/a'),
        ('coco/AP/犬 (x)', 'coco/AP/犬 _x_'),
    ],
)
def test_mlflow_gets_names_that_it_takes(name, taken):
    from tresnet_det.engine.loggers import mlflow_name

    assert mlflow_name(name) == taken
