"""How a tool runs and ends: one line and a status, whatever stops it from outside."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from ..errors import LONGEST_LINE, InputError, printable, shorten
from .failures import blame_options, explain, lost_another, one_line

EXIT_USER_ERROR = 2
EXIT_PIPE = 141  # as shells report SIGPIPE


class Stop:
    """What a signal does to a tool: the first one is a KeyboardInterrupt, the next ends it at once.

    Attributes:
        number: Of the signal that came; None before.
    """

    NAMES = {
        signal.SIGINT: 'stopped by the keyboard',
        signal.SIGTERM: 'told to end (SIGTERM)',
        signal.SIGHUP: 'its terminal is gone (SIGHUP)',
    }

    def __init__(self) -> None:
        self.number: int | None = None
        self._told = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.number is not None:  # whoever asks twice does not wait for what is tidied up
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(self.tell())
        self.number = number
        raise KeyboardInterrupt

    def ask_again(self, swallowed: Any) -> None:
        """Send the signal again where a destructor got it: Python drops what these raise."""
        if self.number is None or swallowed.exc_type is not KeyboardInterrupt:
            sys.__unraisablehook__(swallowed)
            return
        again = threading.Timer(0.1, os.kill, (os.getpid(), self.number))  # out of this hook
        again.daemon = True
        self.number = None  # it is the first one once more
        again.start()

    def tell(self, *more: object) -> int:
        """Say once why the tool ends, and what to do; return its status, as shells report it."""
        number = self.number or signal.SIGINT
        if not self._told:
            self._told = True
            line = ': '.join([self.NAMES[signal.Signals(number)], *map(str, more)])
            with contextlib.suppress(OSError):
                os.write(2, f'{line}\n'.encode(errors='backslashreplace'))
        return 128 + number


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool; print a mistake of the user or a failure from outside as one line.

    The status is 2 then, 130 where the keyboard stopped it (143 and 129 for SIGTERM and SIGHUP),
    and 141, without a line, where nobody reads what it prints (``| head``). Of several processes
    any failure is one line, see :func:`~tresnet_det.engine.processes.tell_failure`.

    Args:
        main: The tool.

    Raises:
        SystemExit: It did not come to its end.
        Exception: What is no mistake of the user's and comes from no outside, as it is.
    """
    hush_stack()
    logging.raiseExceptions = False  # where a line of the log cannot be printed
    open_streams()
    with stopping() as stop:
        _run(main, stop)


def _run(main: Callable[[], None], stop: Stop) -> None:
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
        drop_output()
        sys.exit(stop.tell(*interrupt.args))
    except Exception as error:
        if stop.number is not None:  # mmengine makes a SyntaxError of it where it writes a config
            drop_output()
            sys.exit(stop.tell())
        if threading.current_thread() is threading.main_thread():
            # There, DataLoader raises for each worker that has died: once is enough.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        line = explain(error) or blame_options(error)
        drop_output()
        if isinstance(error, BrokenPipeError) and line is None:
            sys.exit(EXIT_PIPE)
        line = line and shorten(printable(line), LONGEST_LINE)
        processes = _processes()
        if processes and processes.are_several():
            said = line or f'{type(error).__name__}: {one_line(error)}'
            processes.tell_failure(error, said, line is not None, lost_another(error))
        elif line is None:
            raise
        else:
            with contextlib.suppress(OSError):
                print(f'error: {line}', file=sys.stderr)
        sys.exit(EXIT_USER_ERROR if line else 1)


def hush_stack() -> None:
    """Drop warnings of the stack below that nobody can act on."""
    for remark in (
        'torch.meshgrid',
        '`broadcast_buffers` is deprecated',
        "'pin_memory' argument is set as true but no accelerator is found",
        'pkg_resources is deprecated',
        'Detected call of `scheduler.step',  # before the first step of accumulated gradients
        'Grad strides do not match bucket view strides',  # of 1x1 convolutions
    ):
        warnings.filterwarnings('ignore', message=remark)


def _processes() -> Any:
    """Return the module of a run's processes; None in a tool without, which imports no PyTorch."""
    return sys.modules.get('tresnet_det.engine.processes')


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Let signals stop a tool in an orderly way; not those that whoever started it has handled.

    In torchrun's processes they stay what they are: by SIGTERM it ends those that are left over.
    """
    stop, before, hook = Stop(), {}, sys.unraisablehook
    if threading.current_thread() is threading.main_thread():
        for number in Stop.NAMES if 'TORCHELASTIC_RUN_ID' not in os.environ else ():
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, stop)
        sys.unraisablehook = stop.ask_again
    try:
        yield stop
    finally:
        sys.unraisablehook = hook
        if stop.number is None:  # else the next signal finds it until the process is gone
            for number, handler in before.items():
                signal.signal(number, handler)


def _leave_signals_to_parent() -> None:
    """In a worker: the keyboard is its parent's matter, which ends it by SIGTERM."""
    for number in Stop.NAMES:
        if isinstance(signal.getsignal(number), Stop):
            keyboard = number == signal.SIGINT
            signal.signal(number, signal.SIG_IGN if keyboard else signal.SIG_DFL)


os.register_at_fork(after_in_child=_leave_signals_to_parent)


def open_streams() -> None:
    """Open what was closed of stdin, stdout and stderr (``2>&-``): else a file gets its number."""
    for number, (name, mode) in enumerate((('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w'))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def drop_output() -> None:
    """Let what cannot be printed go nowhere, instead of failing once more at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
