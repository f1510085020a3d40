"""The run over all that a GPU can answer: what fails is skipped, rows stay, and what it answers."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tresnet_det.profiling import gpu, gpu_steps
from tresnet_det.profiling.gpu import Run, Step, run_steps
from tresnet_det.profiling.gpu_summary import summarize
from tresnet_det.profiling.timing import Workload


@pytest.fixture
def dry(tmp_path):
    return Run(tmp_path, torch.device('cpu'), dry=True)


def works(run):
    run.add('speed', {'model': 'a'})


def raises(run):
    run.add('speed', {'model': 'b'})
    raise RuntimeError('CUDA error: an illegal memory access\nCompile with TORCH_USE_CUDA_DSA')


def runs_out_of_memory(run):
    raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')


def hangs(run):
    (run.out / 'pids').write_text(str(os.getpid()))
    child = os.fork()
    if child:
        (run.out / 'pids').write_text(f'{os.getpid()} {child}')
    time.sleep(600)


def dies(run):
    os._exit(7)


@pytest.mark.parametrize(
    ('measure', 'seconds', 'why'),
    [
        (raises, 60, 'RuntimeError: CUDA error: an illegal memory access Compile with'),
        (runs_out_of_memory, 60, 'OutOfMemoryError: CUDA out of memory. Tried'),
        (hangs, 0.5, 'out of time: stopped after 0 s'),
        (dies, 60, 'its process ended with code 7'),
        (works, 0, 'out of time: the steps before took all of it'),
    ],
    ids=lambda value: getattr(value, '__name__', None),
)
def test_a_step_is_skipped_with_one_line_and_the_others_run(measure, seconds, why, dry, capfd):
    steps = {'first': Step(works, 60), 'bad': Step(measure, seconds), 'last': Step(works, 60)}
    run_steps(steps, dry)
    assert [row['model'] for row in dry.rows('speed')] == ['a', *['b'] * (measure is raises), 'a']
    (skipped,) = dry.rows('skipped')
    assert skipped['what'] == 'bad'
    assert skipped['why'].startswith(why)
    assert capfd.readouterr().err == f'skipped: bad: {skipped["why"]}\n'
    if measure is hangs:  # nothing that it started is left
        pids = (dry.out / 'pids').read_text().split()
        wait_until(lambda: not any(map(runs, pids)))


def test_what_a_step_has_started_ends_with_the_run(dry):
    run = multiprocessing.get_context('fork').Process(
        target=run_steps, args=({'hangs': Step(hangs, 60)}, dry)
    )
    run.start()
    pids = dry.out / 'pids'
    wait_until(lambda: pids.is_file() and ' ' in pids.read_text())
    run.kill()
    run.join()
    wait_until(lambda: not any(map(runs, pids.read_text().split())))


def wait_until(holds):
    """Wait up to a minute."""
    for _ in range(1200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError


def runs(pid):
    state = Path(f'/proc/{pid}/stat')
    return state.exists() and state.read_text().rpartition(') ')[2][0] != 'Z'


def test_a_layer_that_raises_in_one_precision_has_failed_there(dry, monkeypatch):
    errors = gpu_steps._errors

    def fail(found, expected, dtype):
        if dtype == torch.float16:
            raise RuntimeError('no kernel')
        return errors(found, expected, dtype)

    monkeypatch.setattr(gpu_steps, '_errors', fail)
    gpu_steps._check(dry, 'torch', 'identity')
    passed = {(row['precision'], row['passed']) for row in dry.rows('correctness')}
    assert passed == {('fp32', 'True'), ('fp16', 'False'), ('bf16', 'True')}


def test_the_last_step_has_the_time_that_is_left_and_all_steps_eight_minutes(dry):
    def note(run):
        run.add('speed', {'left': run.left})

    run_steps({'a': Step(note, 50), 'b': Step(note, 50)}, dry)
    first, last = (row['left'] for row in dry.rows('speed'))
    assert first <= 50 < last <= gpu.SECONDS <= 8 * 60
    assert sum(step.seconds for step in gpu_steps.STEPS.values()) == gpu.SECONDS


def test_a_second_run_adds_rows_under_its_own_name(tmp_path):
    cpu = torch.device('cpu')
    for number in range(2):
        run = Run(tmp_path, cpu, started=f'run {number}')
        run.add('speed', {'model': 'a', f'column {number}': number})
        run.attempt('part', lambda: 1 / 0)
        run.attempt('other', lambda: 1 / 0, seconds=10**6)
    assert [row['run'] for row in gpu.read_rows(tmp_path / 'speed.csv')] == ['run 0', 'run 1']
    (row,) = run.rows('speed')
    assert row == {'run': 'run 1', 'model': 'a', 'column 0': None, 'column 1': 1}
    part, other = run.rows('skipped')
    assert part['why'] == 'ZeroDivisionError: division by zero'
    assert other['why'].startswith('out of time: ')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['skipped.csv', 'speed.csv']


def test_every_contest_of_a_speed_step_is_skipped_by_itself(dry, monkeypatch):
    compared = []

    def compare(run, base, name, mode, tasks):
        compared.append((name, mode))
        if 'triton' in name:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(gpu_steps, '_compare', compare)
    gpu_steps.measure_speed(dry, 64, gpu_steps.MODES)
    assert [row['what'] for row in dry.rows('skipped')] == [
        'tresnet_m_triton, eager, batch 64',
        'tresnet_m_triton, graphs, batch 64',
    ]
    assert ('timm:tresnet_m', 'compile') in compared


def test_without_the_data_of_bccd_and_without_a_gpu_there_is_one_line(tmp_path):
    run = Run(tmp_path, torch.device('cpu'), bccd=str(tmp_path / 'none'))
    run.attempt('bccd', lambda: gpu_steps.train_on_bccd(run))
    run.attempt('graphs', lambda: gpu_steps.capture(Workload(lambda: None, 1)))
    bccd, graphs = (row['why'] for row in run.rows('skipped'))
    assert 'instances_train.json does not exist: give --data-root DIR' in bccd
    assert graphs == 'InputError: CUDA graphs need a GPU'


def test_a_wrong_layer_does_not_pass(dry, monkeypatch):
    build = gpu_steps._layer

    def wrong(kind, backend, sync=False):
        layer = build(kind, backend)
        layer.register_forward_hook(lambda module, inputs, y: y * (1 + 1e-4 * (backend != 'torch')))
        return layer

    monkeypatch.setattr(gpu_steps, '_layer', wrong)
    monkeypatch.setattr(gpu_steps, 'PRECISIONS', {'fp32': torch.float32})
    gpu_steps._check(dry, 'torch', 'identity')
    gpu_steps._check(dry, 'auto', 'identity')
    assert [row['passed'] for row in dry.rows('correctness')] == ['True'] * 2 + ['False'] * 2


def answer(run, triton, compiled, passed=True, others=()):
    """The summary of a run with these training ratios of Triton and of torch.compile."""
    speeds = [('tresnet_m', 'eager', 1.0), ('tresnet_m_triton', 'eager', triton)]
    for name, mode, ratio in [*speeds, ('tresnet_m', 'compile', compiled), *others]:
        if ratio is not None:
            ratios = dict(training_ratio=ratio, training_ratio_min=ratio - 0.1)
            row = dict(model=name, mode=mode, batch_size=256, **ratios)
            run.add('speed', row | dict(training_ratio_max=ratio + 0.1))
    for backend in ('torch', 'triton'):
        run.add('correctness', dict(backend=backend, passed=True))
        run.add('correctness', dict(backend=backend, passed=passed))
    return summarize(run)


@pytest.mark.parametrize(
    ('arguments', 'default', 'words'),
    [
        (dict(triton=1.5, compiled=1.2), 'triton', 'win over torch.compile: 1.50 (1.40 - 1.60)'),
        (dict(triton=1.5, compiled=1.4), 'triton', 'win nothing over torch.compile'),
        (dict(triton=1.1, compiled=0.7), 'torch', 'win over torch.compile'),
        (dict(triton=2.0, compiled=1.0, passed=False), 'torch', 'do not use them'),
        (dict(triton=None, compiled=1.0), 'torch', 'no training speed of the Triton kernels'),
        (dict(triton=1.0, compiled=None), 'torch', 'no training speed of torch.compile'),
    ],
)
def test_the_summary_answers_which_backend_is_the_default(arguments, default, words, dry):
    dry.skip('memory', 'no reason')
    summary = answer(dry, **arguments)
    assert words in summary
    (row,) = (line for line in summary.splitlines() if line.endswith('  yes'))
    assert row.split()[0] == default
    assert 'memory  no reason' in summary


def test_an_empty_run_is_no_answer(dry):
    summary = summarize(dry)
    assert '  yes' not in summary
    assert 'Nothing was measured.' in summary


@pytest.mark.slow
def test_a_rehearsal_runs_every_step_on_the_cpu(project_root, tmp_path):
    command = [sys.executable, 'tools/benchmark.py', '--all', '--dry', '--out', str(tmp_path)]
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = ('device', 'correctness', 'speed', 'memory', 'detectors', 'bccd')
    rows = {name: gpu.read_rows(tmp_path / f'{name}.csv') for name in names}
    skipped = gpu.read_rows(tmp_path / 'skipped.csv')
    # What a rehearsal cannot do, and on a slow machine what took too long.
    known = ('CUDA graphs need a GPU', 'not installed', "backend='", 'out of time')
    assert [row for row in skipped if not any(words in row['why'] for words in known)] == []
    if not any('out of time' in row['why'] for row in skipped):
        assert all(rows.values())
        assert {row['mode'] for row in rows['speed']} == {'eager', 'compile'}
        assert [len(rows[name]) for name in ('detectors', 'bccd')] == [2, 1]
    assert all(row['passed'] == 'True' for row in rows['correctness'])
    assert (tmp_path / 'summary.md').read_text() in done.stdout
