"""How a tool ends: its exit status and its one line, in a process forked from the test's.

And what tools leave where the disk is full: nothing half-written.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from tresnet_det.cli.ending import run_tool
from tresnet_det.errors import InputError


def interrupt():
    # A shell starts what is in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_twice():
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))  # see above
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)  # it does not wait for this


def receive(number):
    def main():
        os.kill(os.getpid(), number)
        time.sleep(60)

    return main


def make_another_error_of_it():
    try:
        receive(signal.SIGTERM)()
    except KeyboardInterrupt:
        raise SyntaxError('a whole config') from None


class Destructor:
    def __del__(self):
        receive(signal.SIGTERM)()


def interrupt_a_destructor():
    Destructor()
    time.sleep(60)


def worker_of_the_keyboard():
    """What a fork does with signals: the keyboard is its parent's matter, SIGTERM ends it."""
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr)


def write_and_print():
    with open('file', 'w') as file:
        print('to nobody')
        print('to nobody', file=sys.stderr)
        os.write(2, b'from C')
        file.write('data')


def mistake():
    raise InputError('data/train.json: has no images\nadd some')


def mistake_of_a_million_letters():
    raise InputError(f'data/train.json: {"x" * 10**6}: rename it')


def fault():
    raise ZeroDivisionError('of the program')


def lost_file():
    open('/nowhere/file')  # noqa: SIM115


@pytest.fixture
def end(tmp_path):
    """Run a function as a tool, its stdout in a file or a given descriptor."""

    def call(main, stdout=None, closed=None):
        out, err = tmp_path / 'out', tmp_path / 'err'
        child = os.fork()
        if not child:
            code = 99
            try:
                for number, path in ((1, out), (2, err)):
                    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
                if stdout is not None:
                    os.dup2(stdout, 1)
                sys.stdout, sys.stderr = (open(n, 'w', closefd=False) for n in (1, 2))  # noqa: SIM115
                if closed is not None:
                    os.close(closed)
                    setattr(sys, ('', 'stdout', 'stderr')[closed], None)  # as Python does
                for number in (signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_DFL)  # whatever the test was started with
                run_tool(main)
                code = 0
            except SystemExit as stop:
                code = stop.code
            except Exception as error:
                print(f'raised {type(error).__name__}', file=sys.stderr)
            finally:
                sys.stderr.flush()
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, err.read_text()

    return call


@pytest.mark.parametrize(
    ('main', 'status', 'line'),
    [
        (lambda: print('well'), 0, ''),
        (interrupt, 130, 'stopped by the keyboard\n'),
        (interrupt_twice, 130, 'stopped by the keyboard\n'),
        (receive(signal.SIGTERM), 143, 'told to end (SIGTERM)\n'),
        (receive(signal.SIGHUP), 129, 'its terminal is gone (SIGHUP)\n'),
        (make_another_error_of_it, 143, 'told to end (SIGTERM)\n'),
        (interrupt_a_destructor, 143, 'told to end (SIGTERM)\n'),
        (worker_of_the_keyboard, 0, f'{-signal.SIGTERM}\n'),
        (mistake, 2, 'error: data/train.json: has no images add some\n'),
        (lost_file, 2, 'error: /nowhere/file: No such file or directory\n'),
        (fault, 99, 'raised ZeroDivisionError\n'),
    ],
)
def test_what_ends_a_tool_is_its_status_and_one_line(end, main, status, line):
    assert end(main) == (status, line)


def test_a_name_of_a_million_letters_is_cut_and_what_to_do_is_not(end):
    status, line = end(mistake_of_a_million_letters)
    assert (status, len(line)) == (2, len('error: ') + 1000 + len('\n'))
    assert line.startswith('error: data/train.json: xxx')
    assert line.endswith('xxx: rename it\n')


def test_a_closed_pipe_ends_it_without_a_word(end):
    reader, writer = os.pipe()
    os.close(reader)
    assert end(lambda: print('nobody reads this'), writer) == (141, '')
    os.close(writer)


