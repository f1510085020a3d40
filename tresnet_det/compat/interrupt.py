"""Ctrl-C while a tool still imports what it needs, which takes seconds."""

import os
import signal
import sys
from pathlib import Path

from .installed import own_folder


def end_quietly() -> None:
    """Let Ctrl-C end a tool without a traceback until `run_tool` takes over; nothing in others."""
    alone = 'TORCHELASTIC_RUN_ID' not in os.environ  # torchrun's keep Python's, see `stopping`
    if alone and is_tool() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def is_tool() -> bool:
    """Whether this process was started as a tool: by its file, ``tresnet-det`` or ``python -m``."""
    words = getattr(sys, 'argv', None) or ['']  # a program around Python may set none
    if words[0] == '-m':  # until Python has found the module
        return sys.orig_argv[-len(words)].removeprefix('-m') == 'tresnet_det'
    file = Path(words[0]).resolve()  # of what is no file, such as -c, a name that does not exist
    return file.name == 'tresnet-det' or file.parent == own_folder('tools') and file.is_file()
