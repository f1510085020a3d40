"""tools/launch.py and the shell scripts: what they start, and what they say when it fails."""

import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from distributed_children import run_tool
from process_start import LIMIT, free_port

from tresnet_det.cli import launch as launch_tool
from tresnet_det.errors import InputError

# A process that needs no import: what the launcher sees of any.
# One write, which the other process's cannot come into.
LIVES = (
    'import os, time\nos.write(1, "started {RANK} {WORLD_SIZE}\\n".format(**os.environ).encode())\n'
)
WAITS = LIVES + 'if os.environ["RANK"] == "0": time.sleep(600)\n'
KILLED = WAITS + 'os.kill(os.getpid(), 9)\n'
SPEAKS = WAITS + 'import sys\nprint("error: rank 1: why", file=sys.stderr)\nsys.exit(2)\n'


@pytest.fixture
def launch(tmp_path):
    """Run tools/launch.py on a config that is not read; a script stands for the tool."""

    def call(*arguments, script=None, **environment):
        code = 'from pathlib import Path\nfrom tresnet_det.cli import ending, launch\n'
        if script is not None:
            (tmp_path / 'train.py').write_text(script)
            code += f'launch.own_folder = lambda name: Path({str(tmp_path)!r})\n'
        known = {key: value for key, value in os.environ.items() if 'MASTER' not in key}
        result = subprocess.run(
            [
                sys.executable,
                '-c',
                f'{code}ending.run_tool(launch.main)',
                *map(str, arguments),
            ],
            env=known | dict(PORT=str(free_port())) | environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        return SimpleNamespace(code=result.returncode, out=result.stdout, err=result.stderr)

    return call


def failure(code, timestamp=0):
    name = signal.Signals(-code).name if code < 0 else ''
    return SimpleNamespace(exitcode=code, timestamp=timestamp, signal_name=lambda: name)


@pytest.mark.parametrize(
    ('failures', 'code', 'parts'),
    [
        ({1: -9, 0: -15}, 137, ['rank 1 was killed (SIGKILL)', 'memory', 'rank_1.log']),
        ({1: -11, 0: -15}, 139, ['rank 1 crashed (SIGSEGV)', '--resume']),
        ({1: -15, 0: -15}, 143, ['rank 0 was told to end (SIGTERM)']),
        ({1: 2, 0: -15}, 2, []),  # it has said why by itself
        ({1: 1, 0: -9}, 1, []),  # one that did not end in time was killed by torchrun
    ],
)
def test_only_a_process_that_could_not_speak_is_spoken_for(capsys, failures, code, parts):
    assert launch_tool.report({rank: failure(value) for rank, value in failures.items()}) == code
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == bool(parts)
    for part in parts:
        assert part in printed


def test_more_processes_than_gpus_are_one_line(monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 4)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1,2,3')
    launch_tool.check_gpus(4)
    with pytest.raises(InputError) as stop:
        launch_tool.check_gpus(8)
    assert str(stop.value) == (
        'GPUS is 8, and this node has 4 (CUDA_VISIBLE_DEVICES=0,1,2,3): give 4 or fewer'
    )


@pytest.mark.parametrize(
    ('arguments', 'environment', 'message'),
    [
        (['two'], {}, "GPUS must be a number from 1, got 'two'"),
        (['0'], {}, "GPUS must be a number from 1, got '0'"),
        (['2'], dict(NNODES='2'), 'NNODES=2 needs MASTER_ADDR'),
        (['2'], dict(NODE_RANK='1'), 'NODE_RANK=1, but NNODES=1: nodes are numbered from 0'),
        (['2'], dict(PORT='http'), "PORT must be a number from 1, got 'http'"),
    ],
)
def test_a_mistake_in_the_command_is_one_line(monkeypatch, arguments, environment, message):
    for name in ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT'):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, 'argv', ['launch.py', 'train', 'config.py', *arguments])
    with pytest.raises(InputError, match=message):
        launch_tool.main()


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as other:
        other.bind(('', 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f'port {port} is taken.*PORT=NUMBER'):
            launch_tool.check_port(port)
    launch_tool.check_port(port)  # and free again


def test_a_killed_process_ends_the_others_with_one_line(launch):
    result = launch('train', 'config.py', '2', script=KILLED)
    assert result.code == 137
    assert 'started 0 2' in result.out
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith('error: rank 1 was killed (SIGKILL)')


@pytest.mark.slow
def test_a_failure_that_a_process_names_itself_stays_one_line(launch):
    result = launch('train', 'config.py', '2', script=SPEAKS)
    assert (result.code, result.err) == (2, 'error: rank 1: why\n')


@pytest.mark.slow
def test_a_training_by_the_script_is_one_of_two_processes(project_root, write_config, tmp_path):
    work = tmp_path / 'work'
    command = [str(project_root / 'tools/dist_train.sh'), str(write_config('multilabel')), '2']
    options = ['--work-dir', str(work), '--cfg-options', 'train_cfg.max_epochs=1']
    environment = os.environ | dict(PORT=str(free_port()), PYTHON=sys.executable)
    result = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('Epoch(train) [1][4/4]') == 1
    assert (work / 'epoch_1.pth').is_file()
    logs = {path.name for path in (work / 'processes').iterdir()}
    assert logs == {'rank_0.log', 'rank_1.log'}


def test_slurm_is_asked_for_what_the_environment_says(project_root, tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "MASTER_PORT=$MASTER_PORT"\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    script = str(project_root / 'tools/slurm_train.sh')
    known = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'PYTHON': 'python3'}

    def call(*arguments, **environment):
        command, environment = [script, *arguments], known | environment
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        return result.returncode, result.stdout.splitlines(), result.stderr

    code, words, _ = call('part', 'job', 'c.py', '--amp', GPUS='16', PORT='1234')
    assert code == 0
    assert words[:2] == ['MASTER_PORT=1234', '--partition=part']
    for word in ('--job-name=job', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8'):
        assert word in words
    assert '--kill-on-bad-exit=1' in words  # the others end when one fails
    tool = str(project_root / 'tools/train.py')
    assert words[-7:] == ['python3', '-u', tool, 'c.py', '--amp', '--launcher', 'slurm']

    code, words, _ = call('part', 'job', 'c.py', GPUS='2', GRES='', SRUN_ARGS='--time=1:00 -Q')
    assert '--ntasks-per-node=2' in words
    assert not any('gres' in word for word in words)
    assert words[words.index('--time=1:00') + 1] == '-Q'

    code, _, error = call('part', 'job')
    assert (code, error.split(':')[0]) == (2, 'usage')


@pytest.mark.slow
def test_slurms_processes_meet_where_the_first_machine_is(start, write_config, tmp_path):
    options = ['--work-dir', str(tmp_path / 'work'), '--launcher', 'slurm']
    options += ['--cfg-options', 'train_cfg.max_epochs=1']
    config = write_config('multilabel')
    results = start(2, run_tool, 'train', config, *options, launcher='slurm')
    assert [result.code for result in results] == [0, 0], results[0].err
    assert results[0].out.count('Epoch(train) [1][4/4]') == 1
