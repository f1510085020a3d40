"""How a tool ends: its exit status and its one line, in a process forked from the test's."""

import os
import signal
import sys

import pytest

from tresnet_det.cli.ending import run_tool
from tresnet_det.errors import InputError


def interrupt():
    # A shell starts what is in the background with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)


def mistake():
    raise InputError('data/train.json: has no images\nadd some')


def fault():
    raise ZeroDivisionError('of the program')


def lost_file():
    open('/nowhere/file')  # noqa: SIM115


@pytest.fixture
def end(tmp_path):
    """Run a function as a tool, its stdout in a file or a given descriptor."""

    def call(main, stdout=None):
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
        (mistake, 2, 'error: data/train.json: has no images add some\n'),
        (lost_file, 2, 'error: /nowhere/file: No such file or directory\n'),
        (fault, 99, 'raised ZeroDivisionError\n'),
    ],
)
def test_what_ends_a_tool_is_its_status_and_one_line(end, main, status, line):
    assert end(main) == (status, line)


def test_a_closed_pipe_ends_it_without_a_word(end):
    reader, writer = os.pipe()
    os.close(reader)
    assert end(lambda: print('nobody reads this'), writer) == (141, '')
    os.close(writer)
