"""What can be wrong with a file: structural faults in trees of values, and faults in bytes.

The fast suite draws the same few examples each time. Many more, and new ones each time:

  python -m pytest tests -k fuzz --hypothesis-profile=bulk
"""

import contextlib
import copy
import io
import json
import os
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import strategies as st
from PIL import Image

from tresnet_det.cli.check_data import read_image
from tresnet_det.errors import InputError
from tresnet_det.readers.config import find_sources
from tresnet_det.readers.findings import Findings
from tresnet_det.readers.layouts import find_layout
from tresnet_det.readers.prepare import prepare_splits
from tresnet_det.readers.report import inspect_data

NAN, INF = float('nan'), float('inf')
DEEP = [[]]
for _ in range(60):
    DEEP = [DEEP]
ODD = (
    None, True, False, 0, 1, 2, -1, 7, 1.0, 2.5, -0.5, 1e-320, 1e308, -1e308, NAN, INF, -INF,
    10**18, 10**30, -(10**30), '', ' ', 'x', '1', '7', 'nan', '-1', 'cat', 'a.png', '../a.png',
    '/etc/passwd', '.', '..', 'a\0b', 'a\nb', 'ü', '\ud800', '\u202egnp.a', 'x' * 300, [], [1],
    [1, 2, 3, 4], [NAN] * 4, {}, {'id': 1}, [[]], [None], DEEP,
)  # fmt: skip
_BUFFER = io.BytesIO()
Image.new('RGB', (40, 30)).save(_BUFFER, 'PNG')
IMAGE = _BUFFER.getvalue()  # 40 x 30
SECONDS = 5.0  # of one call on one core; a file of a few hundred bytes must not hang anything


def paths(tree, path=()):
    """Yield the way to every value in a tree of dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)) and len(path) < 6:
            yield from paths(value, (*path, key))


@st.composite
def broken_trees(draw, tree, most=3):
    """Draw a copy of a tree with up to ``most`` faults: keys gone, values swapped, and so on."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(0, most))):
        ways = list(paths(tree))
        if not ways:
            break
        *way, key = draw(st.sampled_from(ways))
        holder = tree
        for step in way:
            holder = holder[step]
        action = draw(st.sampled_from(('odd', 'odd', 'drop', 'twice', 'swap')))
        if action == 'drop':
            del holder[key]
        elif action == 'odd':
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif action == 'twice' and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:  # a value from elsewhere in the tree
            other = tree
            for step in draw(st.sampled_from(ways)):
                try:
                    other = other[step]
                except (KeyError, IndexError, TypeError):
                    break  # just moved or removed
            holder[key] = copy.deepcopy(other)
    return tree


@st.composite
def broken_bytes(draw, data):
    """Draw bytes with one fault: cut, another encoding, NULs, other line ends, noise."""
    text = data.decode('utf-8', 'surrogateescape')
    action = draw(st.sampled_from(BYTE_FAULTS))
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    if action == 'cut':
        return data[:at]
    if action == 'flip':
        return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    if action == 'insert':
        return data[:at] + draw(st.binary(min_size=1, max_size=6)) + data[at:]
    if action == 'nul':
        return data[:at] + b'\0' + data[at:]
    if action == 'repeat':
        return data[:at] + data
    if action == 'deep':
        return draw(st.sampled_from((b'[', b'{"a":', b'<a>', b'- '))) * 20000
    encoded = {
        'utf-16': text.encode('utf-16', 'replace'),
        'utf-8-sig': b'\xef\xbb\xbf' + data,
        'latin-1': ('ü' + text).encode('latin-1', 'replace'),
        'crlf': data.replace(b'\n', b'\r\n'),
        'cr': data.replace(b'\n', b'\r'),
        'empty': b'',
        'blank': b' \n\t\n',
        'pickle': b'\x80\x04K\x01.',
        'zip': b'PK\x03\x04' + data,
        'nuls': b'\0' * len(data),
    }
    return encoded.get(action, data)


BYTE_FAULTS = (
    'none', 'cut', 'cut', 'flip', 'flip', 'insert', 'nul', 'repeat', 'deep', 'utf-16', 'utf-8-sig',
    'latin-1', 'crlf', 'cr', 'empty', 'blank', 'pickle', 'zip', 'nuls',
)  # fmt: skip
# In place of a file: a folder, a link to itself, to nothing, nothing.
PLACE_FAULTS = ('file',) * 12 + ('folder', 'loop', 'dangling', 'absent')


def place(path, data, how):
    """Write a file, or what stands in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if how == 'folder':
        path.mkdir()
    elif how == 'loop':
        path.symlink_to(path.name)
    elif how == 'dangling':
        path.symlink_to('nowhere')
    elif how == 'file':
        path.write_bytes(data)


@contextlib.contextmanager
def folder():
    """A folder of one example, in memory where that is known to be possible."""
    memory = '/dev/shm'
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def attempt(call, *names):
    """Call; return what it returns, or None where it raised InputError in one line with a name.

    Args:
        call: Of no argument.
        names: The message has to have one of them.
    """
    start = time.process_time()
    try:
        result = call()
    except InputError as error:
        message = str(error)
        assert len(message.splitlines()) == 1, repr(message)
        assert any(str(name) in message for name in names), message
        assert len(message) < 2500, message
        result = None
    except Exception as error:  # whatever it is, it is a traceback for the user
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise AssertionError(
            f'{type(error).__name__}: {str(error)[:200]} at {where.filename}:{where.lineno}'
        ) from error
    assert time.process_time() - start < SECONDS
    return result


def prepare(root, out, task='detection'):
    """Make a folder ready for a training, as ``--data`` does."""
    return prepare_splits(find_layout(root, task), task, out)


def inspect(root, path=None):
    """Return the report of the check of data, None where it refuses to begin."""
    findings = Findings()
    try:
        sources = find_sources(findings, path or root)
    except InputError:
        return None
    report = attempt(lambda: inspect_data(sources, findings, read_image=read_image), root)
    json.dumps(report and report.as_dict())
    return report
