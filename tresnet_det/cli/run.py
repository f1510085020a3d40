"""Run a tool: what goes wrong from outside is one line and an exit status."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable

from ..engine import processes
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
        main()
        sys.stdout.flush()  # a closed pipe shows here, not at exit
        processes.leave()
    except KeyboardInterrupt as interrupt:
        print(': '.join(['stopped by the keyboard', *map(str, interrupt.args)]), file=sys.stderr)
        sys.exit(EXIT_KEYBOARD)
    except Exception as error:
        if threading.current_thread() is threading.main_thread():
            # There, DataLoader raises for each worker that has died: once is enough.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        line = explain(error)
        if isinstance(error, BrokenPipeError) and line is None:
            # What is left in the buffer goes nowhere, instead of failing once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_PIPE)
        if processes.are_several():
            said = line or f'{type(error).__name__}: {one_line(error)}'
            processes.tell_failure(error, said, line is not None, lost_another(error))
        elif line is None:
            raise
        else:
            print(f'error: {line}', file=sys.stderr)
        sys.exit(EXIT_USER_ERROR if line else 1)
