"""How a tool is run, and what all tools share: types of options, and places for results."""

import argparse
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError, printable
from .failures import explain, lost_another, one_line

EXIT_USER_ERROR = 2
EXIT_KEYBOARD = 130  # as shells report SIGINT
EXIT_PIPE = 141  # and SIGPIPE


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool; print a mistake of the user or a failure from outside as one line.

    The status is 2 then, 130 where the keyboard stopped it, and 141, without a line, where nobody
    reads what it prints (``| head``). Of several processes any failure is one line, see
    :func:`~tresnet_det.engine.processes.tell_failure`.

    Args:
        main: The tool.

    Raises:
        SystemExit: It did not come to its end.
        Exception: What is no mistake of the user's and comes from no outside, as it is.
    """
    for remark in ('torch.meshgrid', '`broadcast_buffers` is deprecated'):
        warnings.filterwarnings('ignore', message=remark)
    try:
        if '' in sys.argv[1:]:  # it would count as an option that is not given
            before = ' '.join(sys.argv[1 : sys.argv.index('', 1)])
            raise InputError(f'an argument is empty, after {before!r}: is a variable not set?')
        main()
        sys.stdout.flush()  # a closed pipe shows here, not at exit
        processes = _processes()
        if processes:
            processes.leave()
    except KeyboardInterrupt as interrupt:
        print(': '.join(['stopped by the keyboard', *map(str, interrupt.args)]), file=sys.stderr)
        sys.exit(EXIT_KEYBOARD)
    except Exception as error:
        if threading.current_thread() is threading.main_thread():
            # There, DataLoader raises for each worker that has died: once is enough.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        line = explain(error) or _blame_options(error)
        if isinstance(error, BrokenPipeError) and line is None:
            # What is left in the buffer goes nowhere, instead of failing once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_PIPE)
        processes = _processes()
        if processes and processes.are_several():
            said = printable(line) if line else f'{type(error).__name__}: {one_line(error)}'
            processes.tell_failure(error, said, line is not None, lost_another(error))
        elif line is None:
            raise
        else:
            print(f'error: {printable(line)}', file=sys.stderr)
        sys.exit(EXIT_USER_ERROR if line else 1)


def _processes() -> Any:
    """Return the module of a run's processes; None in a tool without, which imports no PyTorch."""
    return sys.modules.get('tresnet_det.engine.processes')


def _blame_options(error: Exception) -> str | None:
    """Say that what fails before the first step of a training is an option of the config's."""
    from mmengine.logging import MessageHub

    options = sys.argv[sys.argv.index('--cfg-options') :] if '--cfg-options' in sys.argv else []
    started = MessageHub.get_current_instance().get_info('iter', 0)
    if not options or started or isinstance(error, OSError | MemoryError):
        return None
    keys = ' '.join(text.partition('=')[0] for text in options[1:] if '=' in text)
    return f'--cfg-options {keys}: {type(error).__name__}: {one_line(error)}'


def positive(text: str) -> int:
    """Return a whole number from 1, for ``type=`` of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number above 0')
    return int(text)


def share(text: str) -> float:
    """Return a number from 0 to 1, likewise."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not between 0 and 1')
    return value


def above_zero(text: str) -> float:
    """Return a finite number above 0, likewise."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text} is not a number above 0')
    return value


def out_folder(path: str | Path, option: str = '--out-dir') -> Path:
    """Make a folder for results, before minutes are spent on them.

    Raises:
        InputError: It cannot be made, or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{option} {folder} cannot be made: {error.strerror}') from error
    if not os.access(folder, os.W_OK):
        raise InputError(f'{option} {folder} cannot be written to')
    return folder


def out_file(path: str | Path, *endings: str) -> Path:
    """Return the file, or the beginning of files, that ``--out`` names; its folder is made.

    Args:
        path: As given.
        endings: What its name may end in, such as ``'.onnx'``; any, where there are none.

    Raises:
        InputError: The name ends otherwise, is a folder's, or cannot be written.
    """
    file = Path(path)
    if endings and file.suffix not in endings:
        raise InputError(f'--out {path}: give a file that ends in {" or ".join(endings)}')
    if endings and file.is_dir():
        raise InputError(f'--out {path} is a folder: give a file')
    out_folder(file.parent, f'--out {path}:')
    return file