def test_a_full_disk_behind_stdout_is_one_line(end):
    with open('/dev/full', 'w') as full:
        status, line = end(lambda: print('well'), full.fileno())
    assert (status, line.count('\n')) == (2, 1)
    assert line.startswith('error: No space left on device: what this writes or prints')


INTERRUPT = 'import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)'


@pytest.fixture
def interrupt_import(tmp_path, project_root):
    """Start Python in ``tools/``, and interrupt it as it imports a module."""

    def call(module, *words):
        (tmp_path / f'{module}.py').write_text(INTERRUPT)
        (tmp_path / 'other.py').write_text('import tresnet_det')
        return subprocess.run(
            [sys.executable, *words],
            cwd=project_root / 'tools',
            env=os.environ | dict(PYTHONPATH=f'{tmp_path}{os.pathsep}{project_root}'),
            # A shell starts what is in the background with SIGINT ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            capture_output=True,
        )

    return call


@pytest.mark.parametrize(
    ('module', 'words'),
    [
        ('torch', ['../tools/train.py']),
        ('torch', ['-m', 'tresnet_det', 'train']),
        ('numpy', ['evaluate.py']),
    ],
    ids=['file', 'module', 'without torch'],
)
def test_the_keyboard_ends_a_tool_that_is_still_importing(interrupt_import, module, words):
    done = interrupt_import(module, *words)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b'', b'')


@pytest.mark.parametrize('words', [['-c', 'import other'], ['-m', 'other', 'tresnet_det']])
def test_the_keyboard_stays_what_it_is_in_other_programs(interrupt_import, words):
    assert b'KeyboardInterrupt' in interrupt_import('torch', *words).stderr


@pytest.mark.parametrize('closed', [1, 2])
def test_a_closed_stream_is_no_file_of_the_tools(end, closed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, err = end(write_and_print, closed=closed)
    assert (status, err) == (0, '' if closed == 2 else 'from Cto nobody\n')
    assert (tmp_path / 'file').read_text() == 'data'


@contextlib.contextmanager
def full_disk(room=16384):
    """Files end at so many bytes, which the kernel enforces as it does a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def commands(trained, tmp_path):
    one = trained('detection')
    ann = one.data_root / 'annotations/instances_val2017.json'
    image = json.loads(ann.read_text())['images'][0]
    boxes = [dict(image_id=image['id'], category_id=1, bbox=[1, 1, 9, 9], score=0.5)] * 99
    (tmp_path / 'found.json').write_text(json.dumps(boxes))
    images = one.data_root / 'val2017'
    predict = (
        f'predict {one.config} {one.checkpoint} {images} --out-dir out --score-thr 0 --cfg-options '
    )
    predict += 'model.test_cfg.max_per_img=500 model.test_cfg.nms.iou_threshold=1.0'
    return {
        'predict': f'{predict} --no-images',
        'predict csv': f'{predict} --no-images --format csv',
        'predict images': predict,
        'convert_weights': f'convert_weights {one.checkpoint} out/timm.pth --to timm',
        'safetensors': f'convert_weights {one.checkpoint} out/a.safetensors --to timm',
        'publish_weights': f'publish_weights {one.checkpoint} --out-dir out',
        'evaluate': f'evaluate {ann} found.json --out out',
        'make_demo_data': 'make_demo_data --num-train 2 --num-val 2 --size 128 --out-dir out',
    }


@pytest.mark.parametrize('name', [
    'predict', 'predict csv', 'predict images', 'convert_weights', 'safetensors',
    'publish_weights', 'evaluate', 'make_demo_data',
])  # fmt: skip
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    name, commands, run, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        'tresnet_det.datasets.transforms.SLOTS', 1024
    )  # of shared memory, files too
    (tmp_path / 'out').mkdir()
    with full_disk():
        error = run(*commands[name].split()).error
    assert error.startswith('error: out') or f'error: {tmp_path / "out"}' in error
    assert 'File too large' in error
    left = [path for path in tmp_path.rglob('*') if path.is_file()]
    assert not [path for path in left if path.name.startswith('.') or '.unfinished' in path.name]
    assert not [path for path in left if path.stat().st_size in (0, 16384)]
