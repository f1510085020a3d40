"""When one process, or what it needs, fails: one line with its cause, and an end for all."""

import shutil
import signal

import pytest
from distributed_children import run_tool

from tresnet_det.cli.failures import explain
from tresnet_det.engine import processes
from tresnet_det.errors import InputError, MissingFileError

GO_ON = '--resume continues from the last checkpoint'
ALL = '--launcher', 'pytorch'
WORKER, GLOO = 'DataLoader worker (pid 12)', '[../third_party/gloo/gloo/transport/tcp'


@pytest.fixture
def work(tmp_path):
    return tmp_path / 'work'


@pytest.fixture
def fail(start, write_config, work):
    """Train with a trouble at the second iteration; return what each process printed."""

    def call(kind, count=2, rank=1, data_root=None, launcher='pytorch', options=()):
        trouble = dict(type='TroubleHook', kind=kind, rank=rank, path=data_root and str(data_root))
        places = {} if data_root is None else dict(data_root=data_root)
        config = write_config('multilabel', dict(custom_hooks=[trouble]), **places)
        arguments = ['train', config, '--work-dir', work]
        arguments += [] if count == 1 else ['--launcher', launcher]
        arguments += ['--cfg-options', 'train_dataloader.batch_size=4', *options]
        return start(count, run_tool, *arguments, alone=count == 1, launcher=launcher)

    return call


def line_of(results):
    """The one line that all processes together say of the failure."""
    printed = ''.join(result.err for result in results)
    lines = [line for line in printed.splitlines() if 'error' in line.lower()]
    assert len(lines) == 1, printed
    assert 'Traceback' not in printed
    assert all(result.code for result in results)
    return lines[0]


def test_an_exception_in_one_process_is_one_line_and_ends_the_others(fail, work):
    results = fail('exception')
    line = line_of(results)
    log = work / 'processes/rank_1.log'
    assert line == f'error: rank 1: ZeroDivisionError: the second step (its log: {log})'
    assert results[1].code == 1
    text = log.read_text()
    assert 'Traceback' in text
    assert ', in exception\n' in text


def test_a_killed_process_ends_the_others_though_nobody_tells_them(fail):
    # As by srun without --kill-on-bad-exit: torchrun and Slurm would end them before they speak.
    results = fail('kill', launcher='slurm')
    line = line_of(results)
    assert line.startswith('error: rank 0: the connection to another process is lost: ')
    assert GO_ON in line
    assert [result.code for result in results] == [2, -signal.SIGKILL]


@pytest.mark.slow
def test_a_process_that_hangs_is_waited_for_no_longer_than_the_timeout(fail):
    first, _ = fail('hang', options=['env_cfg.dist_cfg.timeout=5'])
    assert first.err.startswith('error: rank 0: the other processes did not answer for 5 s')
    assert 'env_cfg.dist_cfg.timeout' in first.err
    assert first.code == 2


@pytest.mark.slow
@pytest.mark.parametrize('count', [1, 2])
def test_a_killed_data_worker_is_one_line(fail, count):
    options = ['train_dataloader.num_workers=1']
    results = fail('kill_worker', count, rank=count - 1, options=options)
    line = line_of(results)
    for part in ('a data-loader worker', 'memory ran out', 'num_workers or batch_size', GO_ON):
        assert part in line
    assert ('rank 1: ' in line) == (count == 2)
    assert results[-1].code == 2


@pytest.mark.slow
def test_data_that_disappears_is_one_line_with_the_folder(fail, digits, tmp_path):
    data = tmp_path / 'data'
    shutil.copytree(digits, data)
    options = ['train_dataloader.num_workers=1']
    line = line_of(fail('remove_data', data_root=data, options=options))
    for part in (f'{data}/train2017/', f'the folder {data} is gone', 'mount it again', GO_ON):
        assert part in line


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['CONFIG', '--cfg-options', 'model.head.in_channels=7'], 'but the backbone gives 512'),
        (['nowhere.py'], 'error: rank 0: no config at '),
        (['CONFIG', '--no-such-option'], 'unrecognized arguments: --no-such-option'),
    ],
)
def test_a_mistake_that_all_processes_make_is_said_once(start, write_config, work, arguments, said):
    if arguments[0] == 'CONFIG':
        arguments = [write_config('multilabel'), *arguments[1:]]
    results = start(2, run_tool, 'train', *arguments, '--work-dir', work, *ALL)
    assert said in line_of(results)
    assert [result.code for result in results] == [2, 2]


