"""Fetch a large zip over HTTP so that an interruption costs little, and unpack it safely."""

import errno
import http.client
import lzma
import os
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte
ATTEMPTS = 5  # in a row that bring nothing new
PAUSE = 2  # seconds, longer with each attempt that gets nothing
TEMPORARY = (408, 429)  # "request timeout" and "too many requests"
NETWORK_ERRORS = (OSError, http.client.HTTPException)
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def remote_size(url: str) -> int | None:
    """Ask a server for a file's size in bytes; None where it does not say.

    Raises:
        InputError: The address is no HTTP address, the file does not exist, or no server answers.
    """
    if not url.startswith(('http://', 'https://')):
        raise InputError(f'{url}: not an address that starts with http:// or https://')
    try:
        request = urllib.request.Request(url, method='HEAD')
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            length = response.headers.get('Content-Length')
    except urllib.error.HTTPError as error:
        if error.code in (403, 405, 501):  # some servers refuse the question, not the file
            return None
        raise _network_error(url, error) from None
    except NETWORK_ERRORS as error:
        raise _network_error(url, error) from None
    return int(length) if length else None


def download(url: str, target: Path, size: int | None) -> None:
    """Fetch ``url`` into ``target``, going on from ``target``'s ``.part`` file where there is one.

    Where the size is not known, nothing tells whether that file is of the same one: it is dropped.
    A connection that breaks is taken up again; a bar shows the progress and the time left.

    Args:
        url: Where it is.
        target: The file to write. It appears when it is complete.
        size: Its size in bytes; None where the server does not say.

    Raises:
        InputError: The network fails, the disk is full, or the size is wrong in the end.
    """
    from tqdm import tqdm

    part = target.with_name(f'{target.name}.part')
    target.parent.mkdir(parents=True, exist_ok=True)
    if part.exists() and (size is None or part.stat().st_size > size):
        part.unlink()  # of another file by that name, or nothing tells
    have = part.stat().st_size if part.exists() else 0
    failures = 0
    with tqdm(total=size, initial=have, unit='B', unit_scale=True, desc=target.name) as bar:
        while size is None or have < size:
            failure = _fetch_rest(url, part, have, bar)
            now = part.stat().st_size if part.exists() else 0
            failures = 0 if now > have else failures + 1
            have = now
            if size is None and failure is None:
                break
            if failures >= ATTEMPTS:
                kept = f'; the {have} bytes got so far are kept'
                raise _network_error(url, failure or 'nothing comes', kept)
            time.sleep(failures * PAUSE)
    if size is not None and have != size:
        part.unlink()
        raise InputError(f'{url}: gave {have} bytes instead of {size}; run it again')
    part.replace(target)


def _fetch_rest(url: str, part: Path, have: int, bar: Any) -> Exception | None:
    """Append what the server gives to ``part``; returns a failure that may pass by itself.

    Raises:
        InputError: A failure that stays: the file does not exist, the disk is full.
    """
    headers = {'Range': f'bytes={have}-'} if have else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            resumed = response.status == 206
            given = response.headers.get('Content-Range', '')
            if resumed and not given.startswith(f'bytes {have}-'):
                return ConnectionError('the server gave another range than asked')
            if have and not resumed:  # the server knows no ranges: from the start
                bar.reset(bar.total)
            with _disk(part), open(part, 'ab' if resumed else 'wb') as file:
                while chunk := _receive(response):
                    file.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code < 500 and error.code not in TEMPORARY:
            raise _network_error(url, error) from None
        return error
    except (_Interrupted, OSError, http.client.HTTPException) as error:
        return error
    return None


class _Interrupted(Exception):  # noqa: N818 - tells the network's errors from the disk's
    """The connection broke while data was coming in."""


def _receive(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(str(error)) from error


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turn what the disk reports into one line."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            why = 'the disk is full; make room and run it again, it resumes there'
        else:
            why = f'cannot be written ({error.strerror or error})'
        raise InputError(f'{path}: {why}') from None


def _network_error(url: str, error: Exception | str, more: str = '') -> InputError:
    if isinstance(error, urllib.error.HTTPError):
        return InputError(
            f'{error.url}: the server answers {error.code} {error.reason}{more}; '
            '--base-url names another server, --year another year'
        )
    reason = getattr(error, 'reason', None) or error
    return InputError(f'{url}: no connection ({reason}); run it again, it resumes there{more}')


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into an existing, empty folder; each member's checksum is tested on the way.

    Raises:
        InputError: A member's name leads out of the folder, or it is a link or a device (found
            before anything is written); the archive is corrupt, or the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = content.infolist()
            for member in members:
                _check_member(archive, member)
            need, free = sum(m.file_size for m in members), shutil.disk_usage(folder).free
            if need > free:
                raise InputError(f'{folder}: has {free} bytes free, {archive} unpacks to {need}')
            with _disk(folder):
                for member in members:
                    content.extract(member, folder)
    except ZIP_ERRORS as error:
        raise InputError(
            f'{archive}: corrupt ({error}); delete it and run again, it is downloaded again'
        ) from None


def _check_member(archive: Path, member: zipfile.ZipInfo) -> None:
    # As it stands in the file, where zipfile repairs some silently when it extracts; and as zipfile
    # takes it, which newer ones read from a second place in the file.
    names = {member.orig_filename, member.filename}
    kind = stat.S_IFMT(member.external_attr >> 16)
    if '' in names:
        why = 'has no name'
    elif any(map(_leads_out, names)):
        why = 'leads out of the folder'
    elif kind == stat.S_IFLNK:
        why = 'is a link'
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):  # 0: packed where modes are not known
        why = 'is neither a file nor a folder'
    else:
        return
    raise InputError(
        f'{archive}: the member {member.orig_filename!r} {why}; nothing was unpacked, '
        'do not trust this archive'
    )


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name.replace('\\', '/'))
    drive = name[1:2] == ':'
    return path.is_absolute() or drive or '..' in path.parts or '\0' in name


def files_below(folder: Path) -> set[str]:
    """Return the names of the files in a folder that are not empty, without its subfolders."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file() and entry.stat().st_size > 0}
