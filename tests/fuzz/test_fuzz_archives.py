"""Whatever an archive's members are called: they are unpacked inside its folder, or refused."""

import io
import stat
import struct
import zipfile

from fuzz_mutations import attempt, broken_bytes, folder
from hypothesis import example, given
from hypothesis import strategies as st

from tresnet_det.datasets.archives import unpack

NAMES = (
    'a.txt', 'val/0.jpg', 'val/', '../a', 'val/../../a', '/a', '//host/a', '..\\a', 'C:a', 'C:\\a',
    'c:/a', 'a\0b', '.', '..', 'a/./b', 'a//b', 'val/..', '~/a', 'val', 'a' * 300, 'ü/ä', '\\a',
    'val\\0.jpg', 'con', ' ',
)  # fmt: skip
KINDS = (
    0,
    stat.S_IFREG,
    stat.S_IFDIR,
    stat.S_IFLNK,
    stat.S_IFCHR,
    stat.S_IFBLK,
    stat.S_IFIFO,
    stat.S_IFSOCK,
)
members = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(NAMES), st.text(min_size=1, max_size=12)), st.sampled_from(KINDS)
    ),
    max_size=4,
    unique_by=lambda entry: entry[0],
)


def pack(entries, packed=zipfile.ZIP_STORED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w', packed) as archive:
        for name, kind in entries:
            member = zipfile.ZipInfo('x')
            member.filename = name.encode('utf-8', 'replace').decode()
            member.external_attr = (kind | 0o644) << 16
            content = b'../../escaped' if kind == stat.S_IFLNK else b'content'
            archive.writestr(member, content, packed)
    return data.getvalue()


def unpack_in_a_folder(data):
    with folder() as root:
        archive, target = root / 'archive.zip', root / 'deep/er/target'
        archive.write_bytes(data)
        target.mkdir(parents=True)
        attempt(lambda: unpack(archive, target), archive, target)
        inside = [path for path in root.rglob('*') if path.is_relative_to(target)]
        outside = {path.relative_to(root).as_posix() for path in root.rglob('*')} - {
            path.relative_to(root).as_posix() for path in inside
        }
        assert outside == {'archive.zip', 'deep', 'deep/er'}
        assert all(not path.is_symlink() and (path.is_file() or path.is_dir()) for path in inside)
        return [path for path in inside if path.is_file()]


@given(members)
@example([('a.txt', 0), ('../evil', 0)])
@example([('a.txt', 0), ('val/../../evil', 0)])
@example([('a.txt', 0), ('/evil', 0)])
@example([('a.txt', 0), ('..\\evil', 0)])
@example([('a.txt', 0), ('C:evil', 0)])
@example([('a.txt', 0), ('link', stat.S_IFLNK)])
def test_fuzz_members_of_archives(entries):
    written = unpack_in_a_folder(pack(entries))
    if any(kind not in (0, stat.S_IFREG, stat.S_IFDIR) or 'evil' in name for name, kind in entries):
        assert not written


def test_a_member_without_a_name_is_refused():
    data = bytearray(pack([('ab', 0)]))
    for start, at in ((b'PK\3\4', 26), (b'PK\1\2', 28)):  # length of the name, then of what follows
        place = data.index(start) + at
        data[place : place + 4] = struct.pack('<HH', 0, 2)
    assert zipfile.ZipFile(io.BytesIO(data)).namelist() == ['']
    assert unpack_in_a_folder(bytes(data)) == []


PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@given(st.sampled_from(PACKED).flatmap(lambda way: broken_bytes(pack([('a', 0), ('b', 0)], way))))
def test_fuzz_bytes_of_archives(data):
    unpack_in_a_folder(data)


def test_corrupt_lzma_is_refused():
    data = bytearray(pack([('a', 0)], zipfile.ZIP_LZMA))
    data[40:48] = b'\xff' * 8  # in the packed content
    unpack_in_a_folder(bytes(data))  # one line, where it would be an error of lzma's