@pytest.mark.slow
def test_shared_batch_norm_on_cpu_processes_names_the_norm_that_works(start, write_config, work):
    norm = dict(backbone=dict(norm_cfg=dict(_delete_=True, type='SyncBN')))
    config = write_config('multilabel', dict(model=norm))
    line = line_of(start(2, run_tool, 'train', config, '--work-dir', work, *ALL))
    assert 'SyncBN' in line
    assert "on GPUs only: on CPU processes, dict(type='InPlaceABN', sync=True)" in line


@pytest.mark.parametrize(
    ('error', 'parts'),
    [
        # As torch words them.
        (f'{WORKER} is killed by signal: Killed. ',
         ['process 12', 'was killed from outside', 'memory ran out']),
        (f"{WORKER} is killed by signal: Bus error. It is possible that dataloader's workers are "
         'out of shared memory.', ['process 12', '/dev/shm', '--shm-size']),
        ('unable to resize file </torch_12_34_0> to the right size: No space left on device (28)',
         ['no shared memory is left', '/dev/shm', '--shm-size']),
        (f'{WORKER} is killed by signal: Segmentation fault. ',
         ['process 12', 'Segmentation fault', 'num_workers=0']),
        ('DataLoader worker (pid(s) 12, 13) exited unexpectedly',
         ['process 12, 13', 'memory ran out']),
        ('The server socket has failed to listen on any local network address. port: 29500, '
         'useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use',
         ['port 29500 is taken', 'PORT=']),
        ('The client socket has timed out after 600000ms while trying to connect to (node7, '
         '29500).', ['no answer from node7, port 29500', 'MASTER_ADDR']),
        (f'{GLOO}/unbound_buffer.cc:81] Timed out waiting 600000ms for recv operation to complete',
         ['did not answer for 600 s', 'env_cfg.dist_cfg.timeout']),
        (f'{GLOO}/pair.cc:534] Connection closed by peer [127.0.0.1]:41212',
         ['the connection to another process is lost', GO_ON]),
    ],
)  # fmt: skip
def test_what_torch_says_is_explained(error, parts):
    line = explain(RuntimeError(error))
    assert '\n' not in line
    for part in parts:
        assert part in line


def test_only_what_is_known_is_explained(tmp_path):
    assert explain(RuntimeError('mat1 and mat2 shapes cannot be multiplied')) is None
    assert explain(KeyError('bbox')) is None
    assert explain(ConnectionResetError(104, 'Connection reset by peer')) is None
    assert explain(InputError('the line')) == 'the line'
    assert (
        explain(PermissionError(13, 'Permission denied', 'f.json')) == 'f.json: Permission denied'
    )
    # The folder is there: it is this image that is missing.
    line = f'{tmp_path}/1.jpg: the image does not exist; fix it'
    assert explain(MissingFileError(line)) == line


@pytest.mark.parametrize(
    ('launcher', 'environment', 'message'),
    [
        ('none', dict(TORCHELASTIC_RUN_ID='1', WORLD_SIZE='2'), 'add --launcher pytorch'),
        ('pytorch', {}, 'RANK is not set: start it by tools/dist_train.sh or torchrun'),
        ('slurm', {}, 'SLURM_PROCID is not set: start it by srun'),
    ],
)
def test_a_launcher_that_did_not_start_the_process_is_named(
    monkeypatch, launcher, environment, message
):
    for name in (name for names in processes.PLACES.values() for name in names):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    processes.take_place(launcher)
    with pytest.raises(InputError, match=message):
        processes.check_place(launcher)
