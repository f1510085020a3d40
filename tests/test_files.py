"""Files that are there whole or not at all."""

import errno
import os
import resource
import signal

import pytest

from tresnet_det.errors import InputError
from tresnet_det.files import UNFINISHED, remove_unfinished, replacing, write_whole
from tresnet_det.readers.files import read_json

OLD, NEW = b'old' * 1000, b'new' * 2000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(OLD)
    return path


def test_the_content_is_on_the_disk_before_it_gets_its_name_and_the_name_after(path, monkeypatch):
    calls = []
    kinds = {'fsync': os.fsync, 'replace': os.replace}

    def note(kind):
        def call(*args):
            what = 'folder' if kind == 'fsync' and os.path.isdir(f'/proc/self/fd/{args[0]}') else ''
            calls.append((kind + what, path.read_bytes() == NEW))
            return kinds[kind](*args)

        return call

    for kind in kinds:
        monkeypatch.setattr(os, kind, note(kind))
    write_whole(path, NEW)
    assert calls == [('fsync', False), ('replace', False), ('fsyncfolder', True)]
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(path, monkeypatch, step):
    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match=r'No space left on device \(0.0 MB to write, .* MB free\)'):
        write_whole(path, NEW)
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == [path.name]


def test_the_system_stops_a_write_in_its_middle(path):
    """By the limit of a file's size, which the kernel enforces as it does a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match='File too large') as caught:
            write_whole(path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == [path.name]


def test_only_what_was_being_written_is_removed(path):
    for name in ('epoch_2.pth' + UNFINISHED, 'last_checkpoint' + UNFINISHED, 'notes.part'):
        (path.parent / name).write_bytes(b'half')
    names = remove_unfinished(path.parent)
    assert names == ['epoch_2.pth' + UNFINISHED, 'last_checkpoint' + UNFINISHED]
    assert sorted(os.listdir(path.parent)) == ['epoch_1.pth', 'notes.part']


def test_a_name_to_write_to_takes_the_place_once_it_is_whole(path):
    with replacing(path) as temporary:
        temporary.write_bytes(NEW)
        assert (temporary.parent, temporary.suffix) == (path.parent, path.suffix)
        assert path.read_bytes() == OLD
    assert path.read_bytes() == NEW
    assert os.listdir(path.parent) == [path.name]


def test_after_an_exception_the_old_content_is_there_and_nothing_else(path):
    def fail():
        with replacing(path) as temporary:
            temporary.write_bytes(NEW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == [path.name]


def test_gigabytes_that_were_never_written_are_told_by_their_start(path):
    with path.open('wb') as file:
        file.truncate(3 << 30)
    with pytest.raises(InputError, match='begins with 1048576 zeros'):
        read_json(path)
