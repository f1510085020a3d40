"""What ends a tool from outside, in one line with its cause and what to do."""

import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, MissingFileError
from ..files import FULL

RESUME = '--resume continues from the last checkpoint'

_MEMORY = (
    'mostly because memory ran out: lower train_dataloader.num_workers or batch_size; ' + RESUME
)
_LOADER = ('utils', 'data', 'dataloader.py')  # torch's
_WORKER_ERROR = re.compile(r'^[\w.]+(Error|Exception): ')
_GONE = re.compile(r'(.*?): the image does not exist')
# Another process is gone, and what this one asked of it fails: the reason is there, not here.
_LOST = re.compile(
    r'Connection (closed by peer|reset by peer|refused)|Broken pipe|pair closure|Socket closed'
    r'|failed to recv, got 0 bytes|[Rr]emote process exited'
)
# By the texts of torch, what each means; groups of the pattern fill the line in.
_CAUSES = [
    (
        re.compile(r'DataLoader worker \(pid (?P<pid>\d+)\) is killed by signal: Killed'),
        'a data-loader worker (process {pid}) was killed from outside, ' + _MEMORY,
    ),
    (
        re.compile(r'DataLoader worker \(pid (?P<pid>\d+)\) is killed by signal: Bus error'),
        'a data-loader worker (process {pid}) found no shared memory left: make /dev/shm larger '
        '(docker run --shm-size=8g), or lower train_dataloader.num_workers; ' + RESUME,
    ),
    (
        re.compile(r'unable to .*</torch_\w+>.*: No space left on device'),
        'no shared memory is left: make /dev/shm larger (docker run --shm-size=8g), or remove '
        'what fills it',
    ),
    (
        re.compile(r'DataLoader worker \(pid (?P<pid>\d+)\) is killed by signal: (?P<name>[\w ]+)'),
        'a data-loader worker (process {pid}) ended by a signal ({name}): '
        'train_dataloader.num_workers=0 shows where; ' + RESUME,
    ),
    (
        re.compile(r'DataLoader worker \(pid\(s\) (?P<pid>[\d, ]+)\) exited unexpectedly'),
        'a data-loader worker (process {pid}) ended without a word, ' + _MEMORY,
    ),
    (
        re.compile(r'port: (?P<port>\d+).*EADDRINUSE', re.DOTALL),
        'port {port} is taken, by another training perhaps: choose another one '
        '(PORT={port} -> PORT=NUMBER before the command)',
    ),
    (
        re.compile(r'timed out after .*? connect to \((?P<host>.*?), (?P<port>\d+)\)', re.DOTALL),
        'no answer from {host}, port {port}, where the first process should be: start it, and look '
        'whether MASTER_ADDR is right and the port is open',
    ),
    (
        re.compile(r'Timed out waiting (?P<ms>\d+)ms'),
        'the other processes did not answer for {seconds:g} s: one of them hangs, or works longer '
        'than env_cfg.dist_cfg.timeout (seconds) allows; ' + RESUME,
    ),
    (
        re.compile("can't encode characters? .*surrogates not allowed"),
        "the name of a folder or file, perhaps the work directory's, is not UTF-8: rename it",
    ),
    (
        re.compile('SyncBatchNorm (layers only work with GPU|expected input tensor to be on)'),
        "norm_cfg=dict(type='SyncBN') shares statistics on GPUs only: on CPU processes, "
        "dict(type='InPlaceABN', sync=True) does",
    ),
]


def explain(error: BaseException) -> str | None:
    """Return one line for an error that is no fault of the program; None for any other.

    That is a user's mistake, a file or folder that cannot be used, a data-loader worker or another
    process that is gone, and a port that is taken.
    """
    if isinstance(error, MissingFileError):
        return _missing_folder(one_line(error)) or one_line(error)
    if isinstance(error, InputError):
        return one_line(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f'{error.filename}: {error.strerror}'
    if isinstance(error, OSError) and error.errno in FULL:
        return f'{error.strerror}: what this writes or prints does not fit where it goes'
    if isinstance(error, ConnectionError | EOFError) and _in_data_loader(error):
        return f'a data-loader worker ended without a word, {_MEMORY}'
    if not isinstance(error, RuntimeError | ValueError):
        return None
    if lost_another(error):
        return (
            'the connection to another process is lost: that one, or its node, has ended, and '
            'its own last line says why; ' + RESUME
        )
    for pattern, line in _CAUSES:
        found = pattern.search(str(error))
        if found:
            seconds = int(found.groupdict().get('ms', 0)) / 1000
            return line.format(**found.groupdict(), seconds=seconds)
    return None


def blame_options(error: Exception, keys: Sequence[str] | None = None) -> str | None:
    """Say that what fails is an option of the config's: before a training's first step any of them.

    Later it is one that validation alone reads, until a validation is done.

    Args:
        error: What failed.
        keys: The options; None for those of the command line.
    """
    from mmengine.logging import MessageHub

    if keys is None:
        options = sys.argv[sys.argv.index('--cfg-options') :] if '--cfg-options' in sys.argv else []
        keys = [text.partition('=')[0] for text in options[1:] if '=' in text]
    hub = MessageHub.get_current_instance()
    if hub.get_info('iter', 0):
        validated = any(re.match(r'val/.*(?<!time)$', name) for name in hub.log_scalars)
        keys = [key for key in keys if re.search(r'\bval_|\btest_cfg', key) and not validated]
    if not keys or isinstance(error, OSError | MemoryError):
        return None
    return f'--cfg-options {" ".join(keys)}: {type(error).__name__}: {one_line(error)}'


def _in_data_loader(error: BaseException) -> bool:
    """Whether it was raised while a batch of a worker was taken."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).parts[-3:] == _LOADER for frame in frames)


def lost_another(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    return isinstance(error, RuntimeError) and bool(_LOST.search(str(error)))


def one_line(error: BaseException) -> str:
    """Return an error's own message, without the traceback that a worker process sends along."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].startswith('Caught '):  # in a worker process: its traceback, the message last
        return _WORKER_ERROR.sub('', lines[-1])
    return ' '.join(lines)


def _missing_folder(line: str) -> str | None:
    """Name the folder, where it is not one image that is missing."""
    found = _GONE.match(line)
    if not found or Path(found[1]).parent.is_dir():
        return None
    gone = Path(found[1]).parent
    while not gone.parent.is_dir():
        gone = gone.parent
    return f'{found[1]}: the folder {gone} is gone: bring it back, or mount it again; {RESUME}'
